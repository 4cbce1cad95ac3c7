/* SPDX-License-Identifier: Apache-2.0 */
/* What every step asks for: memory for lengths, ahead of time or now; and what comes free behind it. */
#include "base/status.h"
#include "cache/virtual_cache.h"

/** Of a request that was found to be open. */
static int32_t slot_of(int64_t request) {
    return pod_virtual_page(request);
}

/** Whether a place has no row, or only a part of one, and none is under way. */
static int lacks(const pod_virtual_cache *cache, int32_t slot, int32_t index) {
    const pod_virtual_place *place = pod__virtual_place(cache, slot, index);
    return place->under_way == 0 && !pod__virtual_is_mapped(cache, place);
}

pod_status pod__virtual_expect(pod_virtual_cache *cache, int32_t num_requests, const int64_t *requests,
                               const int32_t *kv_len) {
    int32_t slot = 0;
    pod__virtual_collect(cache);
    for (int32_t i = 0; i < num_requests; i++) {
        POD_TRY(pod__virtual_find(cache, "requests", i, requests[i], &slot));
        if (kv_len[i] < 0) return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is negative", i, kv_len[i]);
    }
    if (cache->config.has_no_thread) return POD_OK;
    for (int32_t i = 0; i < num_requests; i++) {
        slot = slot_of(requests[i]);
        int32_t tokens = kv_len[i] < cache->config.max_kv_len ? kv_len[i] : cache->config.max_kv_len;
        int32_t num_rows = pod__virtual_rows_of(cache, tokens);
        for (int32_t index = cache->slots[slot].ready_rows; index < num_rows; index++) {
            if (lacks(cache, slot, index) && !pod__virtual_map_place(cache, slot, index, POD_VIRTUAL_HINT))
                return POD_OK;
        }
    }
    return POD_OK;
}

/* ---- ensure ---- */

/** The fewest tokens that a request may have: what it shares is not its own to write. */
static int32_t shared_tokens(const pod_virtual_cache *cache, int32_t slot) {
    int64_t num_rows = 0;
    for (int32_t i = 0; i < cache->slots[slot].end_row; i++) {
        const pod_virtual_place *place = pod__virtual_place(cache, slot, i);
        if (place->row != 0 && place->under_way == 0 && cache->rows[place->row].num_refs > 1) num_rows = i + 1;
    }
    return (int32_t)((num_rows * cache->info.page_bytes + cache->info.token_bytes - 1) / cache->info.token_bytes);
}

static pod_status check_length(pod_virtual_cache *cache, int32_t i, int64_t request, int32_t kv_len, int32_t *number) {
    POD_TRY(pod__virtual_find(cache, "requests", i, request, number));
    pod_virtual_slot *slot = &cache->slots[*number];
    if (slot->named_by == cache->num_calls)
        return pod__fail(POD_E_ARGUMENT, "requests[%d] = %lld is named twice", i, (long long)request);
    slot->named_by = cache->num_calls;
    if (kv_len < 0) return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is negative", i, kv_len);
    if (kv_len > cache->config.max_kv_len) {
        return pod__fail(POD_E_LIMIT, "kv_len[%d] = %d exceeds max_kv_len = %d", i, kv_len, cache->config.max_kv_len);
    }
    if (!slot->may_share || kv_len >= slot->kv_len) return POD_OK;
    int32_t least = shared_tokens(cache, *number);
    if (kv_len >= least) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is less than the %d tokens on pages that the request shares", i,
                     kv_len, least);
}

/** Who has the memory, in a line. */
static pod_status fail_no_memory(pod_virtual_cache *cache, int32_t i, int32_t kv_len, int64_t missing_rows) {
    int64_t missing_bytes = missing_rows * cache->info.row_bytes;
    pod_virtual_stats stats;
    pod__virtual_get_stats(cache, &stats);
    int64_t open_bytes = stats.used_bytes + stats.waste_bytes + stats.ahead_bytes;
    return pod__fail(POD_E_NO_MEMORY,
                     "kv_len[%d] = %d needs %lld bytes more: of max_bytes = %lld open requests have %lld, closed ones "
                     "that steps after %lld may read %lld",
                     i, kv_len, (long long)missing_bytes, (long long)cache->config.max_bytes, (long long)open_bytes,
                     (long long)cache->finished_step, (long long)stats.idle_bytes);
}

