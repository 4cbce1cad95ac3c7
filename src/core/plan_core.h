/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's arithmetic, in the subset of C that gcc, clang and nvcc all compile: no allocation, no recursion, every
 * array in the caller's workspace. It is written for a *team* of lanes that run the same code: one lane on the host,
 * one CTA on a GPU. The result does not depend on the number of lanes.
 *
 * What it decides for a batch:
 *   requests        each request's checked lengths and whether it is prefill or decode work
 *   prefill queue   row tile x KV part, longest first; a ticket is an entry and a KV head
 *   decode queue    all KV tiles of all decode work on one line (request, then KV head, then tile), cut into equal
 *                   slices (stream-K); a ticket is a slice
 * Where a split piece of work keeps its partial result follows from its place by arithmetic, so there are no lists of
 * things to merge.
 *
 * The including file may define POD_CORE_FN (function specifiers) and, with POD_CORE_TEAM, its own team (type pod_team,
 * pod_team_sync, pod_team_scan, pod_team_max); by default the team is one lane. */
#ifndef POD_CORE_PLAN_H
#define POD_CORE_PLAN_H

#include <stdint.h>

#ifndef POD_CORE_FN
#ifdef __CUDACC__
#define POD_CORE_FN static __host__ __device__ inline
#else
#define POD_CORE_FN static inline
#endif
#endif

/* ---- what goes in ---- */

/** What the planner has to know of the kernel that will run the plan. */
typedef struct pod_tiling {
    int32_t num_ctas;            /**< workers that take tickets */
    int32_t num_prefill_ctas;    /**< of these, how many prefill has while decode lasts about as long */
    int32_t prefill_tile_rows;   /**< query rows of a prefill tile */
    int32_t prefill_tile_tokens; /**< keys per step of a prefill tile */
    int32_t decode_rows;         /**< a request of at most so many rows is decode work */
    int32_t decode_tile_tokens;  /**< keys per step of decode work */
    int32_t max_slices;          /**< at least num_ctas */
    int32_t min_slice_tiles;     /**< a slice is not made shorter than this once every CTA has one */
    int32_t min_part_tiles;      /**< a part of a split prefill tile is not made shorter than this */
    int32_t max_prefill_waves;   /**< a split may make up to this many times num_ctas items; 1, 2 or 4 */
} pod_tiling;

/** The batch, as the planner sees it. */
typedef struct pod_shape {
    int32_t num_requests;
    int32_t group; /**< query heads per KV head */
    int32_t kv_heads;
    int32_t causal;
    int32_t window_tokens; /**< 0: no window */
    int32_t max_q_tokens;  /**< what a request may reach, for batches that nobody validated before */
    int32_t max_kv_len;
    const int32_t *q_start; /**< [num_requests + 1] */
    const int32_t *kv_len;  /**< [num_requests] */
} pod_shape;

/* ---- what comes out ---- */

/** Cells for tickets per SM, more than any chip has SMs; %smid is taken modulo this. */
#define POD_MAX_SMS 1024

/** Why a request is not computed. */
enum {
    POD_REQUEST_OK = 0,
    POD_REQUEST_Q_START = 1, /**< q_start decreases, leaves [0, max_q_tokens] or overlaps: nothing is written */
    POD_REQUEST_KV_LEN = 2,  /**< kv_len outside [0, max_kv_len], or < q_len if causal: zeros are written */
    POD_REQUEST_PAGE = 3     /**< a page number is out of range: zeros are written */
};

/** One request after checking; 16 bytes, one load. */
typedef struct pod_request {
    int32_t q_begin;
    int32_t q_len;
    int32_t kv_len;
    int32_t error;
} pod_request;

/** A row tile of a prefill request against a range of KV tiles, for every KV head; 32 bytes. */
typedef struct pod_prefill_entry {
    int32_t request;
    int32_t row_begin;
    int32_t tile_begin; /**< first KV tile; keys from tile_begin * prefill_tile_tokens */
    int32_t num_tiles;  /**< at least 1, also where no key is visible */
    int32_t part;
    int32_t num_parts; /**< 1: whole */
    int32_t slot;      /**< head h keeps part p in partial slot `slot + h * num_parts + p` */
    int32_t reserved;
} pod_prefill_entry;

