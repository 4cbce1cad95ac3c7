/* SPDX-License-Identifier: Apache-2.0 */
/* podattn replay: a request trace through the scheduler; the attention of every step is computed fused and serial. */
#include "commands.h"
#include "input/batch_args.h"
#include "input/number.h"
#include "input/synthetic.h"
#include "output/format.h"
#include "output/replay_batches.h"
#include "output/replay_report.h"
#include "run/progress.h"
#include "run/stopwatch.h"

#include <stdlib.h>

typedef struct command_options {
    const char *device;
    const char *synthetic; /**< NULL: the trace is a file */
    int32_t num_requests;
    int32_t chunk_tokens;
    int32_t max_batch; /**< 0: as many as the chunk and the default allow */
    int64_t max_steps;
    int64_t kv_tokens; /**< 0: what the trace needs, within a modest size */
    int32_t check_every;
    int32_t skips_too_long;
    const char *batches_path; /**< NULL: steps are computed */
    int64_t every;            /**< 0: not given */
    const char *cache;
    int32_t num_layers;
    int64_t cache_page_bytes;
    int32_t has_no_thread;
    int32_t is_json;
} command_options;

#define FIELD(field) .offset = offsetof(command_options, field)

static const cli_option replay_option_rows[] = {
    {"--synthetic", "arxiv|chat", "a synthetic trace instead of a file", option_set_text, FIELD(synthetic), 0, 0},
    {"--requests", "N", "requests of a synthetic trace (64)", option_set_int32, FIELD(num_requests), 1, 1 << 24},
    {"--chunk", "N", "token budget of a step (512)", option_set_int32, FIELD(chunk_tokens), 1, 1 << 20},
    {"--max-batch", "N", "requests that run at the same time (128, at most --chunk)", option_set_int32,
     FIELD(max_batch), 1, 1 << 20},
    {"--steps", "N", "stop after N steps (when all requests are finished)", option_set_int64, FIELD(max_steps), 1,
     NUMBER_MAX},
    {"--kv-tokens", "CAP", "tokens that the KV cache holds (what the trace needs, up to 1 GiB)", option_set_int64,
     FIELD(kv_tokens), 1, INT32_MAX},
    {"--skip-too-long", NULL, "leave requests out that the cache cannot hold", option_set_switch, FIELD(skips_too_long),
     1, 0},
    {"--cache", "KIND", "paged (default); virtual: contiguous, pages mapped as it grows; mega: all layers on one page",
     option_set_text, FIELD(cache), 0, 0},
    {"--layers", "N", "layers of the KV cache; one is computed (1)", option_set_int32, FIELD(num_layers), 1, 1024},
    {"--cache-page", "BYTES", "of a physical page of a virtual cache (2097152)", option_set_int64,
     FIELD(cache_page_bytes), 1, INT64_C(1) << 40},
    {"--no-cache-thread", NULL, "map pages only when a step needs them", option_set_switch, FIELD(has_no_thread), 1, 0},
    {"--device", "NAME", "auto (default), cpu, cpu:N with N threads, or cuda:N", option_set_text, FIELD(device), 0, 0},
    {"--check", "K", "compare each K-th step and the last with the oracle", option_set_int32, FIELD(check_every), 1,
     INT32_MAX},
    {"--write-batches", "FILE", "write the steps as a batch file; compute nothing", option_set_text,
     FIELD(batches_path), 0, 0},
    {"--every", "N", "write each N-th step (1)", option_set_int64, FIELD(every), 1, NUMBER_MAX},
    {"--json", NULL, "print JSON, every step included", option_set_switch, FIELD(is_json), 1, 0},
};

/** All that the command holds. */
typedef struct replay_state {
    const command_options *options;
    compute_device device;
    trace trace;
    replay replay;
    replay_report report;
} replay_state;

/* ---- before the first step ---- */

static cli_exit load_trace(const command_options *options, const char *path, int64_t seed, trace *trace,
                           cli_error *error) {
    if (options->synthetic != NULL && path != NULL) {
        return cli_fail(error, "both a trace, \"%.64s\", and --synthetic are given", path);
    }
    if (options->synthetic != NULL) {
        return synthetic_make(options->synthetic, options->num_requests, seed, trace, error);
    }
    if (path == NULL) return cli_fail(error, "no TRACE and no --synthetic is given");
    return file_parse(path, trace_parse, trace, error);
}

