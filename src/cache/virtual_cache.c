/* SPDX-License-Identifier: Apache-2.0 */
/* A virtual cache: its sizes, its address range, its end. */
#include "cache/virtual_cache.h"

#include "base/fork_lock.h"
#include "base/status.h"

#include <stdlib.h>

enum { DEFAULT_PAGE_BYTES = 2 << 20, GROUP_TOKENS = 8 };
#define MOST_ADDRESSES (INT64_C(1) << 46) /* bytes; user programs have 2^47 */

/* ---- all caches, for who asks whether an address is of one ---- */

static pod_virtual_cache *list; /* under the fork lock */

static void add_to_list(pod_virtual_cache *cache) {
    pod__fork_lock();
    cache->next = list;
    list = cache;
    pod__fork_unlock();
}

static void remove_from_list(const pod_virtual_cache *cache) {
    pod__fork_lock();
    pod_virtual_cache **place = &list;
    while (*place != NULL && *place != cache) place = &(*place)->next;
    if (*place != NULL) *place = cache->next;
    pod__fork_unlock();
}

int32_t pod__virtual_find_gpu(const void *address) {
    int32_t gpu = -1;
    pod__fork_lock();
    for (const pod_virtual_cache *cache = list; cache != NULL && gpu < 0; cache = cache->next) {
        const char *begin = cache->info.base, *at = address;
        if (at >= begin && at < begin + cache->info.reserved_bytes) gpu = cache->provider.gpu;
    }
    pod__fork_unlock();
    return gpu;
}

/* ---- sizes ---- */

static pod_status choose_page(const pod_memory_provider *provider, const pod_virtual_config *config,
                              int64_t *page_bytes) {
    int64_t granularity = provider->granularity_bytes;
    *page_bytes = config->page_bytes;
    if (*page_bytes == 0) *page_bytes = (DEFAULT_PAGE_BYTES + granularity - 1) / granularity * granularity;
    if (*page_bytes % granularity == 0 && *page_bytes <= MOST_ADDRESSES) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "page_bytes = %lld is no multiple of the device's %lld bytes, or too large",
                     (long long)config->page_bytes, (long long)granularity);
}

/** No product of these overflows: 2^10 layers, 2^10 heads, 2^8 elements of 2^2 bytes, 2^31 tokens, then checked. */
static pod_status measure(pod_virtual_cache *cache) {
    const pod_virtual_config *config = &cache->config;
    pod_virtual_info *info = &cache->info;
    int is_mega = config->layout == POD_VIRTUAL_MEGA;
    int64_t tokens = ((int64_t)config->max_kv_len + GROUP_TOKENS - 1) / GROUP_TOKENS * GROUP_TOKENS, bytes;
    POD_TRY(choose_page(&cache->provider, config, &info->page_bytes));
    info->granularity_bytes = cache->provider.granularity_bytes;
    info->num_pages = config->max_requests;
    info->num_tensors = is_mega ? 1 : 2 * config->num_layers;
    info->token_bytes = (int64_t)config->kv_heads * config->head_dim * (int64_t)pod_dtype_size(config->kv_dtype);
    if (is_mega) info->token_bytes *= 2 * (int64_t)config->num_layers;
    int is_far = tokens > INT32_MAX;
    is_far |= __builtin_mul_overflow(tokens, info->token_bytes, &bytes);
    is_far |= __builtin_add_overflow(bytes, info->page_bytes - 1, &bytes);
    info->request_bytes = bytes / info->page_bytes * info->page_bytes;
    is_far |= __builtin_mul_overflow(info->request_bytes, (int64_t)config->max_requests, &bytes);
    is_far |= bytes / info->page_bytes >= INT32_MAX; /* places are counted with 32 bits */
    is_far |= __builtin_mul_overflow(bytes, (int64_t)info->num_tensors, &info->reserved_bytes);
    is_far |= __builtin_mul_overflow(info->page_bytes, (int64_t)info->num_tensors, &info->row_bytes);
    if (is_far || info->reserved_bytes > MOST_ADDRESSES) {
        return pod__fail(POD_E_LIMIT,
                         "max_requests = %d of max_kv_len = %d tokens take more addresses than the %lld bytes that "
                         "there are",
                         config->max_requests, config->max_kv_len, (long long)MOST_ADDRESSES);
    }
    info->page_size = (int32_t)tokens;
    cache->places_per_slot = (int32_t)(info->request_bytes / info->page_bytes);
    cache->full_steps = 2 * info->num_tensors;
    return POD_OK;
}

static pod_status limit_rows(pod_virtual_cache *cache) {
    const pod_virtual_info *info = &cache->info;
    int64_t most = (int64_t)cache->config.max_requests * cache->places_per_slot, max_bytes = cache->config.max_bytes;
    if (max_bytes > 0 && max_bytes < info->row_bytes) {
        return pod__fail(POD_E_ARGUMENT,
                         "max_bytes = %lld is less than the %lld bytes of a physical page in each tensor",
                         (long long)max_bytes, (long long)info->row_bytes);
    }
    if (max_bytes > 0 && max_bytes / info->row_bytes < most) most = max_bytes / info->row_bytes;
    cache->max_rows = (int32_t)most;
    if (max_bytes == 0) cache->config.max_bytes = most * info->row_bytes;
    return POD_OK;
}

