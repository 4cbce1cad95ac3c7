/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on a schedule that the planner, every backend and every kernel share, in the subset of C that gcc, clang
 * and nvcc all compile. Where a split piece of work keeps its partial result follows from its place by arithmetic, so
 * there are no lists of things to merge.
 *
 * The including file may define POD_CORE_FN (function specifiers), and POD_CORE_NO_RIGHT_WINDOWS: kernels that no plan
 * with windows to the right is for do without. */
#ifndef POD_SCHEDULE_CORE_H
#define POD_SCHEDULE_CORE_H

#include "schedule/schedule.h"

#ifndef POD_CORE_FN
#ifdef __CUDACC__
#define POD_CORE_FN static __host__ __device__ inline
#else
#define POD_CORE_FN static inline
#endif
#endif

POD_CORE_FN int32_t pod_core_min(int32_t a, int32_t b) {
    return a < b ? a : b;
}

POD_CORE_FN int32_t pod_core_max(int32_t a, int32_t b) {
    return a > b ? a : b;
}

POD_CORE_FN int32_t pod_core_ceil_div(int32_t a, int32_t b) {
    return a / b + (a % b != 0);
}

/** a / b of numbers from 0 up; in 32 bits where they fit, which is several times faster on a GPU. */
POD_CORE_FN int64_t pod_core_div(int64_t a, int64_t b) {
    if (((uint64_t)a | (uint64_t)b) >> 32 == 0) return (int64_t)((uint32_t)a / (uint32_t)b);
    return a / b;
}

/** Beginning of piece `index` when `total` is cut into `count` pieces that differ by at most one: floor(total * index /
 * count). `count` is 32768 at most, so that 32 bits are enough, in which a GPU divides several times faster. */
POD_CORE_FN int32_t pod_core_cut(int32_t total, int32_t count, int32_t index) {
    int32_t each = total / count;
    return each * index + (total - each * count) * index / count;
}

/** Keys [begin, end). */
typedef struct pod_key_range {
    int32_t begin, end;
} pod_key_range;

/** First key that the query at `position` of its context sees through a window (0: there is none). */
POD_CORE_FN int32_t pod_core_window_begin(int32_t window_tokens, int32_t position) {
    return window_tokens > 0 && position >= window_tokens ? position - window_tokens + 1 : 0;
}

/** The first of a request's keys that words of a tree mask tell of; kv_len where they tell of none. */
POD_CORE_FN int32_t pod_core_tree_begin(const pod_request *request) {
    return request->q_len <= POD_TREE_TOKENS ? request->kv_len - request->q_len : request->kv_len;
}

/** Whether a token's word shows a key, the `place`-th of those that words tell of; of earlier ones it says nothing. */
POD_CORE_FN int pod_core_tree_shows(uint64_t word, int32_t place) {
    return place < 0 || (word >> place & 1) != 0;
}

/** The window of two through which more is seen. */
POD_CORE_FN int32_t pod_core_wider_window(int32_t a, int32_t b) {
    return a == 0 || b == 0 ? 0 : pod_core_max(a, b);
}

/** Keys from its own position on that a query sees at most, if not 0. */
POD_CORE_FN int32_t pod_core_right_window(const pod_shape *shape) {
#ifdef POD_CORE_NO_RIGHT_WINDOWS
    (void)shape;
    return 0;
#else
    return shape->right_window_tokens;
#endif
}

/** Keys that any of a request's query tokens [token_begin, token_end) sees. */
POD_CORE_FN pod_key_range pod_core_visible(const pod_shape *shape, const pod_request *request, int32_t token_begin,
                                           int32_t token_end) {
    int32_t first_position = request->kv_len - request->q_len + token_begin;
    int32_t end = request->is_causal ? request->kv_len - request->q_len + token_end : request->kv_len;
    int32_t right = pod_core_right_window(shape); /* up to 2^30, as kv_len */
    if (right > 0) end = pod_core_min(end, request->kv_len - request->q_len + token_end - 1 + right);
    if (end < 0) end = 0;
    pod_key_range keys;
    keys.end = end;
    keys.begin = pod_core_min(pod_core_window_begin(shape->window_tokens, first_position), end);
    return keys;
}

