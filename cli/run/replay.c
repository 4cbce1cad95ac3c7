/* SPDX-License-Identifier: Apache-2.0 */
#include "run/replay.h"

#include "input/batch_arrays.h"
#include "run/host_memory.h"
#include "run/lineup.h"

#include <stdlib.h>

enum { DEFAULT_CACHE_BYTES = 1 << 30, DEFAULT_MAX_BATCH = 128 };

/* ---- before the first step ---- */

static int is_virtual(const replay *replay) {
    return replay->options.cache != REPLAY_PAGED;
}

static pod_virtual_config cache_config(const replay_options *options) {
    pod_virtual_config config = pod_virtual_config_init();
    config.num_layers = options->num_layers;
    config.kv_heads = options->spec->kv_heads;
    config.head_dim = options->spec->head_dim;
    config.kv_dtype = batch_spec_kv_dtype(options->spec);
    config.layout = options->cache == REPLAY_MEGA ? POD_VIRTUAL_MEGA : POD_VIRTUAL_PER_LAYER;
    config.has_no_thread = options->has_no_thread;
    config.page_bytes = options->page_bytes;
    return config;
}

/** What memory is counted in: pages of the pool, or physical ones. */
static int32_t tokens_per_page(const replay_options *options) {
    if (options->cache == REPLAY_PAGED) return options->spec->page_size;
    const pod_virtual_config config = cache_config(options);
    return virtual_memory_page_tokens(&config);
}

/** K and V in all layers. */
static double token_bytes(const replay_options *options) {
    const batch_spec *spec = options->spec;
    double element_bytes = (double)pod_dtype_size(batch_spec_kv_dtype(spec));
    int32_t v_dim = spec->values_in_keys ? 0 : batch_spec_v_head_dim(spec);
    return (double)options->num_layers * spec->kv_heads * (spec->head_dim + v_dim) * element_bytes;
}

/** As many pages as all requests need together, but not more than the default size, unless one request needs them. */
static int64_t default_pages(const replay_options *options, int32_t page_size, const trace *trace) {
    double fits = DEFAULT_CACHE_BYTES * (double)options->num_layers / (page_size * token_bytes(options));
    int64_t all = 0, longest = 0, fit = (int64_t)fits;
    for (int32_t i = 0; i < trace->num_requests; i++) {
        int64_t pages = batch_pages(scheduler_tokens(&trace->requests[i]), page_size);
        all += pages;
        if (pages > longest) longest = pages;
    }
    int64_t pages = all < fit ? all : fit;
    return pages > longest ? pages : longest;
}

