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
 * pod_team_sync, pod_team_scan, pod_team_reduce); by default the team is one lane. */
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

/* Stands before loops that seldom go round twice in a large team, where a long program costs more than the jump. */
#ifndef POD_CORE_ROLLED
#define POD_CORE_ROLLED
#endif

/* ---- what goes in ---- */

/** What the planner has to know of the kernel that will run the plan. */
typedef struct pod_tiling {
    int32_t num_ctas;            /**< workers that take tickets */
    int32_t num_prefill_ctas;    /**< workers that take prefill tickets while decode lasts about as long */
    int32_t num_lone_ctas;       /**< workers that take prefill tickets otherwise */
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
    int32_t *decode_begin;           /**< [num_requests + 1] first decode tile of each request within a head's line */
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

/** Replaces each value by its sum over the lanes before this one; `totals`: over all lanes. Syncs. */
POD_CORE_FN void pod_team_scan(const pod_team *team, int32_t count, int32_t *values, int32_t *totals) {
    (void)team;
    for (int32_t i = 0; i < count; i++) {
        totals[i] = values[i];
        values[i] = 0;
    }
}

/** Replaces each sum by the sum over all lanes, and each maximum by the largest of all lanes. Syncs. */
POD_CORE_FN void pod_team_reduce(const pod_team *team, int32_t num_sums, int32_t *sums, int32_t num_maxima,
                                 int32_t *maxima) {
    (void)team;
    (void)num_sums;
    (void)sums;
    (void)num_maxima;
    (void)maxima;
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

/** KV tiles that query tokens [token_begin, token_end) of a request need: the first one and how many, at least 1. */
POD_CORE_FN void pod_core_token_tiles(const pod_shape *shape, const pod_request *request, int32_t token_begin,
                                      int32_t token_end, int32_t tile_tokens, int32_t *tile_begin, int32_t *num_tiles) {
    int32_t kv_begin, kv_end;
    pod_core_visible(request->q_len, request->kv_len, shape->causal, shape->window_tokens, token_begin, token_end,
                     &kv_begin, &kv_end);
    *tile_begin = kv_begin / tile_tokens;
    *num_tiles = pod_core_max(1, pod_core_ceil_div(kv_end, tile_tokens) - *tile_begin);
}

/** The same for rows [row_begin, row_end). */
POD_CORE_FN void pod_core_tiles(const pod_shape *shape, const pod_request *request, int32_t row_begin, int32_t row_end,
                                int32_t tile_tokens, int32_t *tile_begin, int32_t *num_tiles) {
    pod_core_token_tiles(shape, request, row_begin / shape->group, pod_core_ceil_div(row_end, shape->group),
                         tile_tokens, tile_begin, num_tiles);
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

/** What the planner writes and reads again until the plan stands; where a GPU has faster memory, that is there. */
typedef struct pod_core_scratch {
    int32_t *decode_tiles;        /**< [num_requests + 1] of each request, one place further; may be decode_begin */
    int32_t *row_tile_begin;      /**< [num_requests + 1] */
    pod_prefill_entry *row_tiles; /**< [num_prefill_entries] whole row tiles, then for sorting; may be entries */
    pod_prefill_entry *unsorted;  /**< [num_prefill_entries] */
} pod_core_scratch;

/** In the workspace. */
POD_CORE_FN pod_core_scratch pod_core_workspace_scratch(const pod_schedule *schedule) {
    pod_core_scratch scratch = {schedule->decode_begin, schedule->row_tile_begin, schedule->entries,
                                schedule->entries_temp};
    return scratch;
}

/** This lane's share of `count` things that stand in a row. */
POD_CORE_FN void pod_core_share(const pod_team *team, int32_t count, int32_t *begin, int32_t *end) {
    uint32_t share = (uint32_t)pod_core_ceil_div(count, team->num_lanes), all = (uint32_t)count;
    uint32_t first = share * (uint32_t)team->lane;
    *begin = (int32_t)(first < all ? first : all);
    *end = (int32_t)(first + share < all ? first + share : all);
}

/** A sum of up to 2^50 goes through the 32-bit sums of up to 1,024 lanes as two: of 2^20 and of ones. */
enum { POD_CORE_HALF_BITS = 20 };
POD_CORE_FN void pod_core_split(int64_t value, int32_t halves[2]) {
    halves[0] = (int32_t)(value & ((1 << POD_CORE_HALF_BITS) - 1));
    halves[1] = (int32_t)(value >> POD_CORE_HALF_BITS);
}

POD_CORE_FN int64_t pod_core_join(const int32_t halves[2]) {
    return ((int64_t)halves[1] << POD_CORE_HALF_BITS) + halves[0];
}

/* ---- step 1: the requests, and their work on the two lines ---- */

/** What is counted over the requests. */
enum {
    POD_COUNT_DECODE_TILES,
    POD_COUNT_ROW_TILES,
    POD_COUNT_DECODES,
    POD_COUNT_PREFILLS,
    POD_COUNT_ERRORS,
    POD_COUNT_DISORDER, /**< of these, q_start's */
    POD_NUM_COUNTS
};

/** Checks and counts requests [begin, end). `q_tokens`: query tokens of all before; negative: they are not counted, and
 * the first q_start that is wrong ends it. */
POD_CORE_FN void pod_core_count(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule *schedule,
                                const pod_core_scratch *scratch, int32_t begin, int32_t end, int64_t q_tokens,
                                int32_t counts[POD_NUM_COUNTS]) {
    for (int32_t i = 0; i < POD_NUM_COUNTS; i++) counts[i] = 0;
    POD_CORE_ROLLED
    for (int32_t r = begin; r < end; r++) {
        pod_request request = pod_core_request(shape, r);
        if (q_tokens >= 0) {
            q_tokens += request.q_len;
            if (q_tokens > shape->max_q_tokens && request.q_len > 0) request = pod_core_bad_q_start();
        }
        schedule->requests[r] = request;
        counts[POD_COUNT_ERRORS] += request.error != POD_REQUEST_OK;
        counts[POD_COUNT_DISORDER] += request.error == POD_REQUEST_Q_START;
        if (q_tokens < 0 && request.error == POD_REQUEST_Q_START) return;
        int32_t rows = request.q_len * shape->group, first, tiles = 0, row_tiles = 0;
        if (rows > tiling->decode_rows) {
            row_tiles = pod_core_ceil_div(rows, tiling->prefill_tile_rows);
        } else if (rows > 0) {
            pod_core_token_tiles(shape, &request, 0, request.q_len, tiling->decode_tile_tokens, &first, &tiles);
        }
        scratch->decode_tiles[r + 1] = tiles;
        scratch->row_tile_begin[r + 1] = row_tiles;
        counts[POD_COUNT_DECODE_TILES] += tiles; /* of one head */
        counts[POD_COUNT_ROW_TILES] += row_tiles;
        counts[POD_COUNT_DECODES] += tiles > 0;
        counts[POD_COUNT_PREFILLS] += row_tiles > 0;
    }
}

/** A q_start that goes back makes requests overlap; together they might outgrow the workspace. So where one does, query
 * tokens are counted over the requests, and those behind max_q_tokens are wrong too. */
POD_CORE_FN int64_t pod_core_tokens_before(const pod_team *team, const pod_shape *shape, int32_t begin, int32_t end) {
    const int64_t enough = (int64_t)1 << (2 * POD_CORE_HALF_BITS - 1);
    int64_t q_tokens = 0;
    int32_t halves[2], totals[2];
    POD_CORE_ROLLED
    for (int32_t r = begin; r < end && q_tokens < enough; r++) q_tokens += pod_core_request(shape, r).q_len;
    pod_core_split(q_tokens < enough ? q_tokens : enough, halves);
    pod_team_scan(team, 2, halves, totals);
    return pod_core_join(halves);
}

POD_CORE_FN int32_t pod_core_first_error(const pod_team *team, const pod_schedule *schedule, int32_t begin,
                                         int32_t end) {
    int32_t first = begin;
    while (first < end && schedule->requests[first].error == POD_REQUEST_OK) first++;
    int32_t from_last = first < end ? INT32_MAX - first : 0;
    pod_team_reduce(team, 0, &from_last, 1, &from_last);
    return INT32_MAX - from_last;
}

/** Whether CTAs of both kinds meet on an SM (sm_80), rather than every CTA doing both. */
POD_CORE_FN int pod_core_has_mixed_sms(const pod_tiling *tiling) {
    return tiling->num_prefill_ctas < tiling->num_lone_ctas;
}

/** How many slices the decode line is cut into. */
POD_CORE_FN int32_t pod_core_num_slices(const pod_shape *shape, const pod_tiling *tiling,
                                        const int32_t totals[POD_NUM_COUNTS]) {
    int32_t tiles = totals[POD_COUNT_DECODE_TILES], most = tiling->max_slices;
    int32_t slices = pod_core_max(tiles / tiling->min_slice_tiles, pod_core_min(tiles, tiling->num_ctas));
    /* Short slices are for decode that makes way for prefill again and again. */
    int is_steady = (int64_t)totals[POD_COUNT_ROW_TILES] * shape->kv_heads <= tiling->num_prefill_ctas;
    if (pod_core_has_mixed_sms(tiling) && is_steady) most = pod_core_max(most / 2, tiling->num_ctas);
    slices = pod_core_min(slices, most);
    int32_t even = slices / shape->kv_heads * shape->kv_heads; /* as many for every head, if that costs few */
    return even >= slices - slices / 16 ? even : slices;
}

/** Fills in requests, both lines and their part of the header; `totals` for every lane. */
POD_CORE_FN void pod_core_lines(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                const pod_schedule *schedule, const pod_core_scratch *scratch,
                                int32_t totals[POD_NUM_COUNTS]) {
    int32_t begin, end, counts[POD_NUM_COUNTS], first_error = INT32_MAX;
    pod_core_share(team, shape->num_requests, &begin, &end);
    pod_core_count(shape, tiling, schedule, scratch, begin, end, -1, counts);
    pod_team_scan(team, POD_NUM_COUNTS, counts, totals);
    if (totals[POD_COUNT_DISORDER] > 0) {
        int64_t q_tokens = pod_core_tokens_before(team, shape, begin, end);
        pod_core_count(shape, tiling, schedule, scratch, begin, end, q_tokens, counts);
        pod_team_scan(team, POD_NUM_COUNTS, counts, totals);
    }
    totals[POD_COUNT_DECODE_TILES] *= shape->kv_heads;
    if (totals[POD_COUNT_ERRORS] > 0) first_error = pod_core_first_error(team, schedule, begin, end);
    int32_t decode_line = counts[POD_COUNT_DECODE_TILES], row_tile_line = counts[POD_COUNT_ROW_TILES];
    POD_CORE_ROLLED
    for (int32_t r = begin; r < end; r++) {
        decode_line += scratch->decode_tiles[r + 1];
        row_tile_line += scratch->row_tile_begin[r + 1];
        schedule->decode_begin[r + 1] = decode_line;
        scratch->row_tile_begin[r + 1] = row_tile_line;
    }
    if (team->lane == 0) {
        schedule->decode_begin[0] = 0;
        scratch->row_tile_begin[0] = 0;
        schedule->header->num_requests = shape->num_requests;
        schedule->header->num_decode_tiles = totals[POD_COUNT_DECODE_TILES];
        schedule->header->num_decode_requests = totals[POD_COUNT_DECODES];
        schedule->header->num_prefill_requests = totals[POD_COUNT_PREFILLS];
        schedule->header->num_slices = pod_core_num_slices(shape, tiling, totals);
        schedule->header->first_error = first_error;
    }
    pod_team_sync(team); /* row_tile_begin is read by other lanes than wrote it */
}

/* ---- step 2: the prefill queue ---- */

/** Parts that a tile of `num_tiles` is cut into when an item is to hold `1 / num_items` of the work: as many as the
 * whole shares that it spans, none shorter than min_part_tiles. All parts of all KV heads together are at most
 * num_items. */
POD_CORE_FN int32_t pod_core_parts(const pod_tiling *tiling, int64_t all_tiles, int32_t num_items, int32_t num_tiles) {
    int64_t scaled = (int64_t)num_tiles * num_items;
    if (scaled < 2 * all_tiles) return 1;
    int64_t parts = pod_core_div(scaled, all_tiles);
    int32_t most = num_tiles / tiling->min_part_tiles;
    if (parts > most) parts = most;
    return parts < 1 ? 1 : (int32_t)parts;
}

/** Row tiles [begin, end) with the KV tiles that each needs. Returns their KV tiles; also the longest. */
POD_CORE_FN int64_t pod_core_row_tiles(const pod_shape *shape, const pod_tiling *tiling,
                                       const pod_core_scratch *scratch, int32_t begin, int32_t end, int32_t *longest) {
    int64_t tiles = 0;
    int32_t r = begin < end ? pod_core_find(scratch->row_tile_begin, shape->num_requests, begin) : 0;
    pod_request request = {0, 0, 0, 0};
    *longest = 0;
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        while (scratch->row_tile_begin[r + 1] <= i) r++;
        int32_t first_row_tile = scratch->row_tile_begin[r];
        if (i == begin || i == first_row_tile) request = pod_core_request(shape, r);
        int32_t row_begin = (i - first_row_tile) * tiling->prefill_tile_rows, tile_begin, num_tiles;
        int32_t row_end = pod_core_min(request.q_len * shape->group, row_begin + tiling->prefill_tile_rows);
        pod_core_tiles(shape, &request, row_begin, row_end, tiling->prefill_tile_tokens, &tile_begin, &num_tiles);
        pod_prefill_entry whole = {r, row_begin, tile_begin, num_tiles, 0, 1, 0, 0};
        scratch->row_tiles[i] = whole;
        tiles += num_tiles;
        *longest = pod_core_max(*longest, num_tiles);
    }
    return tiles;
}

/** What a split into `num_items` shares comes to. */
enum { POD_CORE_MAX_WAVES = 3 }; /* see pod_core_shares() */
typedef struct pod_core_splits {
    int32_t sums[2][POD_CORE_MAX_WAVES]; /**< entries; of these, parts of split tiles */
    int32_t longest[POD_CORE_MAX_WAVES];
} pod_core_splits;

/** Shares of candidate `wave` for cutting the work, 0: it is none. 1, 2 or 4 for every CTA; on mixed SMs 1, and without
 * decode an eighth more, so that row tiles of nearly one length get as many parts. */
POD_CORE_FN int32_t pod_core_shares(const pod_tiling *tiling, int32_t ctas, int32_t wave, int32_t num_decode_tiles) {
    if (!pod_core_has_mixed_sms(tiling)) return 1 << wave <= tiling->max_prefill_waves ? ctas << wave : 0;
    if (wave == 0) return ctas;
    return wave == 1 && num_decode_tiles == 0 && tiling->max_prefill_waves > 1 ? ctas + ctas / 8 : 0;
}

/** In sixteenths of a tile: when the busiest CTA ends, merging counted as one tile. */
POD_CORE_FN int64_t pod_core_split_cost(const pod_core_splits *splits, int32_t wave, int32_t kv_heads, int32_t ctas,
                                        int64_t all_tiles) {
    int64_t items = (int64_t)splits->sums[0][wave] * kv_heads, parts = (int64_t)splits->sums[1][wave] * kv_heads;
    if (items == 0) return 0;
    int64_t rounds = pod_core_div(items + ctas - 1, ctas);
    int64_t merges = pod_core_div(parts + ctas - 1, ctas);
    int64_t cost = pod_core_div(rounds * all_tiles * 16, items);
    int64_t longest = (int64_t)splits->longest[wave] * 16;
    return (cost < longest ? longest : cost) + merges * 16;
}

/** Shares to cut the prefill work into: 1, 2 or 4 for every CTA that it has, whichever ends first. */
POD_CORE_FN int32_t pod_core_num_items(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                       const pod_core_scratch *scratch, int32_t begin, int32_t end, int64_t all_tiles,
                                       int32_t num_decode_tiles) {
    /* Beside decode, a prefill tile takes 2.1 us of an SM, a decode tile 1.0 (H200) to 1.4 (H100). */
    int decode_lasts = 2 * (int64_t)num_decode_tiles > 3 * all_tiles;
    int32_t ctas = decode_lasts ? tiling->num_prefill_ctas : tiling->num_lone_ctas;
    pod_core_splits splits = {{{0}}, {0}};
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        int32_t num_tiles = scratch->row_tiles[i].num_tiles;
        for (int32_t wave = 0; wave < POD_CORE_MAX_WAVES; wave++) {
            int32_t shares = pod_core_shares(tiling, ctas, wave, num_decode_tiles);
            if (shares == 0) break;
            int32_t parts = pod_core_parts(tiling, all_tiles, shares, num_tiles);
            splits.sums[0][wave] += parts;
            if (parts > 1) splits.sums[1][wave] += parts;
            int32_t longest = parts > 1 ? pod_core_ceil_div(num_tiles, parts) : num_tiles;
            splits.longest[wave] = pod_core_max(splits.longest[wave], longest);
        }
    }
    pod_team_reduce(team, 2 * POD_CORE_MAX_WAVES, &splits.sums[0][0], POD_CORE_MAX_WAVES, splits.longest);
    int32_t best = 0;
    int64_t best_cost = INT64_MAX;
    for (int32_t wave = 0; wave < POD_CORE_MAX_WAVES; wave++) {
        if (pod_core_shares(tiling, ctas, wave, num_decode_tiles) == 0) break;
        if (wave > 0 && splits.sums[0][wave] == splits.sums[0][wave - 1]) continue; /* the same split again */
        int64_t cost = pod_core_split_cost(&splits, wave, shape->kv_heads, ctas, all_tiles);
        if (cost >= best_cost) continue;
        best_cost = cost;
        best = wave;
    }
    return pod_core_shares(tiling, ctas, best, num_decode_tiles);
}

/** Cuts row tiles [begin, end) into entries, in their order. Returns the number of all lanes' entries; also of slots.
 */
POD_CORE_FN int32_t pod_core_cut_tiles(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                       const pod_core_scratch *scratch, int32_t begin, int32_t end, int64_t all_tiles,
                                       int32_t num_items, int32_t *num_slots) {
    int32_t places[2] = {0, 0}, totals[2]; /* entries, slots */
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        int32_t parts = pod_core_parts(tiling, all_tiles, num_items, scratch->row_tiles[i].num_tiles);
        places[0] += parts;
        if (parts > 1) places[1] += parts * shape->kv_heads;
    }
    pod_team_scan(team, 2, places, totals);
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        pod_prefill_entry entry = scratch->row_tiles[i];
        int32_t tile_begin = entry.tile_begin, num_tiles = entry.num_tiles, cut = 0;
        entry.num_parts = pod_core_parts(tiling, all_tiles, num_items, num_tiles);
        entry.slot = entry.num_parts > 1 ? places[1] : 0;
        POD_CORE_ROLLED
        for (entry.part = 0; entry.part < entry.num_parts; entry.part++) {
            int32_t next = num_tiles;
            if (entry.part + 1 < entry.num_parts) {
                next = (int32_t)pod_core_div((int64_t)num_tiles * (entry.part + 1), entry.num_parts);
            }
            entry.tile_begin = tile_begin + cut;
            entry.num_tiles = next - cut;
            scratch->unsorted[places[0]++] = entry;
            cut = next;
        }
        if (entry.num_parts > 1) places[1] += entry.num_parts * shape->kv_heads;
    }
    *num_slots = totals[1];
    return totals[0];
}

