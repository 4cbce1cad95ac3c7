/* SPDX-License-Identifier: Apache-2.0 */
#include "run/replay.h"

#include "input/batch_arrays.h"
#include "run/host_memory.h"
#include "run/lineup.h"

#include <stdlib.h>

enum { DEFAULT_CACHE_BYTES = 1 << 30, DEFAULT_MAX_BATCH = 128 };

/* ---- before the first step ---- */

static double page_bytes(const batch_spec *spec) {
    double element_bytes = (double)pod_dtype_size(batch_spec_kv_dtype(spec));
    return 2.0 * spec->page_size * spec->kv_heads * spec->head_dim * element_bytes;
}

/** As many pages as all requests need together, but not more than the default size, unless one request needs them. */
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
static cli_exit drop_too_long(replay *replay, int64_t num_pages, cli_error *error) {
    trace *trace = replay->trace;
    int32_t page_size = replay->options.spec->page_size, kept = 0;
    for (int32_t i = 0; i < trace->num_requests; i++) {
        int32_t tokens = scheduler_tokens(&trace->requests[i]);
        if (batch_pages(tokens, page_size) <= num_pages) {
            trace->requests[kept++] = trace->requests[i];
            continue;
        }
        if (!replay->options.skips_too_long) {
            return cli_fail(error,
                            "%.200s:%d: the request's %d tokens do not fit a KV cache of %lld tokens; raise "
                            "--kv-tokens or give --skip-too-long",
                            replay->options.trace_name, trace->requests[i].line, tokens,
                            (long long)num_pages * page_size);
        }
    }
    replay->num_skipped = trace->num_requests - kept;
    trace->num_requests = kept;
    if (kept == 0) return cli_fail(error, "no request of the trace fits the KV cache");
    return CLI_OK;
}

