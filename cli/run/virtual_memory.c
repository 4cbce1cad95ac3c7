/* SPDX-License-Identifier: Apache-2.0 */
#include "run/virtual_memory.h"

#include "run/stopwatch.h"

#include <stdlib.h>

enum { DEFAULT_PAGE_BYTES = 2 << 20 };

static int64_t token_bytes(const pod_virtual_config *config) {
    int64_t bytes = (int64_t)config->kv_heads * config->head_dim * (int64_t)pod_dtype_size(config->kv_dtype);
    return config->layout == POD_VIRTUAL_MEGA ? 2 * config->num_layers * bytes : bytes;
}

int32_t virtual_memory_page_tokens(const pod_virtual_config *config) {
    int64_t page_bytes = config->page_bytes > 0 ? config->page_bytes : DEFAULT_PAGE_BYTES;
    int64_t tokens = page_bytes / token_bytes(config);
    return tokens < 1 ? 1 : tokens > INT32_MAX ? INT32_MAX : (int32_t)tokens;
}

/* ---- memory ---- */

static int make_step(virtual_step *step, size_t max_batch) {
    step->requests = malloc(max_batch * sizeof *step->requests);
    step->closing = malloc(max_batch * sizeof *step->closing);
    step->kv_len = malloc(max_batch * sizeof *step->kv_len);
    step->q_len = malloc(max_batch * sizeof *step->q_len);
    return step->requests != NULL && step->closing != NULL && step->kv_len != NULL && step->q_len != NULL;
}

static void free_step(virtual_step *step) {
    free(step->requests);
    free(step->closing);
    free(step->kv_len);
    free(step->q_len);
}

double virtual_memory_bytes(const scheduler_config *schedule, int32_t max_tokens) {
    double per_request = sizeof(int64_t) + sizeof(int32_t) + 2 * (2 * sizeof(int64_t) + 2 * sizeof(int32_t));
    return scheduler_bytes(schedule, max_tokens) + per_request * schedule->max_batch;
}

/** What the next step is asked for: its requests opened, and those that end with it. */
static cli_exit form_next(virtual_memory *memory, cli_error *error) {
    virtual_step *next = &memory->next;
    const scheduler *ahead = &memory->ahead;
    next->num_requests = next->num_closing = 0;
    if (!scheduler_next(&memory->ahead)) return CLI_OK;
    for (int32_t r = 0; r < ahead->batch.num_requests; r++) {
        const running_request *running = &ahead->running[ahead->order[r]];
        int64_t *handle = &memory->handles[(running->pages - ahead->slots) / ahead->max_pages];
        if (*handle == 0 && pod_virtual_cache_open(memory->cache, handle) != POD_OK) return cli_fail_library(error);
        next->requests[r] = *handle;
        next->kv_len[r] = running->kv_len;
        next->q_len[r] = running->q_len;
        next->num_requests++;
        if (!scheduler_is_finished(running)) continue;
        next->closing[next->num_closing++] = *handle;
        *handle = 0;
    }
    return CLI_OK;
}

cli_exit virtual_memory_make(pod_device *device, const pod_virtual_config *config, const scheduler_config *schedule,
                             const trace *trace, int32_t max_tokens, virtual_memory *made, cli_error *error) {
    pod_virtual_config filled = *config;
    size_t max_batch = (size_t)schedule->max_batch;
    filled.max_requests = 2 * schedule->max_batch;
    filled.max_kv_len = max_tokens;
    made->info = pod_virtual_info_init();
    made->layer = pod_cache_init();
    made->num_layers = config->num_layers;
    CLI_TRY(scheduler_make(schedule, trace, max_tokens, &made->ahead, error));
    made->handles = calloc(max_batch, sizeof *made->handles);
    made->pages = malloc(max_batch * sizeof *made->pages);
    if (made->handles == NULL || made->pages == NULL || !make_step(&made->now, max_batch) ||
        !make_step(&made->next, max_batch))
        return cli_fail_memory(error);
    if (pod_virtual_cache_create(device, &filled, &made->cache) != POD_OK ||
        pod_virtual_cache_get_info(made->cache, &made->info) != POD_OK ||
        pod_virtual_cache_get_layer(made->cache, 0, &made->layer) != POD_OK)
        return cli_fail_library(error);
    return form_next(made, error);
}

