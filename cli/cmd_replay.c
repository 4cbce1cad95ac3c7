/* SPDX-License-Identifier: Apache-2.0 */
/* podattn replay: a request trace through the scheduler; the attention of every step is computed fused and serial. */
#include "batch_args.h"
#include "batch_arrays.h"
#include "commands.h"
#include "compute_device.h"
#include "engine.h"
#include "file.h"
#include "format.h"
#include "host_memory.h"
#include "number.h"
#include "progress.h"
#include "replay_report.h"
#include "synthetic.h"
#include "tensor_set.h"

#include <stdlib.h>

enum { DEFAULT_CACHE_BYTES = 1 << 30, DEFAULT_MAX_BATCH = 128 };

typedef struct replay_options {
    const char *device;
    const char *synthetic; /**< NULL: the trace is a file */
    int32_t num_requests;
    int32_t chunk_tokens;
    int32_t max_batch; /**< 0: as many as the chunk and the default allow */
    int64_t max_steps;
    int64_t kv_tokens; /**< 0: what the trace needs, within a modest size */
    int32_t check_every;
    int32_t skips_too_long;
    int32_t is_json;
} replay_options;

#define FIELD(field) .offset = offsetof(replay_options, field)

static const cli_option replay_option_rows[] = {
    {"--synthetic", "arxiv|chat", "a made-up trace instead of a file", option_set_text, FIELD(synthetic), 0, 0},
    {"--requests", "N", "requests of a made-up trace (64)", option_set_int32, FIELD(num_requests), 1, 1 << 24},
    {"--chunk", "N", "token budget of a step (512)", option_set_int32, FIELD(chunk_tokens), 1, 1 << 20},
    {"--max-batch", "N", "requests that run at once (128, at most --chunk)", option_set_int32, FIELD(max_batch), 1,
     1 << 20},
    {"--steps", "N", "stop after N steps (when all requests are finished)", option_set_int64, FIELD(max_steps), 1,
     NUMBER_MAX},
    {"--kv-tokens", "CAP", "tokens that the KV cache holds (what the trace needs, up to 1 GiB)", option_set_int64,
     FIELD(kv_tokens), 1, INT32_MAX},
    {"--skip-too-long", NULL, "leave requests out that the cache cannot hold", option_set_switch, FIELD(skips_too_long),
     1, 0},
    {"--device", "NAME", "cpu (default), cpu:N with N threads, cuda:N or auto", option_set_text, FIELD(device), 0, 0},
    {"--check", "K", "compare each K-th step and the last with the oracle", option_set_int32, FIELD(check_every), 1,
     INT32_MAX},
    {"--json", NULL, "print JSON, every step included", option_set_switch, FIELD(is_json), 1, 0},
};

/** All that one replay holds. */
typedef struct replay_state {
    const replay_options *options;
    compute_device device;
    trace trace;
    scheduler scheduler;
    pod_limits limits;
    tensor_set tensors;
    engine engine;
    replay_report report;
} replay_state;

/* ---- before the first step ---- */

static cli_exit load_trace(const replay_options *options, const char *path, int64_t seed, trace *trace,
                           cli_error *error) {
    if (options->synthetic != NULL && path != NULL) {
        return cli_fail(error, "both a trace, \"%.64s\", and --synthetic are given", path);
    }
    if (options->synthetic != NULL) {
        return synthetic_make(options->synthetic, options->num_requests, seed, trace, error);
    }
    if (path == NULL) return cli_fail(error, "no TRACE and no --synthetic is given");
    char *data;
    size_t size;
    CLI_TRY(file_read(path, &data, &size, error));
    cli_exit code = trace_parse(data, size, path, trace, error);
    free(data);
    return code;
}

static double page_bytes(const batch_spec *spec) {
    return 2.0 * spec->page_size * spec->kv_heads * spec->head_dim * (double)pod_dtype_size(spec->dtype);
}

/** As many pages as all requests need at once, but not more than the default size, unless one request needs them. */
static int64_t default_pages(const batch_spec *spec, const trace *trace) {
    int64_t all = 0, longest = 0, fit = (int64_t)(DEFAULT_CACHE_BYTES / page_bytes(spec));
    for (int32_t i = 0; i < trace->num_requests; i++) {
        int64_t pages = batch_pages(scheduler_tokens(&trace->requests[i]), spec->page_size);
        all += pages;
        if (pages > longest) longest = pages;
    }
    int64_t pages = all < fit ? all : fit;
    return pages > longest ? pages : longest;
}

