/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual cache: arguments are checked here, the rest is in src/cache. */
#include "api/structs.h"
#include "backend/backend.h"
#include "base/status.h"
#include "cache/virtual_cache.h"

enum { MAX_LAYERS = 1024, MAX_HEADS = 1024, MAX_HEAD_DIM = 256, HEAD_DIM_STEP = 8 };

static pod_status check_range(const char *field, int32_t value, int32_t low, int32_t high) {
    if (value >= low && value <= high) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %d is not in [%d, %d]", field, value, low, high);
}

static pod_status check_config(const pod_virtual_config *config) {
    POD_TRY(check_range("num_layers", config->num_layers, 1, MAX_LAYERS));
    POD_TRY(check_range("kv_heads", config->kv_heads, 1, MAX_HEADS));
    POD_TRY(check_range("head_dim", config->head_dim, HEAD_DIM_STEP, MAX_HEAD_DIM));
    if (config->head_dim % HEAD_DIM_STEP != 0)
        return pod__fail(POD_E_ARGUMENT, "head_dim = %d is not a multiple of %d", config->head_dim, HEAD_DIM_STEP);
    if (pod_dtype_size(config->kv_dtype) == 0)
        return pod__fail(POD_E_ARGUMENT, "kv_dtype = %d is no dtype", (int)config->kv_dtype);
    POD_TRY(check_range("max_requests", config->max_requests, 1, INT32_MAX));
    POD_TRY(check_range("max_kv_len", config->max_kv_len, 1, INT32_MAX));
    POD_TRY(check_range("layout", (int32_t)config->layout, POD_VIRTUAL_PER_LAYER, POD_VIRTUAL_MEGA));
    POD_TRY(check_range("has_no_thread", config->has_no_thread, 0, 1));
    if (config->page_bytes < 0)
        return pod__fail(POD_E_ARGUMENT, "page_bytes = %lld is negative", (long long)config->page_bytes);
    if (config->max_bytes < 0)
        return pod__fail(POD_E_ARGUMENT, "max_bytes = %lld is negative", (long long)config->max_bytes);
    return POD_OK;
}

pod_status pod_virtual_cache_create(pod_device *device, const pod_virtual_config *config, pod_virtual_cache **cache) {
    pod_virtual_config filled;
    pod_memory_provider provider;
    if (cache == NULL) return pod__fail(POD_E_ARGUMENT, "cache is NULL");
    *cache = NULL;
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    POD_TRY(pod__take_struct_of(&pod__virtual_config_layouts, "config", config, &filled));
    POD_TRY(check_config(&filled));
    if (device->backend->open_memory == NULL)
        return pod__fail(POD_E_UNSUPPORTED, "this device has no memory for a virtual cache");
    POD_TRY(device->backend->open_memory(device, &provider));
    return pod__virtual_create(&provider, &filled, cache);
}

void pod_virtual_cache_destroy(pod_virtual_cache *cache) {
    if (cache != NULL) pod__virtual_destroy(cache);
}

/** A forked child has no thread to map pages, and pages that are the parent's as well. */
static pod_status check_cache(const pod_virtual_cache *cache) {
    if (cache == NULL) return pod__fail(POD_E_ARGUMENT, "cache is NULL");
    if (cache->process == getpid()) return POD_OK;
    return pod__fail(POD_E_STATE, "the cache was made before this process was forked: here it can only be destroyed");
}

static pod_status check_lists(const pod_virtual_cache *cache, int32_t num_requests, const int64_t *requests,
                              const int32_t *kv_len) {
    POD_TRY(check_cache(cache));
    POD_TRY(check_range("num_requests", num_requests, 0, cache->config.max_requests));
    if (num_requests > 0 && requests == NULL) return pod__fail(POD_E_ARGUMENT, "requests is NULL");
    if (num_requests > 0 && kv_len == NULL) return pod__fail(POD_E_ARGUMENT, "kv_len is NULL");
    return POD_OK;
}

pod_status pod_virtual_cache_get_info(const pod_virtual_cache *cache, pod_virtual_info *info) {
    if (cache == NULL) return pod__fail(POD_E_ARGUMENT, "cache is NULL");
    return pod__give_struct(&pod__virtual_info_layouts, &cache->info, info);
}

pod_status pod_virtual_cache_get_layer(const pod_virtual_cache *cache, int32_t layer, pod_cache *made) {
    if (cache == NULL) return pod__fail(POD_E_ARGUMENT, "cache is NULL");
    POD_TRY(check_range("layer", layer, 0, cache->config.num_layers - 1));
    pod_cache filled = pod_cache_init();
    pod__virtual_get_layer(cache, layer, &filled);
    return pod__give_struct(&pod__cache_layouts, &filled, made);
}

pod_status pod_virtual_cache_open(pod_virtual_cache *cache, int64_t *request) {
    POD_TRY(check_cache(cache));
    if (request == NULL) return pod__fail(POD_E_ARGUMENT, "request is NULL");
    return pod__virtual_open(cache, request);
}

pod_status pod_virtual_cache_fork(pod_virtual_cache *cache, int64_t parent, int32_t num_tokens, pod_stream stream,
                                  int64_t *request) {
    POD_TRY(check_cache(cache));
    if (request == NULL) return pod__fail(POD_E_ARGUMENT, "request is NULL");
    return pod__virtual_fork(cache, parent, num_tokens, stream, request);
}

pod_status pod_virtual_cache_close(pod_virtual_cache *cache, int64_t request) {
    POD_TRY(check_cache(cache));
    return pod__virtual_close(cache, request);
}

pod_status pod_virtual_cache_expect(pod_virtual_cache *cache, int32_t num_requests, const int64_t *requests,
                                    const int32_t *kv_len) {
    POD_TRY(check_lists(cache, num_requests, requests, kv_len));
    return pod__virtual_expect(cache, num_requests, requests, kv_len);
}

pod_status pod_virtual_cache_ensure(pod_virtual_cache *cache, int64_t step, int32_t num_requests,
                                    const int64_t *requests, const int32_t *kv_len) {
    POD_TRY(check_lists(cache, num_requests, requests, kv_len));
    return pod__virtual_ensure(cache, step, num_requests, requests, kv_len);
}

pod_status pod_virtual_cache_finished(pod_virtual_cache *cache, int64_t step) {
    POD_TRY(check_cache(cache));
    return pod__virtual_finished(cache, step);
}

pod_status pod_virtual_cache_trim(pod_virtual_cache *cache, int64_t bytes, int64_t *freed_bytes) {
    POD_TRY(check_cache(cache));
    return pod__virtual_trim(cache, bytes, freed_bytes);
}

pod_status pod_virtual_cache_get_stats(pod_virtual_cache *cache, pod_virtual_stats *stats) {
    pod_virtual_stats made;
    POD_TRY(check_cache(cache));
    pod__virtual_get_stats(cache, &made);
    return pod__give_struct(&pod__virtual_stats_layouts, &made, stats);
}