void virtual_memory_free(virtual_memory *memory) {
    pod_virtual_cache_destroy(memory->cache);
    scheduler_free(&memory->ahead);
    free_step(&memory->now);
    free_step(&memory->next);
    free(memory->handles);
    free(memory->pages);
}

/* ---- steps ---- */

cli_exit virtual_memory_begin(virtual_memory *memory, pod_batch *batch, double *took_us, cli_error *error) {
    virtual_step now = memory->next;
    memory->next = memory->now;
    memory->now = now;
    double begin_us = stopwatch_us();
    pod_status status =
        pod_virtual_cache_ensure(memory->cache, memory->num_steps++, now.num_requests, now.requests, now.kv_len);
    *took_us = stopwatch_us() - begin_us;
    if (status != POD_OK) return cli_fail_library(error);
    for (int32_t r = 0; r < now.num_requests; r++) memory->pages[r] = pod_virtual_page(now.requests[r]);
    batch->page_table = memory->pages;
    batch->page_table_stride = batch->max_pages = 1;
    batch->num_pages = memory->info.num_pages;
    CLI_TRY(form_next(memory, error));
    begin_us = stopwatch_us();
    status =
        pod_virtual_cache_expect(memory->cache, memory->next.num_requests, memory->next.requests, memory->next.kv_len);
    *took_us += stopwatch_us() - begin_us;
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}

/** Of K or of V; token by token where other parts of a token are between. */
static cli_exit copy_tokens(const virtual_memory *memory, device_memory *device, void *to, const void *from,
                            int32_t count, cli_error *error) {
    int64_t from_bytes = memory->info.token_bytes, to_bytes = memory->info.token_bytes;
    if (memory->info.num_tensors == 1) from_bytes /= 2 * memory->num_layers;
    if (from_bytes == to_bytes) return device_memory_copy(device, to, from, (size_t)(count * to_bytes), error);
    for (int32_t t = 0; t < count; t++) {
        CLI_TRY(device_memory_copy(device, (char *)to + t * to_bytes, (const char *)from + t * from_bytes,
                                   (size_t)from_bytes, error));
    }
    return CLI_OK;
}

cli_exit virtual_memory_fill(virtual_memory *memory, device_memory *device, const pod_cache *source, cli_error *error) {
    const virtual_step *now = &memory->now;
    const pod_cache *c = &memory->layer;
    int64_t element_bytes = memory->info.token_bytes / c->k_token_stride;
    int64_t packed_bytes = memory->info.token_bytes / (memory->info.num_tensors == 1 ? 2 * memory->num_layers : 1);
    for (int32_t r = 0; r < now->num_requests; r++) {
        int32_t first = now->kv_len[r] - now->q_len[r];
        int64_t offset =
            (pod_virtual_page(now->requests[r]) * c->k_page_stride + first * c->k_token_stride) * element_bytes;
        CLI_TRY(copy_tokens(memory, device, (char *)c->k + offset, (const char *)source->k + first * packed_bytes,
                            now->q_len[r], error));
        CLI_TRY(copy_tokens(memory, device, (char *)c->v + offset, (const char *)source->v + first * packed_bytes,
                            now->q_len[r], error));
    }
    return CLI_OK;
}

cli_exit virtual_memory_end(virtual_memory *memory, double *took_us, cli_error *error) {
    double begin_us = stopwatch_us();
    pod_status status = pod_virtual_cache_finished(memory->cache, memory->num_steps - 1);
    for (int32_t i = 0; i < memory->now.num_closing && status == POD_OK; i++) {
        status = pod_virtual_cache_close(memory->cache, memory->now.closing[i]);
    }
    *took_us += stopwatch_us() - begin_us;
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}
