/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suite_trace.h"

#include "bench/kv_memory.h"
#include "input/synthetic.h"
#include "run/replay.h"

#include <stdlib.h>

enum { PAGE_TOKENS = 16, CPU_CHUNK = 64, CPU_KV_TOKENS = 8192 };

static const char model[] = "llama-3-8b";

/** A trace and how it is scheduled. */
typedef struct trace_case {
    const char *kind; /**< of a synthetic one, or NULL: the file */
    int32_t chunk_tokens;
    int32_t num_steps;
} trace_case;

/** A prompt of the size that a CPU can replay in seconds. */
static void make_small(trace *trace) {
    for (int32_t i = 0; i < trace->num_requests; i++) {
        trace_request *request = &trace->requests[i];
        request->prefill_tokens = request->prefill_tokens / 16 + 1;
        request->decode_tokens = request->decode_tokens / 16 + 1;
    }
}

/** The trace of its own that a replay drops requests from. */
static cli_exit load(const bench *bench, const trace_case *c, trace *trace, cli_error *error) {
    enum { NUM_REQUESTS = 256, SEED = 1 };
    if (c->kind != NULL) return synthetic_make(c->kind, NUM_REQUESTS, SEED, trace, error);
    trace->format = bench->trace.format;
    for (int32_t i = 0; i < bench->trace.num_requests; i++) {
        CLI_TRY(trace_add(trace, bench->trace.requests[i], error));
    }
    return CLI_OK;
}

static int64_t count_kv_tokens(const replay *replay) {
    const pod_batch *batch = &replay->scheduler.batch;
    int64_t tokens = 0;
    for (int32_t r = 0; r < batch->num_requests; r++) tokens += batch->kv_len[r];
    return tokens;
}

static void print_step(const replay *replay, const char *name, const replay_step *step, FILE *file) {
    fprintf(file, "%s;%lld;%d;%d;%d;%lld;%.3f;%.3f;%.3f;", name, (long long)replay->num_steps, step->num_requests,
            step->prefill_tokens, step->decode_tokens, (long long)count_kv_tokens(replay), step->plan_us,
            step->fused_us, step->serial_us);
    if (step->streams_us > 0) fprintf(file, "%.3f", step->streams_us);
    fprintf(file, ";%.3f;%.3f\n", step->prefill_us, step->decode_us);
}

static cli_exit compute_steps(bench *bench, replay *replay, const trace_case *c, const char *name, FILE *file,
                              cli_error *error) {
    while (replay->num_steps < c->num_steps && replay_next(replay)) {
        replay_step step;
        progress_update("trace: %s: step %lld of %d", name, (long long)replay->num_steps + 1, c->num_steps);
        if (bench_is_late(bench, name)) return CLI_OK;
        CLI_TRY(replay_compute(replay, &step, error));
        print_step(replay, name, &step, file);
    }
    return CLI_OK;
}

/** The steps of a case are written together; those that were computed in time are. */
static cli_exit replay_case(bench *bench, const trace_case *c, const char *name, trace *trace, cli_error *error) {
    replay replay = {.num_steps = 0};
    double kv_tokens = CPU_KV_TOKENS;
    batch_spec spec = batch_spec_default();
    spec.page_size = PAGE_TOKENS;
    CLI_TRY(batch_spec_set_model(&spec, "model", model, error));
    if (bench->is_gpu) CLI_TRY(kv_memory_tokens(model, &kv_tokens, error));
    const replay_options options = {.spec = &spec,
                                    .trace_name = name,
                                    .chunk_tokens = c->chunk_tokens,
                                    .kv_tokens = (int64_t)kv_tokens,
                                    .skips_too_long = 1};
    FILE *file = bench_file_begin_case(&bench->file, error);
    if (file == NULL) return CLI_BAD_INPUT;
    cli_exit code = replay_make(&bench->device, &options, trace, &replay, error);
    if (code == CLI_OK) code = compute_steps(bench, &replay, c, name, file, error);
    replay_free(&replay);
    return bench_file_end_case(&bench->file, code, error);
}

static cli_exit run_case(bench *bench, const trace_case *c, cli_error *error) {
    char name[128];
    trace trace = {.num_requests = 0};
    const char *file_name = c->kind == NULL ? strrchr(bench->options->trace, '/') : NULL;
    const char *trace_name = c->kind != NULL ? c->kind : file_name != NULL ? file_name + 1 : bench->options->trace;
    snprintf(name, sizeof name, "%.100s,chunk=%d", trace_name, c->chunk_tokens);
    if (bench_file_has(&bench->file, name) || bench_is_late(bench, name)) return CLI_OK;
    cli_exit code = load(bench, c, &trace, error);
    if (code == CLI_OK && !bench->is_gpu) make_small(&trace);
    if (code == CLI_OK) code = replay_case(bench, c, name, &trace, error);
    trace_free(&trace);
    return code;
}

cli_exit run_trace(bench *bench, cli_error *error) {
    enum { STEPS = 1500, SHORT_STEPS = 400, CPU_STEPS = 24 };
    static const int32_t chunks[] = {512, 1024, 2048};
    static const char *const kinds[] = {"arxiv", "chat"};
    int32_t num_steps = !bench->is_gpu ? CPU_STEPS : bench->is_short ? SHORT_STEPS : STEPS;
    arena_free(&bench->arena); /* the replay has tensors of its own */
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        int has_file = bench->options->trace != NULL;
        if (has_file && k > 0) break;
        for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
            if (bench->is_short && chunks[i] != 1024) continue;
            int32_t chunk = bench->is_gpu ? chunks[i] : CPU_CHUNK;
            const trace_case c = {has_file ? NULL : kinds[k], chunk, num_steps};
            CLI_TRY(run_case(bench, &c, error));
        }
    }
    return CLI_OK;
}