/* ---- life ---- */

static pod_status allocate_books(pod_virtual_cache *cache) {
    size_t num_rows = 1 + (size_t)cache->max_rows, num_slots = (size_t)cache->config.max_requests;
    cache->slots = calloc(num_slots, sizeof *cache->slots);
    cache->places = calloc(num_slots * (size_t)cache->places_per_slot, sizeof *cache->places);
    cache->rows = calloc(num_rows, sizeof *cache->rows);
    cache->pages = calloc(num_rows * (size_t)cache->info.num_tensors, sizeof *cache->pages);
    if (cache->slots == NULL || cache->places == NULL || cache->rows == NULL || cache->pages == NULL)
        return pod__fail(POD_E_NO_MEMORY, "no memory for the books of a virtual cache of %zu pages", num_rows - 1);
    for (size_t s = 0; s < num_slots; s++) cache->slots[s].last_step = cache->slots[s].earlier_step = -1;
    cache->step = cache->finished_step = -1;
    return POD_OK;
}

static pod_status fill(pod_virtual_cache *cache) {
    POD_TRY(pod__fork_lock_open());
    POD_TRY(measure(cache));
    POD_TRY(limit_rows(cache));
    POD_TRY(allocate_books(cache));
    void *base;
    POD_TRY(cache->provider.call->reserve(cache->provider.context, cache->info.reserved_bytes, cache->info.page_bytes,
                                          &base));
    cache->info.base = base;
    return pod__virtual_queue_start(cache);
}

pod_status pod__virtual_create(const pod_memory_provider *provider, const pod_virtual_config *config,
                               pod_virtual_cache **cache) {
    pod_virtual_cache *made = calloc(1, sizeof *made);
    if (made == NULL) {
        provider->call->close(provider->context);
        return pod__fail(POD_E_NO_MEMORY, "no memory for a virtual cache");
    }
    made->provider = *provider;
    made->config = *config;
    made->info = pod_virtual_info_init();
    made->process = getpid();
    pod_status status = fill(made);
    if (status != POD_OK) {
        pod__virtual_destroy(made);
        return status;
    }
    add_to_list(made);
    *cache = made;
    return POD_OK;
}

/** As far as the driver lets it: what it refuses to give back ends with the process. */
static void give_back(pod_virtual_cache *cache) {
    const pod_memory_functions *call = cache->provider.call;
    void *context = cache->provider.context;
    const pod_virtual_info *info = &cache->info;
    int64_t num_places = (int64_t)cache->config.max_requests * cache->places_per_slot;
    for (int64_t p = 0; p < num_places; p++) {
        for (int32_t t = 0; 2 * t < cache->places[p].steps; t++) {
            call->unmap(context, (char *)info->base + (t * num_places + p) * info->page_bytes, info->page_bytes);
        }
    }
    for (int64_t row = 1; row <= cache->num_born; row++) {
        for (int32_t t = 0; t < cache->rows[row].num_created; t++) {
            call->release(context, info->page_bytes, cache->pages[row * info->num_tensors + t]);
        }
    }
    call->unreserve(context, info->base, info->reserved_bytes);
}

void pod__virtual_destroy(pod_virtual_cache *cache) {
    int is_child = getpid() != cache->process;
    remove_from_list(cache);
    pod__virtual_queue_stop(cache, is_child);
    if (cache->info.base != NULL) {
        if (is_child)
            cache->provider.call->abandon(cache->provider.context, cache->info.base, cache->info.reserved_bytes);
        else
            give_back(cache);
    }
    cache->provider.call->close(cache->provider.context);
    free(cache->slots);
    free(cache->places);
    free(cache->rows);
    free(cache->pages);
    free(cache);
}

void pod__virtual_get_layer(const pod_virtual_cache *cache, int32_t layer, pod_cache *made) {
    const pod_virtual_config *config = &cache->config;
    const pod_virtual_info *info = &cache->info;
    int64_t element_bytes = (int64_t)pod_dtype_size(config->kv_dtype);
    int64_t head_elements = (int64_t)config->kv_heads * config->head_dim;
    /* From one tensor, or one part of a token, to the next. */
    int64_t apart =
        config->layout == POD_VIRTUAL_MEGA ? head_elements * element_bytes : config->max_requests * info->request_bytes;
    made->k = (char *)info->base + 2 * layer * apart;
    made->v = (char *)info->base + (2 * layer + 1) * apart;
    made->k_page_stride = made->v_page_stride = info->request_bytes / element_bytes;
    made->k_token_stride = made->v_token_stride = info->token_bytes / element_bytes;
    made->k_head_stride = made->v_head_stride = config->head_dim;
}
