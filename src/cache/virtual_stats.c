/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/virtual_cache.h"

static int64_t look(const int64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/** Whether this is the first place of a row that is counted. */
static int marks(pod_virtual_cache *cache, int32_t row) {
    if (cache->rows[row].mark == cache->last_mark) return 0;
    cache->rows[row].mark = cache->last_mark;
    return 1;
}

static void count_open(pod_virtual_cache *cache, int32_t slot_number, pod_virtual_stats *stats) {
    const pod_virtual_slot *slot = &cache->slots[slot_number];
    int32_t num_needed = pod__virtual_rows_of(cache, slot->kv_len);
    for (int32_t i = 0; i < slot->end_row; i++) {
        const pod_virtual_place *place = pod__virtual_place(cache, slot_number, i);
        if (place->under_way != 0 || place->row == 0) continue;
        int64_t *kind = !marks(cache, place->row) ? &stats->shared_bytes
                        : i < num_needed          ? &stats->waste_bytes /* what is used is taken off below */
                                                  : &stats->ahead_bytes;
        *kind += cache->info.row_bytes;
    }
    stats->used_bytes += slot->kv_len * cache->info.token_bytes * cache->info.num_tensors;
}

static void count_closed(pod_virtual_cache *cache, int32_t slot_number, pod_virtual_stats *stats) {
    for (int32_t i = 0; i < cache->slots[slot_number].end_row; i++) {
        const pod_virtual_place *place = pod__virtual_place(cache, slot_number, i);
        if (place->under_way != 0 || place->row == 0 || !marks(cache, place->row)) continue;
        stats->idle_bytes += cache->info.row_bytes;
    }
}

void pod__virtual_get_stats(pod_virtual_cache *cache, pod_virtual_stats *stats) {
    const pod_virtual_counts *counts = &cache->queue.counts;
    pod__virtual_collect(cache);
    *stats = cache->stats;
    stats->struct_size = sizeof *stats;
    stats->num_open = cache->num_open;
    cache->last_mark++;
    for (int32_t s = 0; s < cache->config.max_requests; s++) {
        if (cache->slots[s].is_open) count_open(cache, s, stats);
    }
    for (int32_t s = 0; s < cache->config.max_requests; s++) {
        if (!cache->slots[s].is_open) count_closed(cache, s, stats);
    }
    for (int32_t row = cache->spare_rows; row != 0; row = cache->rows[row].next) {
        stats->spare_bytes += cache->rows[row].num_created * cache->info.page_bytes;
    }
    stats->used_bytes -= stats->shared_bytes; /* shared pages hold nothing but tokens of both */
    stats->waste_bytes -= stats->used_bytes;
    stats->physical_bytes = look(&counts->num_pages) * cache->info.page_bytes;
    stats->peak_bytes = look(&counts->most_pages) * cache->info.page_bytes;
    stats->num_creates = look(&counts->num_creates);
    stats->num_releases = look(&counts->num_releases);
    stats->num_maps = look(&counts->num_maps);
    stats->num_unmaps = look(&counts->num_unmaps);
    stats->driver_us = (double)look(&counts->driver_ns) * 1e-3;
}