/** First bytes of the workspace. Tickets and counters are left at zero by the kernel when it ends. */
typedef struct pod_schedule_header {
    uint64_t signature; /**< of the limits that this workspace was laid out for */
    int32_t num_requests;
    int32_t num_prefill_entries;
    int32_t num_prefill_slots;
    int32_t num_slices;
    int32_t num_decode_tiles; /**< tiles x KV heads over all decode work */
    int32_t num_prefill_requests;
    int32_t num_decode_requests;
    int32_t first_error;       /**< lowest request with an error, or INT32_MAX */
    int64_t num_prefill_tiles; /**< tiles x KV heads over all prefill work */
    uint32_t prefill_ticket;
    uint32_t decode_ticket;
    uint32_t ctas_done;
    uint32_t reserved;
} pod_schedule_header;

/** Where everything stands in the workspace. */
typedef struct pod_schedule {
    pod_schedule_header *header;
    pod_request *requests;           /**< [num_requests] */
    uint32_t *page_errors;           /**< [num_requests] 0, or 1 + the first bad entry of the page table; GPU only */
    int32_t *decode_begin;           /**< [num_requests + 1] first decode tile of each request on the line */
    int32_t *row_tile_begin;         /**< [num_requests + 1] first prefill row tile of each request; planner's own */
    pod_prefill_entry *entries;      /**< [num_prefill_entries], longest first */
    pod_prefill_entry *entries_temp; /**< planner's own */
    uint32_t *sm_tickets;            /**< [POD_MAX_SMS] CTAs that have arrived on each SM */
    uint32_t *slice_counters;        /**< [max_slices] finished parts of the work that continues behind this slice */
    uint32_t *part_counters;         /**< [max_parts] finished parts, at the first slot of a tile and head */
    float *decode_partial_out;       /**< [2 * max_slices][decode_rows][head_dim] */
    float *decode_partial_sum;       /**< [2 * max_slices][decode_rows][2] max, sum */
    float *prefill_partial_out;      /**< [max_parts][prefill_tile_rows][head_dim] */
    float *prefill_partial_sum;      /**< [max_parts][prefill_tile_rows][2] */
} pod_schedule;

/* ---- the team ---- */

#ifndef POD_CORE_TEAM
typedef struct pod_team {
    int32_t lane, num_lanes;
    int32_t radix_bits; /**< sort digits; num_lanes << radix_bits counters */
    int32_t *digits;    /**< [num_lanes << radix_bits] */
} pod_team;

/** All lanes meet. */
POD_CORE_FN void pod_team_sync(const pod_team *team) {
    (void)team;
}

/** Sum of `value` over the lanes before this one; `*total` over all lanes. Syncs. */
POD_CORE_FN int64_t pod_team_scan(const pod_team *team, int64_t value, int64_t *total) {
    (void)team;
    *total = value;
    return 0;
}

/** Largest `value` of all lanes. Syncs. */
POD_CORE_FN int32_t pod_team_max(const pod_team *team, int32_t value) {
    (void)team;
    return value;
}
#endif

/* ---- arithmetic that planner and kernels share ---- */

POD_CORE_FN int32_t pod_core_min(int32_t a, int32_t b) {
    return a < b ? a : b;
}

POD_CORE_FN int32_t pod_core_max(int32_t a, int32_t b) {
    return a > b ? a : b;
}

POD_CORE_FN int32_t pod_core_ceil_div(int32_t a, int32_t b) {
    return a / b + (a % b != 0);
}

/** Beginning of piece `index` when `total` is cut into `count` pieces that differ by at most one. */
POD_CORE_FN int32_t pod_core_cut(int32_t total, int32_t count, int32_t index) {
    return (int32_t)((int64_t)total * index / count);
}

/** Keys that any of the query tokens [token_begin, token_end) sees: [*kv_begin, *kv_end). */
POD_CORE_FN void pod_core_visible(int32_t q_len, int32_t kv_len, int32_t causal, int32_t window_tokens,
                                  int32_t token_begin, int32_t token_end, int32_t *kv_begin, int32_t *kv_end) {
    int32_t first_position = kv_len - q_len + token_begin;
    int32_t end = causal ? kv_len - q_len + token_end : kv_len;
    int32_t begin = 0;
    if (window_tokens > 0 && first_position >= window_tokens) begin = first_position - window_tokens + 1;
    if (end < 0) end = 0;
    *kv_end = end;
    *kv_begin = pod_core_min(begin, end);
}