static cli_exit configure(replay *replay, cli_error *error) {
    const replay_options *options = &replay->options;
    const batch_spec *spec = replay->options.spec;
    if (spec->page_size == 0) return cli_fail(error, "--contiguous: replay needs pages");
    if (options->max_batch > options->chunk_tokens) {
        return cli_fail(error, "--max-batch %d exceeds --chunk %d: each decode takes a token of the budget",
                        options->max_batch, options->chunk_tokens);
    }
    int32_t max_batch = options->max_batch;
    if (max_batch == 0)
        max_batch = options->chunk_tokens < DEFAULT_MAX_BATCH ? options->chunk_tokens : DEFAULT_MAX_BATCH;
    int64_t num_pages =
        options->kv_tokens > 0 ? options->kv_tokens / spec->page_size : default_pages(spec, replay->trace);
    CLI_TRY(drop_too_long(replay, num_pages, error));
    replay->config =
        (scheduler_config){options->chunk_tokens, max_batch, spec->page_size, (int32_t)num_pages, spec->seed};
    replay->cache_bytes = page_bytes(spec) * (double)num_pages;
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
static cli_exit check_memory(const replay *replay, cli_error *error) {
    size_t workspace_bytes;
    CLI_TRY(planner_bytes(replay->device->device, &replay->limits, &workspace_bytes, error));
    double bytes = tensor_set_bytes(&replay->limits, replay->config.num_pages);
    if (device_memory_is_host(replay->device->memory)) bytes += NUM_CALLS * (double)workspace_bytes;
    bytes += scheduler_bytes(&replay->config, replay->limits.max_kv_len);
    if (replay->options.has_check) bytes += check_reference_bytes(&replay->limits);
    return host_memory_check("the replay", bytes, error);
}

static cli_exit prepare(replay *replay, cli_error *error) {
    int32_t max_tokens = 1;
    CLI_TRY(configure(replay, error));
    for (int32_t i = 0; i < replay->trace->num_requests; i++) {
        int32_t tokens = scheduler_tokens(&replay->trace->requests[i]);
        if (tokens > max_tokens) max_tokens = tokens;
    }
    replay->limits = make_limits(replay->options.spec, &replay->config, max_tokens);
    return CLI_OK;
}

static cli_exit make_scheduler(replay *replay, cli_error *error) {
    const batch_spec *spec = replay->options.spec;
    CLI_TRY(scheduler_make(&replay->config, replay->trace, replay->limits.max_kv_len, &replay->scheduler, error));
    replay->scheduler.mask.causal = spec->causal;
    replay->scheduler.mask.window_tokens = spec->window_tokens;
    return CLI_OK;
}

cli_exit replay_schedule(const replay_options *options, trace *trace, replay *made, cli_error *error) {
    made->options = *options;
    made->trace = trace;
    CLI_TRY(prepare(made, error));
    CLI_TRY(host_memory_check("the replay", scheduler_bytes(&made->config, made->limits.max_kv_len), error));
    return make_scheduler(made, error);
}

cli_exit replay_make(compute_device *device, const replay_options *options, trace *trace, replay *made,
                     cli_error *error) {
    made->options = *options;
    made->device = device;
    made->trace = trace;
    CLI_TRY(prepare(made, error));
    CLI_TRY(check_memory(made, error));
    CLI_TRY(make_scheduler(made, error));
    CLI_TRY(engine_make(device->device, device->memory, &made->limits, &made->engine, error));
    return tensor_set_make(options->spec, &made->limits, made->config.num_pages, device->memory, &made->tensors, error);
}

void replay_free(replay *replay) {
    engine_free(&replay->engine);
    tensor_set_free(&replay->tensors);
    scheduler_free(&replay->scheduler);
}

/* ---- steps ---- */

int replay_next(replay *replay) {
    return scheduler_next(&replay->scheduler);
}

int64_t replay_count_steps(const replay *replay, int64_t max_steps) {
    int64_t count = 0;
    cli_error ignored;
    scheduler scheduler;
    cli_exit code = scheduler_make(&replay->config, replay->trace, replay->limits.max_kv_len, &scheduler, &ignored);
    while (code == CLI_OK && count < max_steps && scheduler_next(&scheduler)) count++;
    scheduler_free(&scheduler);
    return count;
}

/** Fused goes first in every other step, since the next one may find warmer caches. */
static cli_exit time_step(replay *replay, replay_step *step, cli_error *error) {
    static const engine_way orders[][NUM_WAYS] = {{WAY_FUSED, WAY_PREFILL, WAY_DECODE, WAY_SERIAL, WAY_STREAMS},
                                                  {WAY_PREFILL, WAY_DECODE, WAY_FUSED, WAY_SERIAL, WAY_STREAMS}};
    const engine_way *order = orders[replay->num_steps % 2];
    double took_us[NUM_WAYS];
    lineup lineup = {.memory = replay->device->memory, .num_variants = NUM_WAYS, .repeat = 1};
    for (int v = 0; v < NUM_WAYS; v++) {
        lineup.variants[v] =
            (lineup_variant){.engine = &replay->engine, .way = order[v], .layer = replay->tensors.placed};
    }
    cli_exit code = lineup_time(&lineup, error);
    for (int v = 0; v < NUM_WAYS && code == CLI_OK; v++) took_us[order[v]] = lineup.took_us[v];
    free(lineup.took_us);
    if (code != CLI_OK) return code;
    step->fused_us = took_us[WAY_FUSED];
    step->serial_us = took_us[WAY_SERIAL];
    step->streams_us = took_us[WAY_STREAMS];
    step->prefill_us = took_us[WAY_PREFILL];
    step->decode_us = took_us[WAY_DECODE];
    return CLI_OK;
}

cli_exit replay_compute(replay *replay, replay_step *step, cli_error *error) {
    const scheduler *scheduler = &replay->scheduler;
    CLI_TRY(engine_plan(&replay->engine, &scheduler->batch, error));
    *step = (replay_step){.num_requests = scheduler->batch.num_requests,
                          .prefill_tokens = (int32_t)scheduler->prefill_tokens,
                          .decode_tokens = (int32_t)scheduler->decode_tokens,
                          .plan_us = replay->engine.plan_us};
    if (replay->num_steps == 0) CLI_TRY(time_step(replay, step, error)); /* starts threads, touches memory */
    CLI_TRY(time_step(replay, step, error));
    replay->num_steps++;
    return CLI_OK;
}

cli_exit replay_check(replay *replay, pod_errors *errors, cli_error *error) {
    check_reference reference;
    tensor_set *tensors = &replay->tensors;
    CLI_TRY(tensor_set_poison(tensors, error));
    CLI_TRY(engine_run(&replay->engine, WAY_FUSED, &tensors->placed, error));
    CLI_TRY(tensor_set_fetch(tensors, error));
    cli_exit code = check_reference_make(&replay->limits, &replay->scheduler.batch, &tensors->host, &reference, error);
    if (code == CLI_OK) *errors = check_compare(&reference, &tensors->host.tensors);
    check_reference_free(&reference);
    return code;
}
