/* SPDX-License-Identifier: Apache-2.0 */
#include "schedule/soundness.h"

int pod__schedule_has_sound_counts(const pod_shape *shape, const pod_tiling *tiling, const pod_layout *layout,
                                   const pod_schedule_header *header) {
    int32_t slices = header->num_slices, tiles = header->num_decode_tiles, entries = header->num_prefill_entries;
    if (header->num_requests != shape->num_requests || entries < 0 || entries > layout->max_entries) return 0;
    if (header->heads_per_ticket != 1 &&
        (header->heads_per_ticket != 2 || pod_core_narrow_rows(tiling, shape->kv_heads) == 0)) {
        return 0;
    }
    if (slices < 0 || slices > tiling->max_slices || slices > tiles || tiles % shape->kv_heads != 0) return 0;
    return (slices == 0) == (tiles == 0);
}

/** The request's lengths are within the limits, and its decode work is as long as the line says. */
static int is_request_sound(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule *schedule, int32_t r) {
    const pod_request *request = &schedule->requests[r];
    int32_t most = shape->max_q_tokens, first, tiles = 0;
    if (request->q_begin < 0 || request->q_begin > most) return 0;
    if (request->q_len < 0 || request->q_len > most - request->q_begin) return 0;
    if (request->kv_len < 0 || request->kv_len > shape->max_kv_len) return 0;
    if (request->is_causal < 0 || request->is_causal > 1) return 0;
    int32_t rows = request->q_len * shape->group;
    if (rows > 0 && rows <= tiling->decode_rows) {
        pod_core_token_tiles(shape, request, 0, request->q_len, tiling->decode_tile_tokens, &first, &tiles);
    }
    return (int64_t)schedule->decode_begin[r + 1] - schedule->decode_begin[r] == tiles;
}

/** The entry is for such heads as its rows and the queue's tickets ask for. */
static int are_heads_sound(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule_header *header,
                           const pod_prefill_entry *entry, int32_t rows) {
    if (header->heads_per_ticket == 1) return entry->heads == POD_HEADS_ALL;
    if (rows <= pod_core_narrow_rows(tiling, shape->kv_heads)) return entry->heads == POD_HEADS_BOTH;
    return entry->heads == POD_HEADS_FIRST || entry->heads == POD_HEADS_SECOND;
}

/** The entry's rows and tiles are its request's, and its parts have slots. */
static int is_entry_sound(const pod_shape *shape, const pod_tiling *tiling, const pod_layout *layout,
                          const pod_schedule *schedule, const pod_prefill_entry *entry) {
    if (entry->request < 0 || entry->request >= shape->num_requests) return 0;
    const pod_request *request = &schedule->requests[entry->request];
    int32_t rows = request->q_len * shape->group, tile_rows = tiling->prefill_tile_rows, first, tiles;
    if (rows <= tiling->decode_rows) return 0;
    if (entry->row_begin < 0 || entry->row_begin >= rows || entry->row_begin % tile_rows != 0) return 0;
    int32_t row_end = rows - entry->row_begin < tile_rows ? rows : entry->row_begin + tile_rows;
    if (!are_heads_sound(shape, tiling, schedule->header, entry, row_end - entry->row_begin)) return 0;
    pod_core_tiles(shape, request, entry->row_begin, row_end, tiling->prefill_tile_tokens, &first, &tiles);
    if (entry->num_tiles < 1 || entry->num_tiles > tiles) return 0;
    if (entry->tile_begin < first || entry->tile_begin - first > tiles - entry->num_tiles) return 0;
    if (entry->num_parts < 1 || entry->part < 0 || entry->part >= entry->num_parts) return 0;
    if (entry->num_parts == 1) return 1;
    int64_t slots = (int64_t)entry->num_parts * shape->kv_heads;
    if (entry->slot < 0 || slots > layout->max_parts - (int64_t)entry->slot) return 0;
    for (int32_t head = 0; schedule->part_counters != NULL && head < shape->kv_heads; head++) {
        if (schedule->part_counters[entry->slot + head * entry->num_parts] != 0) return 0;
    }
    return 1;
}

int pod__schedule_is_sound(const pod_shape *shape, const pod_tiling *tiling, const pod_layout *layout,
                           const pod_schedule *schedule) {
    const pod_schedule_header *header = schedule->header;
    int32_t n = shape->num_requests;
    if (schedule->decode_begin[0] != 0) return 0;
    for (int32_t r = 0; r < n; r++) {
        if (!is_request_sound(shape, tiling, schedule, r)) return 0;
    }
    if ((int64_t)schedule->decode_begin[n] * shape->kv_heads != header->num_decode_tiles) return 0;
    for (int32_t i = 0; i < header->num_prefill_entries; i++) {
        if (!is_entry_sound(shape, tiling, layout, schedule, &schedule->entries[i])) return 0;
    }
    if (schedule->slice_counters == NULL) return 1;
    for (int32_t i = 0; i < header->num_slices; i++) {
        if (schedule->slice_counters[i] != 0) return 0;
    }
    return header->prefill_ticket == 0 && header->decode_ticket == 0;
}

uint64_t pod__schedule_digest(const pod_shape *shape, const pod_schedule *schedule) {
    uint64_t digest = 0xcbf29ce484222325; /* FNV-1a, of words instead of bytes */
    for (int32_t r = 0; r < shape->num_requests; r++) {
        const pod_request *request = &schedule->requests[r];
        const uint64_t words[] = {(uint64_t)(uint32_t)request->q_begin << 32 | (uint32_t)request->q_len,
                                  (uint64_t)(uint32_t)request->kv_len << 32 | (uint32_t)request->is_causal};
        for (int i = 0; i < 2; i++) digest = (digest ^ words[i]) * 0x100000001b3;
    }
    return digest;
}