/** Stable sort of a few entries by num_tiles, longest first: each finds its place by comparing with all. */
POD_CORE_FN void pod_core_sort_few(const pod_prefill_entry *from, pod_prefill_entry *to, int32_t begin, int32_t end,
                                   int32_t count) {
    for (int32_t i = begin; i < end; i++) {
        pod_prefill_entry entry = from[i];
        int32_t place = 0;
        for (int32_t j = 0; j < count; j++) place += from[j].num_tiles + (j < i) > entry.num_tiles;
        to[place] = entry;
    }
}

/** One pass of a stable radix sort: by the digit at `shift`, largest first. */
POD_CORE_FN void pod_core_sort_digit(const pod_team *team, const pod_prefill_entry *from, pod_prefill_entry *to,
                                     int32_t begin, int32_t end, int32_t shift) {
    int32_t num_digits = 1 << team->radix_bits, mask = num_digits - 1;
    /* digits[d * num_lanes + lane]: entries of this lane with digit d, largest length first */
    POD_CORE_ROLLED
    for (int32_t d = 0; d < num_digits; d++) team->digits[d * team->num_lanes + team->lane] = 0;
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        int32_t digit = mask - (from[i].num_tiles >> shift & mask);
        team->digits[digit * team->num_lanes + team->lane]++;
    }
    pod_team_sync(team);
    /* Exclusive scan over the whole table: each lane sums its num_digits neighbouring cells. */
    int32_t *cells = team->digits + team->lane * num_digits;
    int32_t offset = 0, total;
    POD_CORE_ROLLED
    for (int32_t d = 0; d < num_digits; d++) offset += cells[d];
    pod_team_scan(team, 1, &offset, &total);
    POD_CORE_ROLLED
    for (int32_t d = 0; d < num_digits; d++) {
        int32_t n = cells[d];
        cells[d] = offset;
        offset += n;
    }
    pod_team_sync(team);
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        int32_t digit = mask - (from[i].num_tiles >> shift & mask);
        to[team->digits[digit * team->num_lanes + team->lane]++] = from[i];
    }
    pod_team_sync(team);
}