/** KV tiles that rows [row_begin, row_end) of a request need: the first one and how many, at least 1. */
POD_CORE_FN void pod_core_tiles(const pod_shape *shape, const pod_request *request, int32_t row_begin, int32_t row_end,
                                int32_t tile_tokens, int32_t *tile_begin, int32_t *num_tiles) {
    int32_t kv_begin, kv_end;
    pod_core_visible(request->q_len, request->kv_len, shape->causal, shape->window_tokens, row_begin / shape->group,
                     pod_core_ceil_div(row_end, shape->group), &kv_begin, &kv_end);
    *tile_begin = kv_begin / tile_tokens;
    *num_tiles = pod_core_max(1, pod_core_ceil_div(kv_end, tile_tokens) - *tile_begin);
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
    /* cut(i) <= tile < cut(i + 1)  <=>  i = ceil((tile + 1) * count / total) - 1 */
    int64_t scaled = ((int64_t)tile + 1) * header->num_slices;
    return (int32_t)((scaled + header->num_decode_tiles - 1) / header->num_decode_tiles) - 1;
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

/** The item that begins at `position` on the line, in `request`, and ends with its request and head or with
 * `slice_end`. */
POD_CORE_FN void pod_core_decode_item_of(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule *schedule,
                                         int32_t request, int32_t position, int32_t slice, int32_t slice_end,
                                         pod_decode_item *item) {
    const pod_schedule_header *header = schedule->header;
    int32_t line_begin = schedule->decode_begin[request];
    int32_t tiles_per_head = (schedule->decode_begin[request + 1] - line_begin) / shape->kv_heads;
    int32_t kv_head = (position - line_begin) / tiles_per_head;
    int32_t head_begin = line_begin + kv_head * tiles_per_head;
    int32_t head_end = head_begin + tiles_per_head;
    int32_t first_tile, num_tiles;
    const pod_request *lengths = &schedule->requests[request];
    pod_core_tiles(shape, lengths, 0, lengths->q_len * shape->group, tiling->decode_tile_tokens, &first_tile,
                   &num_tiles);
    item->request = request;
    item->kv_head = kv_head;
    item->tile_begin = first_tile + (position - head_begin);
    item->num_tiles = pod_core_min(head_end, slice_end) - position;
    item->first_slice = pod_core_slice_of(header, head_begin);
    item->num_parts = pod_core_slice_of(header, head_end - 1) - item->first_slice + 1;
    item->part = slice - item->first_slice;
}

/** The same for the request that owns `position`. */
POD_CORE_FN void pod_core_decode_item(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule *schedule,
                                      int32_t position, int32_t slice, int32_t slice_end, pod_decode_item *item) {
    int32_t request = pod_core_find(schedule->decode_begin, schedule->header->num_requests, position);
    pod_core_decode_item_of(shape, tiling, schedule, request, position, slice, slice_end, item);
}

/** Partial slot of a part of a split decode item. A slice cuts at most two: the one that it continues (slot 2s) and the
 * one that continues behind it (slot 2s + 1). */
POD_CORE_FN int32_t pod_core_decode_slot(const pod_decode_item *item, int32_t part) {
    int32_t slice = item->first_slice + part;
    return 2 * slice + (part == 0);
}

/* ---- planning ---- */

/** A request without tokens, so that nothing is written. */
POD_CORE_FN pod_request pod_core_bad_q_start(void) {
    pod_request request = {0, 0, 0, POD_REQUEST_Q_START};
    return request;
}

/** One request, checked. */
POD_CORE_FN pod_request pod_core_request(const pod_shape *shape, int32_t r) {
    pod_request request = {shape->q_start[r], 0, shape->kv_len[r], POD_REQUEST_OK};
    int32_t q_end = shape->q_start[r + 1];
    if (request.q_begin < 0 || q_end < request.q_begin || q_end > shape->max_q_tokens) return pod_core_bad_q_start();
    request.q_len = q_end - request.q_begin;
    int32_t shortest = shape->causal ? request.q_len : 0;
    if (request.kv_len < shortest || request.kv_len > shape->max_kv_len) {
        request.kv_len = 0;
        request.error = POD_REQUEST_KV_LEN;
    }
    return request;
}

/** Parts that a tile of `num_tiles` is cut into when an item is to hold `1 / num_items` of the work: as many as the
 * whole shares that it spans, none shorter than min_part_tiles. All parts of all KV heads together are at most
 * num_items. */
POD_CORE_FN int32_t pod_core_parts(const pod_tiling *tiling, int64_t all_tiles, int32_t num_items, int32_t num_tiles) {
    int64_t parts = (int64_t)num_tiles * num_items / all_tiles;
    if (parts > num_tiles / tiling->min_part_tiles) parts = num_tiles / tiling->min_part_tiles;
    return parts < 1 ? 1 : (int32_t)parts;
}

/** The KV tiles of row tile `index` of all; also its request and first row. */
POD_CORE_FN void pod_core_row_tile(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule *schedule,
                                   int32_t index, int32_t *request_idx, int32_t *row_begin, int32_t *tile_begin,
                                   int32_t *num_tiles) {
    int32_t r = *request_idx;
    while (schedule->row_tile_begin[r + 1] <= index) r++; /* indices come in order: this walks, it does not search */
    const pod_request *request = &schedule->requests[r];
    int32_t rows = request->q_len * shape->group;
    *request_idx = r;
    *row_begin = (index - schedule->row_tile_begin[r]) * tiling->prefill_tile_rows;
    pod_core_tiles(shape, request, *row_begin, pod_core_min(rows, *row_begin + tiling->prefill_tile_rows),
                   tiling->prefill_tile_tokens, tile_begin, num_tiles);
}

/** Stable sort of the entries by num_tiles, longest first: least significant digit first. */
POD_CORE_FN void pod_core_sort(const pod_team *team, const pod_schedule *schedule, int32_t count, int32_t longest) {
    pod_prefill_entry *from = schedule->entries, *to = schedule->entries_temp;
    int32_t num_digits = 1 << team->radix_bits, mask = num_digits - 1, passes = 0;
    int32_t begin = pod_core_cut(count, team->num_lanes, team->lane);
    int32_t end = pod_core_cut(count, team->num_lanes, team->lane + 1);
    for (int32_t shift = 0; shift < 31 && longest >> shift != 0; shift += team->radix_bits, passes++) {
        /* digits[d * num_lanes + lane]: entries of this lane with digit d, largest length first */
        for (int32_t d = 0; d < num_digits; d++) team->digits[d * team->num_lanes + team->lane] = 0;
        for (int32_t i = begin; i < end; i++) {
            int32_t digit = mask - (from[i].num_tiles >> shift & mask);
            team->digits[digit * team->num_lanes + team->lane]++;
        }
        pod_team_sync(team);
        /* Exclusive scan over the whole table: each lane sums its num_digits neighbouring cells. */
        int32_t *cells = team->digits + team->lane * num_digits;
        int64_t sum = 0, total;
        for (int32_t d = 0; d < num_digits; d++) sum += cells[d];
        int64_t offset = pod_team_scan(team, sum, &total);
        for (int32_t d = 0; d < num_digits; d++) {
            int32_t n = cells[d];
            cells[d] = (int32_t)offset;
            offset += n;
        }
        pod_team_sync(team);
        for (int32_t i = begin; i < end; i++) {
            int32_t digit = mask - (from[i].num_tiles >> shift & mask);
            to[team->digits[digit * team->num_lanes + team->lane]++] = from[i];
        }
        pod_team_sync(team);
        pod_prefill_entry *swap = from;
        from = to;
        to = swap;
    }
    if (passes % 2 == 0) return;
    for (int32_t i = begin; i < end; i++) schedule->entries[i] = from[i];
    pod_team_sync(team);
}

/** Step 1: check the requests and put their work on the two lines. */
POD_CORE_FN void pod_core_lines(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                const pod_schedule *schedule) {
    int32_t n = shape->num_requests;
    int32_t begin = pod_core_cut(n, team->num_lanes, team->lane);
    int32_t end = pod_core_cut(n, team->num_lanes, team->lane + 1);
    int64_t decode_tiles = 0, row_tiles = 0, decodes = 0, prefills = 0, q_tokens = 0, totals[4];
    int32_t first_error = INT32_MAX;
    for (int32_t r = begin; r < end; r++) {
        schedule->requests[r] = pod_core_request(shape, r);
        q_tokens += schedule->requests[r].q_len;
    }
    q_tokens = pod_team_scan(team, q_tokens, &totals[0]);
    for (int32_t r = begin; r < end; r++) {
        pod_request request = schedule->requests[r];
        /* A q_start that goes back makes requests overlap; together they might outgrow the workspace. */
        q_tokens += request.q_len;
        if (q_tokens > shape->max_q_tokens && request.q_len > 0) request = pod_core_bad_q_start();
        schedule->requests[r] = request;
        if (request.error != POD_REQUEST_OK && first_error == INT32_MAX) first_error = r;
        int32_t rows = request.q_len * shape->group, first, tiles = 0, row_tile_count = 0;
        if (rows > tiling->decode_rows) {
            row_tile_count = pod_core_ceil_div(rows, tiling->prefill_tile_rows);
            prefills++;
        } else if (rows > 0) {
            pod_core_tiles(shape, &request, 0, rows, tiling->decode_tile_tokens, &first, &tiles);
            tiles *= shape->kv_heads;
            decodes++;
        }
        schedule->decode_begin[r + 1] = tiles;
        schedule->row_tile_begin[r + 1] = row_tile_count;
        decode_tiles += tiles;
        row_tiles += row_tile_count;
    }
    int32_t decode_line = (int32_t)pod_team_scan(team, decode_tiles, &totals[0]);
    int32_t row_tile_line = (int32_t)pod_team_scan(team, row_tiles, &totals[1]);
    pod_team_scan(team, decodes, &totals[2]);
    pod_team_scan(team, prefills, &totals[3]);
    first_error = INT32_MAX - pod_team_max(team, INT32_MAX - first_error);
    if (team->lane == 0) {
        schedule->decode_begin[0] = 0;
        schedule->row_tile_begin[0] = 0;
        schedule->header->num_requests = n;
        schedule->header->num_decode_tiles = (int32_t)totals[0];
        schedule->header->num_decode_requests = (int32_t)totals[2];
        schedule->header->num_prefill_requests = (int32_t)totals[3];
        schedule->header->first_error = first_error;
    }
    for (int32_t r = begin; r < end; r++) {
        decode_line += schedule->decode_begin[r + 1];
        row_tile_line += schedule->row_tile_begin[r + 1];
        schedule->decode_begin[r + 1] = decode_line;
        schedule->row_tile_begin[r + 1] = row_tile_line;
    }
    pod_team_sync(team);
}

/** How many slices the decode line is cut into. */
POD_CORE_FN int32_t pod_core_num_slices(const pod_tiling *tiling, int32_t num_decode_tiles) {
    int32_t slices = num_decode_tiles / tiling->min_slice_tiles;
    slices = pod_core_max(slices, pod_core_min(num_decode_tiles, tiling->num_ctas));
    return pod_core_min(slices, tiling->max_slices);
}

/** Step 2: cut the prefill row tiles into entries and sort them. */
POD_CORE_FN void pod_core_entries(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                  const pod_schedule *schedule) {
    int32_t num_row_tiles = schedule->row_tile_begin[shape->num_requests];
    int32_t begin = pod_core_cut(num_row_tiles, team->num_lanes, team->lane);
    int32_t end = pod_core_cut(num_row_tiles, team->num_lanes, team->lane + 1);
    int32_t first_request = 0, request, row_begin, tile_begin, num_tiles, longest = 0;
    int64_t tiles = 0, all_tiles, items, parts_total;
    if (begin < end) first_request = pod_core_find(schedule->row_tile_begin, shape->num_requests, begin);
    request = first_request;
    for (int32_t i = begin; i < end; i++) {
        pod_core_row_tile(shape, tiling, schedule, i, &request, &row_begin, &tile_begin, &num_tiles);
        tiles += num_tiles;
        longest = pod_core_max(longest, num_tiles);
    }
    pod_team_scan(team, tiles, &all_tiles);
    all_tiles *= shape->kv_heads;
    longest = pod_team_max(team, longest);

    /* A decode tile takes about as long as a prefill tile (1.4 and 1.75 us of an H100's SM). */
    int decode_lasts = 4 * (int64_t)schedule->header->num_decode_tiles > 3 * all_tiles;
    int32_t ctas = decode_lasts ? tiling->num_prefill_ctas : tiling->num_ctas;
    /* Try 1, 2 and 4 items per CTA and keep the split whose busiest CTA ends first, merging counted as one tile. */
    int32_t waves = 1;
    int64_t best_cost = INT64_MAX;
    for (int32_t w = 1; w <= tiling->max_prefill_waves && num_row_tiles > 0; w *= 2) {
        int64_t entries = 0, splits = 0, all_splits;
        int32_t longest_item = 0;
        request = first_request;
        for (int32_t i = begin; i < end; i++) {
            pod_core_row_tile(shape, tiling, schedule, i, &request, &row_begin, &tile_begin, &num_tiles);
            int32_t parts = pod_core_parts(tiling, all_tiles, w * ctas, num_tiles);
            entries += parts;
            if (parts > 1) splits += parts;
            longest_item = pod_core_max(longest_item, pod_core_ceil_div(num_tiles, parts));
        }
        pod_team_scan(team, entries, &items);
        pod_team_scan(team, splits, &all_splits);
        items *= shape->kv_heads;
        all_splits *= shape->kv_heads;
        int64_t rounds = (items + ctas - 1) / ctas;
        int64_t merges = (all_splits + ctas - 1) / ctas;
        int64_t cost = rounds * all_tiles * 16 / items; /* in sixteenths of a tile */
        longest_item = pod_team_max(team, longest_item);
        if (cost < (int64_t)longest_item * 16) cost = (int64_t)longest_item * 16;
        cost += merges * 16;
        if (cost < best_cost) {
            best_cost = cost;
            waves = w;
        }
    }

    int64_t entries = 0, slots = 0;
    request = first_request;
    for (int32_t i = begin; i < end; i++) {
        pod_core_row_tile(shape, tiling, schedule, i, &request, &row_begin, &tile_begin, &num_tiles);
        int32_t parts = pod_core_parts(tiling, all_tiles, waves * ctas, num_tiles);
        entries += parts;
        if (parts > 1) slots += (int64_t)parts * shape->kv_heads;
    }
    int32_t entry = (int32_t)pod_team_scan(team, entries, &items);
    int32_t slot = (int32_t)pod_team_scan(team, slots, &parts_total);
    request = first_request;
    for (int32_t i = begin; i < end; i++) {
        pod_core_row_tile(shape, tiling, schedule, i, &request, &row_begin, &tile_begin, &num_tiles);
        int32_t parts = pod_core_parts(tiling, all_tiles, waves * ctas, num_tiles);
        for (int32_t part = 0; part < parts; part++) {
            int32_t part_begin = pod_core_cut(num_tiles, parts, part);
            pod_prefill_entry made = {
                request, row_begin, tile_begin + part_begin, pod_core_cut(num_tiles, parts, part + 1) - part_begin,
                part,    parts,     parts > 1 ? slot : 0,    0};
            schedule->entries[entry++] = made;
        }
        if (parts > 1) slot += parts * shape->kv_heads;
    }
    if (team->lane == 0) {
        schedule->header->num_prefill_entries = (int32_t)items;
        schedule->header->num_prefill_slots = (int32_t)parts_total;
        schedule->header->num_prefill_tiles = all_tiles;
        schedule->header->num_slices = pod_core_num_slices(tiling, schedule->header->num_decode_tiles);
    }
    pod_team_sync(team); /* entries and header are read by other lanes than wrote them */
    pod_core_sort(team, schedule, (int32_t)items, longest);
}

/** Plans a batch. Every lane of the team calls it with the same arguments. */
POD_CORE_FN void pod_core_plan(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                               const pod_schedule *schedule) {
    pod_core_lines(team, shape, tiling, schedule);
    pod_core_entries(team, shape, tiling, schedule);
    for (int32_t i = team->lane; i < POD_MAX_SMS; i += team->num_lanes) schedule->sm_tickets[i] = 0;
    for (int32_t i = team->lane; i < schedule->header->num_slices; i += team->num_lanes) {
        schedule->slice_counters[i] = 0;
    }
    for (int32_t i = team->lane; i < schedule->header->num_prefill_slots; i += team->num_lanes) {
        schedule->part_counters[i] = 0;
    }
    if (team->lane == 0) {
        schedule->header->prefill_ticket = 0;
        schedule->header->decode_ticket = 0;
        schedule->header->ctas_done = 0;
    }
    pod_team_sync(team);
}

#endif