/** Refuses or drops requests that the cache can never hold. */
static cli_exit drop_too_long(replay_state *replay, int64_t num_pages, cli_error *error) {
    trace *trace = &replay->trace;
    int32_t page_size = replay->report.spec->page_size, kept = 0;
    for (int32_t i = 0; i < trace->num_requests; i++) {
        int32_t tokens = scheduler_tokens(&trace->requests[i]);
        if (batch_pages(tokens, page_size) <= num_pages) {
            trace->requests[kept++] = trace->requests[i];
            continue;
        }
        if (!replay->options->skips_too_long) {
            return cli_fail(error,
                            "%.200s:%d: the request's %d tokens do not fit a KV cache of %lld tokens; raise "
                            "--kv-tokens or give --skip-too-long",
                            replay->report.trace_name, trace->requests[i].line, tokens,
                            (long long)num_pages * page_size);
        }
    }
    replay->report.num_skipped = trace->num_requests - kept;
    trace->num_requests = kept;
    if (kept == 0) return cli_fail(error, "no request of the trace fits the KV cache");
    return CLI_OK;
}

static cli_exit configure(replay_state *replay, cli_error *error) {
    const replay_options *options = replay->options;
    const batch_spec *spec = replay->report.spec;
    if (spec->page_size == 0) return cli_fail(error, "--contiguous: replay needs pages");
    if (options->max_batch > options->chunk_tokens) {
        return cli_fail(error, "--max-batch %d exceeds --chunk %d: each decode takes a token of the budget",
                        options->max_batch, options->chunk_tokens);
    }
    int32_t max_batch = options->max_batch;
    if (max_batch == 0)
        max_batch = options->chunk_tokens < DEFAULT_MAX_BATCH ? options->chunk_tokens : DEFAULT_MAX_BATCH;
    int64_t num_pages =
        options->kv_tokens > 0 ? options->kv_tokens / spec->page_size : default_pages(spec, &replay->trace);
    CLI_TRY(drop_too_long(replay, num_pages, error));
    replay->report.config =
        (scheduler_config){options->chunk_tokens, max_batch, spec->page_size, (int32_t)num_pages, spec->seed};
    replay->report.cache_bytes = page_bytes(spec) * (double)num_pages;
    return CLI_OK;
}

static pod_limits make_limits(const batch_spec *spec, const scheduler_config *config, int32_t max_tokens) {
    pod_limits limits = batch_spec_limits(spec);
    limits.page_size = config->page_size;
    limits.max_requests = config->max_batch;
    limits.max_q_tokens = config->chunk_tokens;
    limits.max_kv_len = max_tokens;
    return limits;
}

/** Everything is counted before anything is taken. */
static cli_exit check_memory(const replay_state *replay, const scheduler_config *config, cli_error *error) {
    size_t workspace_bytes;
    if (pod_workspace_size(replay->device.device, &replay->limits, &workspace_bytes) != POD_OK)
        return cli_fail_library(error);
    double bytes = tensor_set_bytes(&replay->limits, config->num_pages);
    if (device_memory_is_host(replay->device.memory)) bytes += NUM_CALLS * (double)workspace_bytes;
    bytes += scheduler_bytes(config, replay->limits.max_kv_len);
    if (replay->options->check_every > 0) bytes += check_reference_bytes(&replay->limits);
    return host_memory_check("the replay", bytes, error);
}

