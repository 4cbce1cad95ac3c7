/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: opened, forked from others, closed. */
#include "base/status.h"
#include "cache/virtual_cache.h"

#include <stdio.h>

static int64_t handle_of(const pod_virtual_cache *cache, int32_t slot) {
    return (int64_t)cache->slots[slot].generation << 32 | slot;
}

pod_status pod__virtual_find(pod_virtual_cache *cache, const char *field, int32_t index, int64_t request,
                             int32_t *slot) {
    char name[64];
    if (index < 0)
        snprintf(name, sizeof name, "%s", field);
    else
        snprintf(name, sizeof name, "%s[%d]", field, index);
    int64_t number = request & INT64_C(0xffffffff), generation = request >> 32;
    if (generation < 1 || number >= cache->config.max_requests || generation > cache->slots[number].generation) {
        return pod__fail(POD_E_ARGUMENT, "%s = %lld is no request of this cache", name, (long long)request);
    }
    if (generation != cache->slots[number].generation || !cache->slots[number].is_open)
        return pod__fail(POD_E_ARGUMENT, "%s = %lld was closed", name, (long long)request);
    *slot = (int32_t)number;
    return POD_OK;
}

/* ---- a place for a request ---- */

/** What stands in the way of taking a closed slot for a request that begins with `num_shared` places of another. */
static int is_free(const pod_virtual_cache *cache, int32_t slot_number, int32_t num_shared) {
    const pod_virtual_slot *slot = &cache->slots[slot_number];
    if (slot->is_open || slot->may_share) return 0;
    if (num_shared == 0 || slot->last_step <= cache->finished_step) return 1;
    for (int32_t i = 0; i < num_shared && i < slot->end_row; i++) {
        if (pod__virtual_place(cache, slot_number, i)->row != 0) return 0; /* a step may read what has to go */
    }
    return 1;
}

/** The closed slot with the most rows, or, if others take their place, with the fewest. -1: none. */
static int32_t choose_slot(const pod_virtual_cache *cache, int32_t num_shared) {
    int32_t chosen = -1;
    for (int32_t s = 0; s < cache->config.max_requests; s++) {
        if (!is_free(cache, s, num_shared)) continue;
        int32_t more = chosen < 0 ? 1 : cache->slots[s].num_rows - cache->slots[chosen].num_rows;
        if (chosen < 0 || (num_shared > 0 ? more < 0 : more > 0)) chosen = s;
    }
    return chosen;
}

static pod_status find_slot(pod_virtual_cache *cache, int32_t num_shared, int32_t *slot) {
    if (cache->num_open == cache->config.max_requests) {
        return pod__fail(POD_E_LIMIT, "max_requests = %d requests are open already", cache->config.max_requests);
    }
    *slot = choose_slot(cache, num_shared);
    if (*slot < 0 && cache->num_draining > 0) { /* what the thread is unmapping may be what is missing */
        pod__virtual_wait(cache, pod__virtual_last_operation(cache));
        pod__virtual_drain(cache);
        pod__virtual_wait(cache, pod__virtual_last_operation(cache));
        pod__virtual_drain(cache);
        *slot = choose_slot(cache, num_shared);
    }
    if (*slot >= 0) return POD_OK;
    return pod__fail(
        POD_E_STATE,
        "pages of all %d closed requests are shared, or to be replaced, and may be read by steps after %lld"
        "; tell pod_virtual_cache_finished() when those have finished",
        cache->config.max_requests - cache->num_open, (long long)cache->finished_step);
}

static void take_slot(pod_virtual_cache *cache, int32_t slot_number) {
    pod_virtual_slot *slot = &cache->slots[slot_number];
    slot->generation = slot->generation == INT32_MAX ? 1 : slot->generation + 1;
    slot->is_open = 1;
    slot->kv_len = slot->read_rows = slot->wanted_rows = 0;
    slot->earlier_step = slot->last_step;
    cache->num_open++;
}

static void leave_slot(pod_virtual_cache *cache, int32_t slot_number) {
    pod_virtual_slot *slot = &cache->slots[slot_number];
    slot->is_open = 0;
    slot->closed_at = ++cache->num_closed;
    cache->num_open--;
    if (!slot->may_share) return;
    cache->num_draining++;
    pod__virtual_drain(cache);
}

pod_status pod__virtual_open(pod_virtual_cache *cache, int64_t *request) {
    int32_t slot = 0;
    pod__virtual_collect(cache);
    POD_TRY(find_slot(cache, 0, &slot));
    cache->stats.num_reused_rows += cache->slots[slot].num_rows;
    take_slot(cache, slot);
    *request = handle_of(cache, slot);
    return POD_OK;
}

pod_status pod__virtual_close(pod_virtual_cache *cache, int64_t request) {
    int32_t slot = 0;
    pod__virtual_collect(cache);
    POD_TRY(pod__virtual_find(cache, "request", -1, request, &slot));
    leave_slot(cache, slot);
    return POD_OK;
}

/* ---- forks ---- */

static void make_room(pod_virtual_cache *cache) {
    if (!pod__virtual_queue_has_room(cache)) pod__virtual_wait(cache, pod__virtual_last_operation(cache));
}

