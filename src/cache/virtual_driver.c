/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"
#include "cache/virtual_cache.h"

#include <stdio.h>
#include <time.h>

static void count(int64_t *counter, int64_t amount) {
    __atomic_store_n(counter, *counter + amount, __ATOMIC_RELAXED); /* one thread writes, the other may look */
}

static void *address_of(const pod_virtual_cache *cache, int32_t place, int32_t tensor) {
    int64_t in_tensor = (int64_t)cache->config.max_requests * cache->places_per_slot;
    return (char *)cache->info.base + (tensor * in_tensor + place) * cache->info.page_bytes;
}

static pod_status create_page(pod_virtual_cache *cache, pod_virtual_row *row, uint64_t *pages) {
    pod_virtual_counts *counts = &cache->queue.counts;
    POD_TRY(cache->provider.call->create(cache->provider.context, cache->info.page_bytes, &pages[row->num_created]));
    row->num_created++;
    count(&counts->num_creates, 1);
    count(&counts->num_pages, 1);
    if (counts->num_pages > counts->most_pages) count(&counts->most_pages, counts->num_pages - counts->most_pages);
    return POD_OK;
}

/** Goes on where an earlier attempt ended. */
static pod_status map_row(pod_virtual_cache *cache, const pod_virtual_operation *operation) {
    const pod_memory_functions *call = cache->provider.call;
    void *context = cache->provider.context;
    pod_virtual_place *place = &cache->places[operation->to];
    pod_virtual_row *row = &cache->rows[operation->row];
    uint64_t *pages = cache->pages + (int64_t)operation->row * cache->info.num_tensors;
    while (place->steps < cache->full_steps) {
        int32_t tensor = place->steps / 2;
        void *address = address_of(cache, operation->to, tensor);
        if (place->steps % 2 != 0) {
            if (call->allow != NULL) POD_TRY(call->allow(context, address, cache->info.page_bytes));
        } else {
            if (row->num_created <= tensor) POD_TRY(create_page(cache, row, pages));
            POD_TRY(call->map(context, address, cache->info.page_bytes, pages[tensor]));
            count(&cache->queue.counts.num_maps, 1);
        }
        place->steps++;
    }
    return POD_OK;
}

static pod_status unmap_row(pod_virtual_cache *cache, int32_t number) {
    pod_virtual_place *place = &cache->places[number];
    while (place->steps > 0) {
        int32_t tensor = (place->steps - 1) / 2;
        POD_TRY(cache->provider.call->unmap(cache->provider.context, address_of(cache, number, tensor),
                                            cache->info.page_bytes));
        count(&cache->queue.counts.num_unmaps, 1);
        place->steps = 2 * tensor;
    }
    return POD_OK;
}

static pod_status release_row(pod_virtual_cache *cache, int32_t number) {
    pod_virtual_row *row = &cache->rows[number];
    const uint64_t *pages = cache->pages + (int64_t)number * cache->info.num_tensors;
    while (row->num_created > 0) {
        POD_TRY(cache->provider.call->release(cache->provider.context, cache->info.page_bytes,
                                              pages[row->num_created - 1]));
        row->num_created--;
        count(&cache->queue.counts.num_releases, 1);
        count(&cache->queue.counts.num_pages, -1);
    }
    return POD_OK;
}

static pod_status carry_out(pod_virtual_cache *cache, const pod_virtual_operation *operation) {
    if (operation->from >= 0) POD_TRY(unmap_row(cache, operation->from));
    if (operation->to >= 0) POD_TRY(map_row(cache, operation));
    if (operation->releases) POD_TRY(release_row(cache, operation->row));
    return POD_OK;
}

void pod__virtual_carry_out(pod_virtual_cache *cache, pod_virtual_operation *operation) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    operation->status = carry_out(cache, operation);
    if (operation->status != POD_OK) snprintf(operation->message, sizeof operation->message, "%s", pod_error_message());
    clock_gettime(CLOCK_MONOTONIC, &end);
    count(&cache->queue.counts.driver_ns, (end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec);
}