static cli_exit set_up(replay_state *replay, cli_error *error) {
    const batch_spec *spec = replay->report.spec;
    CLI_TRY(configure(replay, error));
    const scheduler_config *config = &replay->report.config;
    int32_t max_tokens = 1;
    for (int32_t i = 0; i < replay->trace.num_requests; i++) {
        int32_t tokens = scheduler_tokens(&replay->trace.requests[i]);
        if (tokens > max_tokens) max_tokens = tokens;
    }
    replay->limits = make_limits(spec, config, max_tokens);
    CLI_TRY(check_memory(replay, config, error));
    CLI_TRY(scheduler_make(config, &replay->trace, max_tokens, &replay->scheduler, error));
    replay->scheduler.batch.causal = spec->causal;
    replay->scheduler.batch.window_tokens = spec->window_tokens;
    CLI_TRY(engine_make(replay->device.device, replay->device.memory, &replay->limits, &replay->engine, error));
    return tensor_set_make(spec, &replay->limits, config->num_pages, replay->device.memory, &replay->tensors, error);
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

/** Fused goes first in every other step. */
static cli_exit time_step(replay_state *replay, replay_step *step, cli_error *error) {
    double took_us[NUM_WAYS];
    int is_fused_first = replay->report.num_steps % 2 == 0;
    CLI_TRY(engine_time_all(&replay->engine, &replay->tensors.placed, is_fused_first, took_us, error));
    step->fused_us = took_us[WAY_FUSED];
    step->serial_us = took_us[WAY_SERIAL];
    step->streams_us = took_us[WAY_STREAMS];
    step->prefill_us = took_us[WAY_PREFILL];
    step->decode_us = took_us[WAY_DECODE];
    return CLI_OK;
}

/** Runs the step once more on poisoned outputs, and only then asks the oracle. */
static cli_exit check_step(replay_state *replay, cli_error *error) {
    double unused_us;
    check_reference reference;
    tensor_set *tensors = &replay->tensors;
    CLI_TRY(tensor_set_poison(tensors, error));
    CLI_TRY(engine_run(&replay->engine, WAY_FUSED, &tensors->placed, &unused_us, error));
    CLI_TRY(tensor_set_fetch(tensors, error));
    cli_exit code = check_reference_make(&replay->limits, &replay->scheduler.batch, &tensors->host, &reference, error);
    if (code == CLI_OK) {
        check_errors errors = check_compare(&reference, &tensors->host);
        replay->report.errors = check_worst(replay->report.errors, errors);
        replay->report.num_checked_steps++;
    }
    check_reference_free(&reference);
    return code;
}

static cli_exit compute_step(replay_state *replay, int is_last, cli_error *error) {
    const scheduler *scheduler = &replay->scheduler;
    replay_report *report = &replay->report;
    CLI_TRY(reserve_step(report, error));
    CLI_TRY(engine_plan(&replay->engine, &scheduler->batch, error));
    replay_step step = {.num_requests = scheduler->batch.num_requests,
                        .prefill_tokens = (int32_t)scheduler->prefill_tokens,
                        .decode_tokens = (int32_t)scheduler->decode_tokens,
                        .plan_us = replay->engine.plan_us};
    if (report->num_steps == 0) CLI_TRY(time_step(replay, &step, error)); /* starts threads, touches memory */
    CLI_TRY(time_step(replay, &step, error));
    report->steps[report->num_steps++] = step;
    int32_t check_every = replay->options->check_every;
    if (check_every > 0 && (is_last || report->num_steps % check_every == 0)) return check_step(replay, error);
    return CLI_OK;
}

static cli_exit compute_steps(replay_state *replay, cli_error *error) {
    int64_t max_steps = replay->options->max_steps;
    progress progress = progress_begin();
    cli_exit code = CLI_OK;
    while (code == CLI_OK && replay->report.num_steps < max_steps && scheduler_next(&replay->scheduler)) {
        progress_update(&progress, "step %s: %d requests, %s of %s finished",
                        format_count(replay->report.num_steps + 1).text, replay->scheduler.batch.num_requests,
                        format_count(replay->scheduler.num_finished).text,
                        format_count(replay->trace.num_requests).text);
        int is_last = scheduler_is_last(&replay->scheduler) || replay->report.num_steps + 1 == max_steps;
        code = compute_step(replay, is_last, error);
    }
    progress_end(&progress);
    return code;
}

/* ---- the command ---- */

static cli_exit replay_trace(replay_state *replay, cli_error *error) {
    replay_report *report = &replay->report;
    CLI_TRY(set_up(replay, error));
    CLI_TRY(compute_steps(replay, error));
    report->num_finished = replay->scheduler.num_finished;
    report->tolerance = check_tolerance(report->spec->dtype);
    report->passes = check_passes(report->errors, report->tolerance);
    CLI_TRY(replay->options->is_json ? replay_report_json(report, stdout, error)
                                     : replay_report_text(report, stdout, error));
    return report->passes ? CLI_OK : CLI_CHECK_FAILED;
}

static cli_exit replay_with_options(const replay_options *options, const char *path, const batch_spec *spec,
                                    cli_error *error) {
    replay_state replay = {.options = options};
    replay.report.spec = spec;
    replay.report.trace = &replay.trace;
    replay.report.trace_name = path != NULL ? path : options->synthetic;
    cli_exit code = load_trace(options, path, spec->seed, &replay.trace, error);
    if (code == CLI_OK) code = compute_device_open(options->device, &replay.device, error);
    if (code == CLI_OK) {
        replay.report.device = replay.device.info;
        replay.report.has_streams = !device_memory_is_host(replay.device.memory);
        code = replay_trace(&replay, error);
        free(replay.report.steps);
        engine_free(&replay.engine);
        tensor_set_free(&replay.tensors);
        scheduler_free(&replay.scheduler);
        compute_device_close(&replay.device);
    }
    trace_free(&replay.trace);
    return code;
}

cli_exit cmd_replay(int argc, char **argv, cli_error *error) {
    batch_spec spec = batch_spec_default();
    spec.page_size = 16;
    replay_options options = {.device = "cpu", .num_requests = 64, .chunk_tokens = 512, .max_steps = NUMBER_MAX};
    const option_group groups[] = {
        {"replay", replay_option_rows, OPTION_COUNT(replay_option_rows), &options},
        batch_args_shape(&spec),
    };
    command_line line = {
        .usage = "podattn replay TRACE|--synthetic KIND [--steps N] [--check K] [shape] [--json]",
        .summary = "Runs a request trace through a chunked-prefill scheduler and computes the attention of every step\n"
                   "for one layer, fused and serial, over random data. All requests wait from the beginning; arrival\n"
                   "times in the trace are not looked at.",
        .groups = groups,
        .num_groups = OPTION_COUNT(groups),
        .operand_name = "TRACE",
    };
    CLI_TRY(options_parse(&line, argc, argv, error));
    if (line.wants_help) {
        options_print_help(&line, stdout);
        return CLI_OK;
    }
    return replay_with_options(&options, line.operand, &spec, error);
}