/** Empties the first places of a slot, where nothing is under way. */
static pod_status clear_places(pod_virtual_cache *cache, int32_t slot, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        make_room(cache);
        if (pod__virtual_place(cache, slot, i)->row != 0) pod__virtual_unmap_place(cache, slot, i, 0);
    }
    pod__virtual_wait(cache, pod__virtual_last_operation(cache));
    for (int32_t i = 0; i < count; i++) {
        if (pod__virtual_place(cache, slot, i)->row == 0) continue;
        return pod__fail(POD_E_DEVICE, "the driver does not unmap what an earlier request had in the place of a fork");
    }
    return POD_OK;
}

static pod_status fail_as(const pod_virtual_operation *operation) {
    return pod__fail(operation->status, "%s", operation->message);
}

/** Maps whole pages at both places; as many at a time as the queue holds. */
static pod_status share_pages(pod_virtual_cache *cache, int32_t parent, int32_t child, int32_t count) {
    for (int32_t i = 0; i < count;) {
        int64_t first = pod__virtual_last_operation(cache) + 1;
        while (i < count && pod__virtual_queue_has_room(cache)) {
            pod__virtual_share_place(cache, child, i, pod__virtual_place(cache, parent, i)->row);
            i++;
        }
        int64_t last = pod__virtual_last_operation(cache);
        pod__virtual_wait(cache, last);
        for (int64_t n = first; n <= last; n++) {
            const pod_virtual_operation *operation = pod__virtual_queue_at(&cache->queue, n);
            if (operation->status != POD_OK) return fail_as(operation);
        }
    }
    return POD_OK;
}

/** The page of the prefix's end: the new request gets one of its own, with a copy of the prefix's part. */
static pod_status copy_end(pod_virtual_cache *cache, int32_t parent, int32_t child, int32_t index, int64_t bytes,
                           pod_stream stream) {
    const pod_virtual_info *info = &cache->info;
    const pod_virtual_place *place = pod__virtual_place(cache, child, index);
    if (!pod__virtual_is_mapped(cache, place)) {
        make_room(cache);
        if (!pod__virtual_map_place(cache, child, index, POD_VIRTUAL_NEED)) {
            return pod__fail(POD_E_NO_MEMORY,
                             "the page at the end of a fork's prefix takes %lld bytes more, and max_bytes = %lld are "
                             "in use",
                             (long long)info->row_bytes, (long long)cache->config.max_bytes);
        }
        int64_t operation = pod__virtual_last_operation(cache);
        pod__virtual_wait(cache, operation);
        if (!pod__virtual_is_mapped(cache, place)) return fail_as(pod__virtual_queue_at(&cache->queue, operation));
    }
    int64_t tensor_bytes = cache->config.max_requests * info->request_bytes;
    for (int32_t t = 0; t < info->num_tensors; t++) {
        char *tensor = (char *)info->base + t * tensor_bytes + index * info->page_bytes;
        POD_TRY(cache->provider.call->copy(cache->provider.context, tensor + child * info->request_bytes,
                                           tensor + parent * info->request_bytes, bytes, stream));
    }
    return POD_OK;
}

static pod_status fill_fork(pod_virtual_cache *cache, int32_t parent, int32_t child, int32_t num_tokens,
                            pod_stream stream) {
    int64_t bytes = num_tokens * cache->info.token_bytes, page_bytes = cache->info.page_bytes;
    int32_t num_shared = (int32_t)(bytes / page_bytes);
    pod__virtual_wait(cache, pod__virtual_last_operation(cache)); /* its places may be changing */
    POD_TRY(clear_places(cache, child, num_shared));
    if (num_shared > 0) cache->slots[parent].may_share = cache->slots[child].may_share = 1;
    POD_TRY(share_pages(cache, parent, child, num_shared));
    if (bytes % page_bytes != 0) {
        POD_TRY(copy_end(cache, parent, child, num_shared, bytes % page_bytes, stream));
    }
    cache->slots[child].kv_len = num_tokens;
    return POD_OK;
}

pod_status pod__virtual_fork(pod_virtual_cache *cache, int64_t parent, int32_t num_tokens, pod_stream stream,
                             int64_t *request) {
    int32_t from = 0, to = 0;
    pod__virtual_collect(cache);
    POD_TRY(pod__virtual_find(cache, "parent", -1, parent, &from));
    if (num_tokens < 0 || num_tokens > cache->slots[from].kv_len) {
        return pod__fail(POD_E_ARGUMENT, "num_tokens = %d is not within the parent's %d tokens", num_tokens,
                         cache->slots[from].kv_len);
    }
    POD_TRY(find_slot(cache, (int32_t)(num_tokens * cache->info.token_bytes / cache->info.page_bytes), &to));
    double waited_us = cache->stats.wait_us;
    take_slot(cache, to);
    pod_status status = fill_fork(cache, from, to, num_tokens, stream);
    cache->stats.num_waits += cache->stats.wait_us > waited_us;
    /* A copy is finished when the steps behind it in the stream are. */
    cache->slots[to].read_rows = pod__virtual_rows_of(cache, num_tokens);
    cache->slots[from].last_step = cache->slots[to].last_step = cache->step + 1;
    if (status != POD_OK) {
        leave_slot(cache, to);
        return status;
    }
    *request = handle_of(cache, to);
    return POD_OK;
}