/** Sorts scratch->unsorted into schedule->entries: stable, longest first. */
POD_CORE_FN void pod_core_sort(const pod_team *team, const pod_schedule *schedule, const pod_core_scratch *scratch,
                               int32_t count, int32_t longest) {
    pod_prefill_entry *from = scratch->unsorted, *to = scratch->row_tiles;
    int32_t begin, end;
    pod_core_share(team, count, &begin, &end);
    if (count <= team->num_lanes) { /* one each */
        pod_core_sort_few(from, schedule->entries, begin, end, count);
        return;
    }
    for (int32_t shift = 0; shift < 31 && longest >> shift != 0; shift += team->radix_bits) {
        pod_core_sort_digit(team, from, to, begin, end, shift);
        pod_prefill_entry *swap = from;
        from = to;
        to = swap;
    }
    if (from == schedule->entries) return;
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) schedule->entries[i] = from[i];
}

/** Cuts the prefill row tiles into entries, sorts them and fills in their part of the header. Returns the number of
 * partial slots, for every lane. */
POD_CORE_FN int32_t pod_core_entries(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                     const pod_schedule *schedule, const pod_core_scratch *scratch,
                                     const int32_t totals[POD_NUM_COUNTS]) {
    int32_t begin, end, halves[2], longest, num_entries = 0, num_slots = 0;
    pod_core_share(team, totals[POD_COUNT_ROW_TILES], &begin, &end);
    int64_t all_tiles = 0;
    if (totals[POD_COUNT_ROW_TILES] > 0) {
        pod_core_split(pod_core_row_tiles(shape, tiling, scratch, begin, end, &longest), halves);
        pod_team_reduce(team, 2, halves, 1, &longest);
        all_tiles = pod_core_join(halves) * shape->kv_heads;
        int32_t num_items =
            pod_core_num_items(team, shape, tiling, scratch, begin, end, all_tiles, totals[POD_COUNT_DECODE_TILES]);
        num_entries = pod_core_cut_tiles(team, shape, tiling, scratch, begin, end, all_tiles, num_items, &num_slots);
        pod_team_sync(team); /* entries are read by other lanes than wrote them */
        pod_core_sort(team, schedule, scratch, num_entries, longest);
    }
    if (team->lane == 0) {
        schedule->header->num_prefill_entries = num_entries;
        schedule->header->num_prefill_slots = num_slots;
        schedule->header->num_prefill_tiles = all_tiles;
    }
    return num_slots;
}