/** Refuses or drops requests that the cache can never hold. */
static cli_exit drop_too_long(replay *replay, int32_t page_size, int64_t num_pages, cli_error *error) {
    trace *trace = replay->trace;
    int32_t kept = 0;
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
    if (is_virtual(replay) && (spec->values_in_keys || batch_spec_v_head_dim(spec) != spec->head_dim)) {
        return cli_fail(error, "--v-head-dim, --v-in-k: a virtual cache has keys and values of one width");
    }
    if (options->max_batch > options->chunk_tokens) {
        return cli_fail(error, "--max-batch %d exceeds --chunk %d: each decode takes a token of the budget",
                        options->max_batch, options->chunk_tokens);
    }
    int32_t max_batch = options->max_batch;
    if (max_batch == 0)
        max_batch = options->chunk_tokens < DEFAULT_MAX_BATCH ? options->chunk_tokens : DEFAULT_MAX_BATCH;
    int32_t page_size = tokens_per_page(options);
    int64_t num_pages =
        options->kv_tokens > 0 ? options->kv_tokens / page_size : default_pages(options, page_size, replay->trace);
    CLI_TRY(drop_too_long(replay, page_size, num_pages, error));
    replay->config = (scheduler_config){options->chunk_tokens, max_batch, page_size, (int32_t)num_pages, spec->seed};
    replay->cache_bytes = token_bytes(options) * page_size * (double)num_pages;
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

/** Of the tensors' cache: of a virtual one it is what requests copy their tokens from. */
static int64_t tensor_pages(const replay *replay) {
    return is_virtual(replay) ? 1 : replay->config.num_pages;
}

/** Everything is counted before anything is taken. */
static cli_exit check_memory(const replay *replay, cli_error *error) {
    size_t workspace_bytes;
    CLI_TRY(planner_bytes(replay->device->device, &replay->limits, &workspace_bytes, error));
    double bytes = tensor_set_bytes(replay->options.spec, &replay->limits, tensor_pages(replay));
    if (is_virtual(replay)) bytes += virtual_memory_bytes(&replay->config, replay->max_tokens);
    if (is_virtual(replay) && device_memory_is_host(replay->device->memory)) bytes += replay->cache_bytes;
    if (device_memory_is_host(replay->device->memory)) bytes += NUM_CALLS * (double)workspace_bytes;
    bytes += scheduler_bytes(&replay->config, replay->max_tokens);
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
    replay->max_tokens = max_tokens;
    replay->limits = make_limits(replay->options.spec, &replay->config, max_tokens);
    return CLI_OK;
}

static cli_exit make_scheduler(replay *replay, cli_error *error) {
    const batch_spec *spec = replay->options.spec;
    CLI_TRY(scheduler_make(&replay->config, replay->trace, replay->limits.max_kv_len, &replay->scheduler, error));
    replay->scheduler.mask.causal = spec->causal;
    replay->scheduler.mask.window_tokens = spec->window_tokens;
    replay->scheduler.mask.right_window_tokens = spec->right_window_tokens;
    return CLI_OK;
}

cli_exit replay_schedule(const replay_options *options, trace *trace, replay *made, cli_error *error) {
    made->options = *options;
    made->trace = trace;
    CLI_TRY(prepare(made, error));
    CLI_TRY(host_memory_check("the replay", scheduler_bytes(&made->config, made->limits.max_kv_len), error));
    return make_scheduler(made, error);
}

/** Scales stay. */
static void use_layer(const pod_cache *layer, pod_cache *cache) {
    cache->k = layer->k, cache->v = layer->v;
    cache->k_page_stride = layer->k_page_stride, cache->v_page_stride = layer->v_page_stride;
    cache->k_token_stride = layer->k_token_stride, cache->v_token_stride = layer->v_token_stride;
    cache->k_head_stride = layer->k_head_stride, cache->v_head_stride = layer->v_head_stride;
}

static cli_exit make_virtual(replay *replay, cli_error *error) {
    pod_virtual_config config = cache_config(&replay->options);
    int64_t page_bytes = config.page_bytes > 0 ? config.page_bytes : 2 << 20;
    int64_t row_bytes = config.layout == POD_VIRTUAL_MEGA ? page_bytes : 2 * config.num_layers * page_bytes;
    config.max_bytes = row_bytes * replay->config.num_pages;
    return virtual_memory_make(replay->device->device, &config, &replay->config, replay->trace, replay->max_tokens,
                               &replay->virtual_memory, error);
}

cli_exit replay_make(compute_device *device, const replay_options *options, trace *trace, replay *made,
                     cli_error *error) {
    made->options = *options;
    made->device = device;
    made->trace = trace;
    if (is_virtual(made) && options->has_check && !device_memory_is_host(device->memory)) {
        return cli_fail(error, "--check: with --cache virtual or mega the oracle reads a CPU's memory only");
    }
    CLI_TRY(prepare(made, error));
    if (is_virtual(made)) made->limits.page_size = (made->max_tokens + 7) / 8 * 8; /* as the library has it */
    CLI_TRY(check_memory(made, error));
    CLI_TRY(make_scheduler(made, error));
    if (is_virtual(made)) CLI_TRY(make_virtual(made, error));
    CLI_TRY(engine_make(device->device, device->memory, &made->limits, &made->engine, error));
    tensor_set *tensors = &made->tensors;
    CLI_TRY(tensor_set_make(options->spec, &made->limits, tensor_pages(made), device->memory, tensors, error));
    made->source = tensors->placed.cache;
    if (!is_virtual(made)) return CLI_OK;
    use_layer(&made->virtual_memory.layer, &tensors->placed.cache);
    use_layer(&made->virtual_memory.layer, &tensors->host.cache);
    return CLI_OK;
}

void replay_free(replay *replay) {
    engine_free(&replay->engine);
    tensor_set_free(&replay->tensors);
    virtual_memory_free(&replay->virtual_memory);
    scheduler_free(&replay->scheduler);
}

/* ---- steps ---- */

cli_exit replay_end(replay *replay, replay_step *step, cli_error *error) {
    return is_virtual(replay) ? virtual_memory_end(&replay->virtual_memory, &step->memory.cache_us, error) : CLI_OK;
}

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

/** A pool's pages are taken from the system once; of those, requests have what their lengths need. */
static void count_paged(const replay *replay, step_memory *memory) {
    const scheduler *scheduler = &replay->scheduler;
    double bytes = token_bytes(&replay->options);
    *memory = (step_memory){.physical_bytes = replay->cache_bytes};
    for (int32_t i = 0; i < scheduler->num_running; i++) {
        int32_t kv_len = scheduler->running[i].kv_len, page_size = replay->config.page_size;
        memory->used_bytes += kv_len * bytes;
        memory->waste_bytes += ((double)batch_pages(kv_len, page_size) * page_size - kv_len) * bytes;
    }
}

static cli_exit begin_virtual(replay *replay, step_memory *memory, cli_error *error) {
    virtual_memory *virtual_memory = &replay->virtual_memory;
    pod_virtual_stats stats = pod_virtual_stats_init();
    *memory = (step_memory){.cache_us = 0};
    CLI_TRY(virtual_memory_begin(virtual_memory, &replay->scheduler.batch, &memory->cache_us, error));
    CLI_TRY(virtual_memory_fill(virtual_memory, replay->device->memory, &replay->source, error));
    if (pod_virtual_cache_get_stats(virtual_memory->cache, &stats) != POD_OK) return cli_fail_library(error);
    memory->physical_bytes = (double)stats.physical_bytes;
    memory->used_bytes = (double)stats.used_bytes;
    memory->waste_bytes = (double)stats.waste_bytes;
    return CLI_OK;
}

cli_exit replay_compute(replay *replay, replay_step *step, cli_error *error) {
    const scheduler *scheduler = &replay->scheduler;
    step_memory memory;
    if (is_virtual(replay))
        CLI_TRY(begin_virtual(replay, &memory, error));
    else
        count_paged(replay, &memory);
    CLI_TRY(engine_plan(&replay->engine, &scheduler->batch, error));
    *step = (replay_step){.num_requests = scheduler->batch.num_requests,
                          .prefill_tokens = (int32_t)scheduler->prefill_tokens,
                          .decode_tokens = (int32_t)scheduler->decode_tokens,
                          .plan_us = replay->engine.plan_us};
    if (replay->num_steps == 0) CLI_TRY(time_step(replay, step, error)); /* starts threads, touches memory */
    CLI_TRY(time_step(replay, step, error));
    step->memory = memory;
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