/* ---- steps ---- */

static cli_exit reserve_step(replay_report *report, cli_error *error) {
    if (report->num_steps < report->capacity) return CLI_OK;
    int64_t capacity = report->capacity > 0 ? 2 * report->capacity : 256;
    replay_step *grown = realloc(report->steps, (size_t)capacity * sizeof *grown);
    if (grown == NULL) return cli_fail_memory(error);
    report->steps = grown;
    report->capacity = capacity;
    return CLI_OK;
}

static cli_exit check_step(replay_state *state, cli_error *error) {
    pod_errors errors;
    progress_update("step %s: checking", format_count(state->report.num_steps).text);
    CLI_TRY(replay_check(&state->replay, &errors, error));
    state->report.errors = pod__larger_errors(state->report.errors, errors);
    state->report.num_checked_steps++;
    return CLI_OK;
}

static cli_exit compute_step(replay_state *state, int is_last, cli_error *error) {
    replay_report *report = &state->report;
    CLI_TRY(reserve_step(report, error));
    CLI_TRY(replay_compute(&state->replay, &report->steps[report->num_steps], error));
    report->num_steps++;
    int32_t check_every = state->options->check_every;
    if (check_every > 0 && (is_last || report->num_steps % check_every == 0)) CLI_TRY(check_step(state, error));
    return replay_end(&state->replay, &report->steps[report->num_steps - 1], error);
}

static cli_exit compute_steps(replay_state *state, cli_error *error) {
    int64_t max_steps = state->options->max_steps;
    const scheduler *scheduler = &state->replay.scheduler;
    int64_t num_steps = progress_is_shown() ? replay_count_steps(&state->replay, max_steps) : 0;
    double begin_us = stopwatch_us();
    cli_exit code = CLI_OK;
    while (code == CLI_OK && state->report.num_steps < max_steps && replay_next(&state->replay)) {
        progress_update("step %s of %s: requests %d%s", format_count(state->report.num_steps + 1).text,
                        format_count(num_steps).text, scheduler->batch.num_requests,
                        progress_left(begin_us, (double)state->report.num_steps, (double)num_steps).text);
        int is_last = scheduler_is_last(scheduler) || state->report.num_steps + 1 == max_steps;
        code = compute_step(state, is_last, error);
    }
    progress_wipe();
    return code;
}

/* ---- the command ---- */

static cli_exit replay_trace(replay_state *state, const replay_options *options, cli_error *error) {
    replay_report *report = &state->report;
    progress_stage("making tensors");
    CLI_TRY(replay_make(&state->device, options, &state->trace, &state->replay, error));
    CLI_TRY(compute_steps(state, error));
    report->num_skipped = state->replay.num_skipped;
    report->config = state->replay.config;
    report->cache_bytes = state->replay.cache_bytes;
    report->cache = options->cache;
    report->num_layers = options->num_layers;
    report->stats = pod_virtual_stats_init();
    pod_virtual_cache *cache = state->replay.virtual_memory.cache;
    if (cache != NULL && pod_virtual_cache_get_stats(cache, &report->stats) != POD_OK) return cli_fail_library(error);
    report->virtual_info = state->replay.virtual_memory.info;
    report->num_finished = state->replay.scheduler.num_finished;
    report->tolerance = pod__errors_allowed(report->spec->dtype);
    report->passes = pod__errors_within(report->errors, report->tolerance);
    CLI_TRY(state->options->is_json ? replay_report_json(report, stdout, error)
                                    : replay_report_text(report, stdout, error));
    return report->passes ? CLI_OK : CLI_CHECK_FAILED;
}

static cli_exit choose_cache(const command_options *options, replay_cache *cache, cli_error *error) {
    static const char *const names[] = {"paged", "virtual", "mega"};
    for (int kind = REPLAY_PAGED; kind <= REPLAY_MEGA; kind++) {
        if (strcmp(options->cache, names[kind]) == 0) *cache = (replay_cache)kind;
    }
    if (strcmp(options->cache, names[*cache]) != 0) {
        return cli_fail(error, "--cache \"%.32s\" is not paged, virtual or mega", options->cache);
    }
    if (*cache != REPLAY_PAGED && options->batches_path != NULL)
        return cli_fail(error, "--cache %s: --write-batches computes nothing", options->cache);
    if (*cache == REPLAY_PAGED && options->cache_page_bytes > 0)
        return cli_fail(error, "--cache-page needs --cache virtual or mega");
    if (*cache == REPLAY_PAGED && options->has_no_thread)
        return cli_fail(error, "--no-cache-thread needs --cache virtual or mega");
    return CLI_OK;
}