/* ---- all of it ---- */

/** Tickets and counters at zero. */
POD_CORE_FN void pod_core_reset(const pod_team *team, const pod_schedule *schedule, int32_t num_slices,
                                int32_t num_slots) {
    for (int32_t i = team->lane; i < POD_MAX_SMS; i += team->num_lanes) schedule->sm_tickets[i] = 0;
    for (int32_t i = team->lane; i < num_slices; i += team->num_lanes) schedule->slice_counters[i] = 0;
    for (int32_t i = team->lane; i < num_slots; i += team->num_lanes) schedule->part_counters[i] = 0;
    if (team->lane == 0) {
        schedule->header->prefill_ticket = 0;
        schedule->header->decode_ticket = 0;
        schedule->header->ctas_done = 0;
    }
}

/** Plans a batch. Every lane of the team calls it with the same arguments; the plan stands when all have returned. */
POD_CORE_FN void pod_core_plan(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                               const pod_schedule *schedule) {
    pod_core_scratch scratch = pod_core_workspace_scratch(schedule);
    int32_t totals[POD_NUM_COUNTS];
    pod_core_lines(team, shape, tiling, schedule, &scratch, totals);
    int32_t num_slots = pod_core_entries(team, shape, tiling, schedule, &scratch, totals);
    pod_core_reset(team, schedule, pod_core_num_slices(shape, tiling, totals), num_slots);
}

#endif