/** KV tiles that query tokens [token_begin, token_end) of a request need: the first one and how many, at least 1. */
POD_CORE_FN void pod_core_token_tiles(const pod_shape *shape, const pod_request *request, int32_t token_begin,
                                      int32_t token_end, int32_t tile_tokens, int32_t *tile_begin, int32_t *num_tiles) {
    pod_key_range keys = pod_core_visible(shape, request, token_begin, token_end);
    *tile_begin = keys.begin / tile_tokens;
    *num_tiles = pod_core_max(1, pod_core_ceil_div(keys.end, tile_tokens) - *tile_begin);
}

/** The same for rows [row_begin, row_end). */
POD_CORE_FN void pod_core_tiles(const pod_shape *shape, const pod_request *request, int32_t row_begin, int32_t row_end,
                                int32_t tile_tokens, int32_t *tile_begin, int32_t *num_tiles) {
    pod_core_token_tiles(shape, request, row_begin / shape->group, pod_core_ceil_div(row_end, shape->group),
                         tile_tokens, tile_begin, num_tiles);
}

/** Rows of a narrow prefill tile, at most: of an even number of KV heads two share a ticket. 0: none is narrow. */
POD_CORE_FN int32_t pod_core_narrow_rows(const pod_tiling *tiling, int32_t kv_heads) {
    return kv_heads % 2 == 0 ? tiling->narrow_rows : 0;
}

/** A piece of prefill work: an entry of the queue for one KV head. */
typedef struct pod_prefill_item {
    pod_prefill_entry entry;
    int32_t kv_head;
    int32_t first_slot; /**< partial slot of part 0; the others follow it. Of split work alone */
} pod_prefill_item;

/** The item of a ticket of the prefill queue; where tickets are for pairs of heads, of which an entry for BOTH has two,
 * that of half `half` of the worker. Where no family pairs heads, `heads_per_ticket` is 1 at compile time; elsewhere it
 * is loaded, and the division does not wait for it. */
POD_CORE_FN pod_prefill_item pod_core_prefill_item(const pod_shape *shape, const pod_schedule *schedule, int32_t ticket,
                                                   int32_t heads_per_ticket, int32_t half) {
    pod_prefill_item item;
    int32_t entry = ticket / shape->kv_heads, head = ticket % shape->kv_heads;
    if (heads_per_ticket > 1) { /* entry and head of ticket * heads_per_ticket */
        int32_t carries = head * heads_per_ticket >= shape->kv_heads;
        entry = entry * heads_per_ticket + carries;
        head = head * heads_per_ticket - carries * shape->kv_heads;
    }
    item.entry = schedule->entries[entry];
    item.kv_head = head;
    if (heads_per_ticket > 1) item.kv_head += item.entry.heads == POD_HEADS_BOTH ? half : item.entry.heads - 1;
    item.first_slot = item.entry.slot + item.kv_head * item.entry.num_parts;
    return item;
}

/** Tickets of the prefill queue. */
POD_CORE_FN int32_t pod_core_num_prefill_tickets(const pod_shape *shape, const pod_schedule_header *header,
                                                 int32_t heads_per_ticket) {
    int32_t tickets = header->num_prefill_entries * shape->kv_heads;
    return heads_per_ticket > 1 ? tickets / 2 : tickets;
}

/** Keys that rows [row_begin, row_end) of a request see within tiles of `tile_tokens` keys. */
POD_CORE_FN pod_key_range pod_core_item_keys(const pod_shape *shape, const pod_request *request, int32_t row_begin,
                                             int32_t row_end, int32_t tile_begin, int32_t num_tiles,
                                             int32_t tile_tokens) {
    pod_key_range keys =
        pod_core_visible(shape, request, row_begin / shape->group, pod_core_ceil_div(row_end, shape->group));
    keys.begin = pod_core_max(keys.begin, tile_begin * tile_tokens);
    keys.end = pod_core_min(keys.end, (tile_begin + num_tiles) * tile_tokens);
    return keys;
}