static replay_options choose_options(const replay_state *state) {
    const command_options *options = state->options;
    return (replay_options){.spec = state->report.spec,
                            .trace_name = state->report.trace_name,
                            .chunk_tokens = options->chunk_tokens,
                            .max_batch = options->max_batch,
                            .kv_tokens = options->kv_tokens,
                            .skips_too_long = options->skips_too_long,
                            .num_layers = options->num_layers,
                            .page_bytes = options->cache_page_bytes,
                            .has_no_thread = options->has_no_thread,
                            .has_check = options->check_every > 0};
}

static cli_exit replay_on_device(replay_state *state, const replay_options *options, cli_error *error) {
    CLI_TRY(compute_device_open(state->options->device, &state->device, error));
    state->report.device = state->device.info;
    state->report.has_streams = !device_memory_is_host(state->device.memory);
    cli_exit code = replay_trace(state, options, error);
    free(state->report.steps);
    replay_free(&state->replay);
    compute_device_close(&state->device);
    return code;
}

static cli_exit write_batches(replay_state *state, const replay_options *options, cli_error *error) {
    const command_options *command = state->options;
    replay_batches batches = {.path = command->batches_path,
                              .every = command->every > 0 ? command->every : 1,
                              .max_steps = command->max_steps};
    if (command->check_every > 0) return cli_fail(error, "--check: --write-batches computes nothing");
    cli_exit code = replay_schedule(options, &state->trace, &state->replay, error);
    if (code == CLI_OK) code = replay_batches_write(&state->replay, &batches, error);
    if (code == CLI_OK && command->is_json) replay_batches_json(&batches, stdout);
    if (code == CLI_OK && !command->is_json) replay_batches_text(&batches, stdout);
    replay_free(&state->replay);
    return code;
}

static cli_exit replay_with_options(const command_options *options, const char *path, const batch_spec *spec,
                                    cli_error *error) {
    replay_state state = {.options = options};
    state.report.spec = spec;
    state.report.trace = &state.trace;
    state.report.trace_name = path != NULL ? path : options->synthetic;
    if (options->every > 0 && options->batches_path == NULL) return cli_fail(error, "--every needs --write-batches");
    replay_options chosen = choose_options(&state);
    CLI_TRY(choose_cache(options, &chosen.cache, error));
    cli_exit code = load_trace(options, path, spec->seed, &state.trace, error);
    if (code == CLI_OK) {
        code = options->batches_path != NULL ? write_batches(&state, &chosen, error)
                                             : replay_on_device(&state, &chosen, error);
    }
    trace_free(&state.trace);
    return code;
}

cli_exit cmd_replay(int argc, char **argv, cli_error *error) {
    batch_spec spec = batch_spec_default();
    spec.page_size = 16;
    command_options options = {.device = "auto",
                               .num_requests = 64,
                               .chunk_tokens = 512,
                               .max_steps = NUMBER_MAX,
                               .cache = "paged",
                               .num_layers = 1};
    const option_group groups[] = {
        {"replay", replay_option_rows, OPTION_COUNT(replay_option_rows), &options},
        batch_args_shape(&spec),
    };
    command_line line = {
        .usage = "podattn replay TRACE|--synthetic KIND [--steps N] [--check K] [shape] [--json]",
        .summary = "Runs a request trace through a chunked-prefill scheduler and computes the attention of every step\n"
                   "for one layer, fused and serial, over random data. All requests wait from the beginning; arrival\n"
                   "times in the trace are not looked at.",
        .example = "podattn replay --synthetic chat --requests 12 --steps 100 --check 50",
        .groups = groups,
        .num_groups = OPTION_COUNT(groups),
        .operand_name = "TRACE",
    };
    CLI_TRY(options_parse(&line, argc, argv, error));
    if (line.wants_help) return CLI_OK;
    return replay_with_options(&options, line.operands[0], &spec, error);
}