/** Whether the row that a place has is being taken away: it was asked for before the request was opened. */
static int is_leaving(const pod_virtual_cache *cache, int32_t slot, int32_t index) {
    const pod_virtual_place *place = pod__virtual_place(cache, slot, index);
    if (place->under_way == 0) return 0;
    return pod__virtual_queue_at(&cache->queue, place->under_way)->from == place - cache->places;
}

/** Queues the mapping of a place. What is under way may bring rows: then it waits for that and tries again. */
static int map_needed(pod_virtual_cache *cache, int32_t slot, int32_t index) {
    for (;;) {
        if (pod__virtual_map_place(cache, slot, index, POD_VIRTUAL_NEED)) return 1;
        pod__virtual_drain(cache);
        if (cache->queue.num_collected == pod__virtual_last_operation(cache)) return 0;
        pod__virtual_wait(cache, pod__virtual_last_operation(cache));
    }
}

/** Queues what a request lacks, and tells the last operation that it waits for. */
static pod_status request_rows(pod_virtual_cache *cache, int32_t i, int32_t slot_number, int32_t kv_len,
                               int64_t *last_operation) {
    const pod_virtual_slot *slot = &cache->slots[slot_number];
    for (int32_t index = slot->ready_rows; index < slot->wanted_rows; index++) {
        if (is_leaving(cache, slot_number, index))
            pod__virtual_wait(cache, pod__virtual_place(cache, slot_number, index)->under_way);
        if (lacks(cache, slot_number, index) && !map_needed(cache, slot_number, index))
            return fail_no_memory(cache, i, kv_len, slot->wanted_rows - index);
        int64_t under_way = pod__virtual_place(cache, slot_number, index)->under_way;
        if (under_way > *last_operation) *last_operation = under_way;
    }
    return POD_OK;
}

/** Whether all of it is there now. */
static int has_rows(const pod_virtual_cache *cache, int32_t slot_number) {
    pod_virtual_slot *slot = &cache->slots[slot_number];
    while (slot->ready_rows < slot->wanted_rows &&
           pod__virtual_is_mapped(cache, pod__virtual_place(cache, slot_number, slot->ready_rows)))
        slot->ready_rows++;
    return slot->ready_rows >= slot->wanted_rows;
}

/** Once: `*missing` is the first request that lacks a page afterwards, because the driver refused it. */
static pod_status try_rows(pod_virtual_cache *cache, int32_t num_requests, const int64_t *requests,
                           const int32_t *kv_len, int32_t *missing) {
    int64_t last_operation = 0;
    pod_status status = POD_OK;
    cache->failed.status = POD_OK;
    for (int32_t i = 0; i < num_requests && status == POD_OK; i++) {
        status = request_rows(cache, i, slot_of(requests[i]), kv_len[i], &last_operation);
    }
    if (last_operation > 0) pod__virtual_wait(cache, last_operation);
    POD_TRY(status);
    for (*missing = 0; *missing < num_requests && has_rows(cache, slot_of(requests[*missing]));) (*missing)++;
    return POD_OK;
}

/** At least twice: the first time, what was refused may have been asked for by an earlier call, and be granted now. */
static pod_status ensure_rows(pod_virtual_cache *cache, int32_t num_requests, const int64_t *requests,
                              const int32_t *kv_len) {
    double waited_us = cache->stats.wait_us;
    int32_t missing = num_requests, num_tries = 0;
    pod_status status;
    do {
        status = try_rows(cache, num_requests, requests, kv_len, &missing);
    } while (status == POD_OK && missing < num_requests && (++num_tries < 2 || cache->failed.status == POD_OK));
    cache->stats.num_waits += cache->stats.wait_us > waited_us;
    if (status != POD_OK || missing == num_requests) return status;
    return pod__fail(cache->failed.status, "kv_len[%d] = %d: %s", missing, kv_len[missing], cache->failed.message);
}