/** The request that owns `position` on a line of prefix sums [num_requests + 1]; empty requests own nothing. */
POD_CORE_FN int32_t pod_core_find(const int32_t *begin, int32_t num_requests, int32_t position) {
    int32_t low = 0, high = num_requests; /* begin[low] <= position < begin[high] */
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (begin[middle] <= position)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/** First decode tile of a slice. */
POD_CORE_FN int32_t pod_core_slice_begin(const pod_schedule_header *header, int32_t slice) {
    return pod_core_cut(header->num_decode_tiles, header->num_slices, slice);
}

/** The slice that owns a decode tile. */
POD_CORE_FN int32_t pod_core_slice_of(const pod_schedule_header *header, int32_t tile) {
    /* cut(i) <= tile < cut(i + 1), and i is about tile * count / total */
    int32_t slice = (int32_t)((float)tile * (float)header->num_slices / (float)header->num_decode_tiles);
    while (pod_core_slice_begin(header, slice) > tile) slice--;
    while (pod_core_slice_begin(header, slice + 1) <= tile) slice++;
    return slice;
}

/** A run of decode tiles of one request and KV head inside one slice. */
typedef struct pod_decode_item {
    int32_t request;
    int32_t kv_head;
    int32_t tile_begin; /**< first KV tile; keys from tile_begin * decode_tile_tokens */
    int32_t num_tiles;
    int32_t first_slice; /**< first slice that holds a part of this request and head */
    int32_t num_parts;   /**< slices that hold one; 1: whole */
    int32_t part;
} pod_decode_item;

/** The slice that is taken `turn`-th. Where every head has as many slices, they are taken across the heads: those of a
 * token, which are neighbours in memory, are then read at about the same time. */
POD_CORE_FN int32_t pod_core_slice_at(const pod_shape *shape, const pod_schedule_header *header, int32_t turn) {
    int32_t of_head = header->num_slices / shape->kv_heads;
    if (of_head * shape->kv_heads != header->num_slices) return turn;
    return turn % shape->kv_heads * of_head + turn / shape->kv_heads;
}

/** A place on the line: head after head, and in each request after request, tile after tile. */
typedef struct pod_decode_place {
    int32_t kv_head;
    int32_t head_begin; /**< of this head's line */
} pod_decode_place;

POD_CORE_FN pod_decode_place pod_core_decode_place(const pod_shape *shape, const pod_schedule_header *header,
                                                   int32_t position) {
    int32_t head_tiles = header->num_decode_tiles / shape->kv_heads;
    pod_decode_place place = {position / head_tiles, 0};
    place.head_begin = place.kv_head * head_tiles;
    return place;
}

/** The item that begins at `position` on the line, in `request`, and ends with its request and head or with
 * `slice_end`. */
POD_CORE_FN void pod_core_decode_item_of(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule *schedule,
                                         pod_decode_place place, int32_t request, int32_t position, int32_t slice,
                                         int32_t slice_end, pod_decode_item *item) {
    const pod_schedule_header *header = schedule->header;
    int32_t begin = place.head_begin + schedule->decode_begin[request];
    int32_t end = place.head_begin + schedule->decode_begin[request + 1];
    int32_t first_tile, num_tiles;
    const pod_request *lengths = &schedule->requests[request];
    pod_core_tiles(shape, lengths, 0, lengths->q_len * shape->group, tiling->decode_tile_tokens, &first_tile,
                   &num_tiles);
    item->request = request;
    item->kv_head = place.kv_head;
    item->tile_begin = first_tile + (position - begin);
    item->num_tiles = pod_core_min(end, slice_end) - position;
    item->first_slice = pod_core_slice_of(header, begin);
    item->num_parts = pod_core_slice_of(header, end - 1) - item->first_slice + 1;
    item->part = slice - item->first_slice;
}

/** The same for the request that owns `position`. */
POD_CORE_FN void pod_core_decode_item(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule *schedule,
                                      int32_t position, int32_t slice, int32_t slice_end, pod_decode_item *item) {
    pod_decode_place place = pod_core_decode_place(shape, schedule->header, position);
    int32_t request =
        pod_core_find(schedule->decode_begin, schedule->header->num_requests, position - place.head_begin);
    pod_core_decode_item_of(shape, tiling, schedule, place, request, position, slice, slice_end, item);
}

/** Partial slot of a part of a split decode item. A slice cuts at most two: the one that it continues (slot 2s) and the
 * one that continues behind it (slot 2s + 1). */
POD_CORE_FN int32_t pod_core_decode_slot(const pod_decode_item *item, int32_t part) {
    int32_t slice = item->first_slice + part;
    return 2 * slice + (part == 0);
}

#endif