/** Now that it cannot fail. */
static void enter_step(pod_virtual_cache *cache, int64_t step, int32_t slot_number, int32_t kv_len) {
    pod_virtual_slot *slot = &cache->slots[slot_number];
    slot->kv_len = kv_len;
    if (slot->wanted_rows > slot->read_rows) slot->read_rows = slot->wanted_rows;
    if (step > slot->last_step) slot->last_step = step;
}

pod_status pod__virtual_ensure(pod_virtual_cache *cache, int64_t step, int32_t num_requests, const int64_t *requests,
                               const int32_t *kv_len) {
    int32_t slot = 0;
    pod__virtual_collect(cache);
    if (step < 0 || step < cache->step) {
        return pod__fail(POD_E_ARGUMENT, "step = %lld is smaller than %lld", (long long)step,
                         (long long)(cache->step < 0 ? 0 : cache->step));
    }
    cache->num_calls++;
    for (int32_t i = 0; i < num_requests; i++) POD_TRY(check_length(cache, i, requests[i], kv_len[i], &slot));
    for (int32_t i = 0; i < num_requests; i++) {
        cache->slots[slot_of(requests[i])].wanted_rows = pod__virtual_rows_of(cache, kv_len[i]);
    }
    pod_status status = ensure_rows(cache, num_requests, requests, kv_len);
    for (int32_t i = 0; i < num_requests; i++) {
        slot = slot_of(requests[i]);
        if (status == POD_OK) enter_step(cache, step, slot, kv_len[i]);
        cache->slots[slot].wanted_rows = 0;
    }
    if (status != POD_OK) return status;
    cache->step = step;
    cache->stats.num_steps++;
    return POD_OK;
}

/* ---- what comes free ---- */

pod_status pod__virtual_finished(pod_virtual_cache *cache, int64_t step) {
    pod__virtual_collect(cache);
    if (step > cache->step) {
        return pod__fail(POD_E_ARGUMENT, "step = %lld cannot have finished: the last that was ensured is %lld",
                         (long long)step, (long long)cache->step);
    }
    if (step > cache->finished_step) cache->finished_step = step;
    if (cache->num_draining > 0) pod__virtual_drain(cache);
    return POD_OK;
}

pod_status pod__virtual_trim(pod_virtual_cache *cache, int64_t bytes, int64_t *freed_bytes) {
    if (freed_bytes != NULL) *freed_bytes = 0;
    if (bytes < 0) return pod__fail(POD_E_ARGUMENT, "bytes = %lld is negative", (long long)bytes);
    pod__virtual_wait(cache, pod__virtual_last_operation(cache));
    pod__virtual_drain(cache);
    pod__virtual_wait(cache, pod__virtual_last_operation(cache));
    int64_t num_before = cache->queue.counts.num_pages;
    int64_t num_rows = bytes / cache->info.row_bytes + (bytes % cache->info.row_bytes != 0);
    pod_status status = POD_OK;
    while (num_rows > 0 && status == POD_OK) {
        int64_t first = pod__virtual_last_operation(cache) + 1, last = first - 1;
        for (; num_rows > 0 && pod__virtual_release_row(cache); num_rows--) last++;
        if (last < first) break;
        pod__virtual_wait(cache, last);
        for (int64_t n = first; n <= last && status == POD_OK; n++) {
            const pod_virtual_operation *operation = pod__virtual_queue_at(&cache->queue, n);
            if (operation->status != POD_OK) status = pod__fail(operation->status, "%s", operation->message);
        }
    }
    if (freed_bytes != NULL) *freed_bytes = (num_before - cache->queue.counts.num_pages) * cache->info.page_bytes;
    return status;
}
