/* SPDX-License-Identifier: Apache-2.0 */
/* The planner: from a batch to its schedule. No allocation, no recursion, every array in the caller's workspace;
 * compiled by gcc, clang and nvcc, for a team of any number of lanes (team.h).
 *
 * The including file may define POD_CORE_FN (function specifiers), POD_CORE_ROLLED (interleave.h) and, with
 * POD_CORE_TEAM, its own team. */
#ifndef POD_SCHEDULE_PLANNER_H
#define POD_SCHEDULE_PLANNER_H

#include "schedule/interleave.h"

/** A request without tokens, so that nothing is written. */
POD_CORE_FN pod_request pod_core_bad_q_start(void) {
    pod_request request = {0, 0, 0, POD_REQUEST_Q_START, 0};
    return request;
}

/** One request, checked. */
POD_CORE_FN pod_request pod_core_request(const pod_shape *shape, int32_t r) {
    pod_request request = {shape->q_start[r], 0, shape->kv_len[r], POD_REQUEST_OK, 0};
    int32_t q_end = shape->q_start[r + 1];
    int is_begun = r == 0 ? request.q_begin == 0 : request.q_begin >= 0;
    if (!is_begun || q_end < request.q_begin || q_end > shape->max_q_tokens) return pod_core_bad_q_start();
    request.q_len = q_end - request.q_begin;
    int32_t causal = shape->causal_per_request != 0 ? shape->causal_per_request[r] : shape->causal;
    request.is_causal = (int16_t)(causal != 0);
    int32_t shortest = request.is_causal ? request.q_len : 0;
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
    POD_COUNT_NARROW, /**< of these, narrow ones */
    POD_COUNT_DRAFTS, /**< of the narrow ones, those that are all of their request */
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
    int32_t narrow_rows = pod_core_narrow_rows(tiling, shape->kv_heads);
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
            int is_narrow = rows - (row_tiles - 1) * tiling->prefill_tile_rows <= narrow_rows;
            counts[POD_COUNT_NARROW] += is_narrow;
            counts[POD_COUNT_DRAFTS] += is_narrow && row_tiles == 1;
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

/** Tiles that a slice has at least, so that reading its tiles and then joining all parts of a request ends soonest: n
 * tiles and T / n parts, where T is the average of a request and a KV head, are soonest done where n * n = T *
 * part_cost. A power of two. */
POD_CORE_FN int32_t pod_core_shortest_slice(const pod_shape *shape, const pod_tiling *tiling,
                                            const int32_t totals[POD_NUM_COUNTS]) {
    int64_t items = (int64_t)pod_core_max(1, totals[POD_COUNT_DECODES]) * shape->kv_heads;
    int64_t square = pod_core_div(totals[POD_COUNT_DECODE_TILES], items) * tiling->part_cost_64ths / 64;
    int32_t tiles = 1;
    while (4 * (int64_t)tiles * tiles <= square) tiles *= 2;
    return tiles;
}

/** The fewest pieces that `tiles` can be cut into without one that is longer than the longest of `pieces`. So requests
 * of equal length are more often cut alike, and into fewer parts. */
POD_CORE_FN int32_t pod_core_fewest(int32_t tiles, int32_t pieces) {
    return pieces == 0 || tiles == 0 ? 0 : pod_core_ceil_div(tiles, pod_core_ceil_div(tiles, pieces));
}

/** How many slices the decode line is cut into. */
POD_CORE_FN int32_t pod_core_num_slices(const pod_shape *shape, const pod_tiling *tiling,
                                        const int32_t totals[POD_NUM_COUNTS]) {
    int32_t tiles = totals[POD_COUNT_DECODE_TILES], shortest = pod_core_shortest_slice(shape, tiling, totals);
    int32_t slices = pod_core_max(tiles / tiling->min_slice_tiles, pod_core_min(tiles / shortest, tiling->num_ctas));
    int is_steady = (int64_t)totals[POD_COUNT_ROW_TILES] * shape->kv_heads <= tiling->num_prefill_ctas;
    slices = pod_core_min(slices, is_steady ? tiling->max_steady_slices : tiling->max_slices);
    int32_t of_head = slices / shape->kv_heads; /* as many for every head, if that costs few */
    if (of_head * shape->kv_heads < slices - slices / 16) return pod_core_fewest(tiles, slices);
    return pod_core_fewest(tiles / shape->kv_heads, of_head) * shape->kv_heads;
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

/** What the row tiles of a KV head come to. */
typedef struct pod_core_prefill {
    int64_t tiles, narrow_tiles; /**< KV tiles of all row tiles, and of the narrow ones */
    int32_t longest;
    int32_t heads_per_ticket; /**< as in the header */
    int64_t steps;            /**< of all KV heads, as in the header */
} pod_core_prefill;

/** Entries of row tiles that are not split, at most. */
POD_CORE_FN int32_t pod_core_whole_entries(const int32_t totals[POD_NUM_COUNTS]) {
    int32_t row_tiles = totals[POD_COUNT_ROW_TILES], narrow = totals[POD_COUNT_NARROW];
    return narrow > 0 ? narrow + 2 * (row_tiles - narrow) : row_tiles;
}

/** How often a row tile is in the queue: wide ones once for each head of a ticket. */
POD_CORE_FN int32_t pod_core_copies(const pod_core_prefill *prefill, const pod_prefill_entry *tile) {
    return tile->heads == POD_HEADS_BOTH ? 1 : prefill->heads_per_ticket;
}

/** Row tiles [begin, end) with the KV tiles that each needs, and what they come to. */
POD_CORE_FN void pod_core_row_tiles(const pod_shape *shape, const pod_tiling *tiling, const pod_core_scratch *scratch,
                                    int32_t begin, int32_t end, pod_core_prefill *prefill) {
    int32_t r = begin < end ? pod_core_find(scratch->row_tile_begin, shape->num_requests, begin) : 0;
    int32_t narrow_rows = pod_core_narrow_rows(tiling, shape->kv_heads);
    pod_request request = {0, 0, 0, 0, 0};
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        while (scratch->row_tile_begin[r + 1] <= i) r++;
        int32_t first_row_tile = scratch->row_tile_begin[r];
        if (i == begin || i == first_row_tile) request = pod_core_request(shape, r);
        int32_t row_begin = (i - first_row_tile) * tiling->prefill_tile_rows, tile_begin, num_tiles;
        int32_t row_end = pod_core_min(request.q_len * shape->group, row_begin + tiling->prefill_tile_rows);
        pod_core_tiles(shape, &request, row_begin, row_end, tiling->prefill_tile_tokens, &tile_begin, &num_tiles);
        int is_narrow = row_end - row_begin <= narrow_rows;
        pod_prefill_entry whole = {r, row_begin, tile_begin, num_tiles,
                                   0, 1,         0,          is_narrow ? POD_HEADS_BOTH : POD_HEADS_ALL};
        scratch->row_tiles[i] = whole;
        prefill->tiles += num_tiles;
        prefill->narrow_tiles += is_narrow ? num_tiles : 0;
        prefill->longest = pod_core_max(prefill->longest, num_tiles);
    }
}

/** The same of all lanes' row tiles, and what follows. Heads are paired for requests that are narrow altogether. For
 * the narrow ends of longer ones they are only where that leaves out a sixth of all work: a narrow tile reads twice as
 * much, and a queue of few long tiles may end with it. */
POD_CORE_FN void pod_core_sum_prefill(const pod_team *team, const pod_shape *shape,
                                      const int32_t totals[POD_NUM_COUNTS], pod_core_prefill *prefill) {
    int32_t sums[2][2];
    pod_core_split(prefill->tiles, sums[0]);
    pod_core_split(prefill->narrow_tiles, sums[1]);
    pod_team_reduce(team, 4, &sums[0][0], 1, &prefill->longest);
    prefill->tiles = pod_core_join(sums[0]);
    prefill->narrow_tiles = pod_core_join(sums[1]);
    int pairs_heads =
        totals[POD_COUNT_DRAFTS] > 0 || (totals[POD_COUNT_NARROW] > 0 && 3 * prefill->narrow_tiles >= prefill->tiles);
    prefill->heads_per_ticket = pairs_heads ? 2 : 1;
    prefill->steps = prefill->tiles * shape->kv_heads;
    if (pairs_heads) prefill->steps -= prefill->narrow_tiles * (shape->kv_heads / 2);
}

/** What a split into `num_items` shares comes to. */
typedef struct pod_core_splits {
    int32_t sums[2][POD_MAX_SHARES]; /**< entries; of these, parts of split tiles */
    int32_t longest[POD_MAX_SHARES];
} pod_core_splits;

/** Shares of candidate `wave` for cutting the work, 0: it is none. */
POD_CORE_FN int32_t pod_core_shares(const pod_tiling *tiling, int32_t ctas, int32_t wave, int32_t num_decode_tiles) {
    int32_t eighths = num_decode_tiles > 0 ? tiling->shares_eighths[wave] : tiling->lone_shares_eighths[wave];
    return eighths > 0 ? pod_core_max(1, ctas * eighths / 8) : 0;
}

/** In sixteenths of a tile: when the busiest CTA ends. In every round of parts there is what keeping and joining
 * those of a row tile takes, `merge`. `tickets`: of an entry. */
POD_CORE_FN int64_t pod_core_split_cost(const pod_core_splits *splits, int32_t wave, int32_t tickets, int32_t ctas,
                                        int64_t all_tiles, int32_t merge) {
    int64_t items = (int64_t)splits->sums[0][wave] * tickets, parts = (int64_t)splits->sums[1][wave] * tickets;
    if (items == 0) return 0;
    int64_t rounds = pod_core_div(items + ctas - 1, ctas);
    int64_t merges = pod_core_div(parts + ctas - 1, ctas);
    int64_t cost = pod_core_div(rounds * all_tiles * 16, items);
    int64_t longest = (int64_t)splits->longest[wave] * 16;
    return (cost < longest ? longest : cost) + merges * merge;
}

/** Shares to cut the prefill work into: the candidate that ends first. */
POD_CORE_FN int32_t pod_core_num_items(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                       const pod_core_scratch *scratch, int32_t begin, int32_t end,
                                       const pod_core_prefill *prefill, int32_t num_decode_tiles) {
    int64_t all_tiles = prefill->steps;
    int decode_lasts = tiling->decode_tile_cost * (int64_t)num_decode_tiles > tiling->prefill_tile_cost * all_tiles;
    int32_t ctas = decode_lasts ? tiling->num_prefill_ctas : tiling->num_lone_ctas;
    pod_core_splits splits = {{{0}}, {0}};
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        int32_t num_tiles = scratch->row_tiles[i].num_tiles, copies = pod_core_copies(prefill, &scratch->row_tiles[i]);
        for (int32_t wave = 0; wave < POD_MAX_SHARES; wave++) {
            int32_t shares = pod_core_shares(tiling, ctas, wave, num_decode_tiles);
            if (shares == 0) break;
            int32_t parts = pod_core_parts(tiling, all_tiles, shares, num_tiles);
            splits.sums[0][wave] += parts * copies;
            if (parts > 1) splits.sums[1][wave] += parts * copies;
            int32_t longest = parts > 1 ? pod_core_ceil_div(num_tiles, parts) : num_tiles;
            splits.longest[wave] = pod_core_max(splits.longest[wave], longest);
        }
    }
    pod_team_reduce(team, 2 * POD_MAX_SHARES, &splits.sums[0][0], POD_MAX_SHARES, splits.longest);
    int32_t best = 0;
    int64_t best_cost = INT64_MAX;
    for (int32_t wave = 0; wave < POD_MAX_SHARES; wave++) {
        if (pod_core_shares(tiling, ctas, wave, num_decode_tiles) == 0) break;
        if (wave > 0 && splits.sums[0][wave] == splits.sums[0][wave - 1]) continue; /* the same split again */
        int32_t shares = pod_core_shares(tiling, ctas, wave, num_decode_tiles);
        int32_t parts = pod_core_parts(tiling, all_tiles, shares, prefill->longest);
        int32_t merge = tiling->keep_cost_16ths + (parts > 1 ? parts * tiling->join_cost_16ths : 0);
        int64_t cost =
            pod_core_split_cost(&splits, wave, shape->kv_heads / prefill->heads_per_ticket, ctas, all_tiles, merge);
        if (cost >= best_cost) continue;
        best_cost = cost;
        best = wave;
    }
    return pod_core_shares(tiling, ctas, best, num_decode_tiles);
}

/** Cuts row tiles [begin, end) into entries, in their order. Returns the number of all lanes' entries; also of slots.
 */
POD_CORE_FN int32_t pod_core_cut_tiles(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                       const pod_core_scratch *scratch, int32_t begin, int32_t end,
                                       const pod_core_prefill *prefill, int32_t num_items, int32_t *num_slots) {
    int64_t all_tiles = prefill->steps;
    int32_t places[2] = {0, 0}, totals[2]; /* entries, slots */
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        int32_t parts = pod_core_parts(tiling, all_tiles, num_items, scratch->row_tiles[i].num_tiles);
        places[0] += parts * pod_core_copies(prefill, &scratch->row_tiles[i]);
        if (parts > 1) places[1] += parts * shape->kv_heads;
    }
    pod_team_scan(team, 2, places, totals);
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        pod_prefill_entry entry = scratch->row_tiles[i];
        int32_t tile_begin = entry.tile_begin, num_tiles = entry.num_tiles, cut = 0;
        int is_listed_twice = pod_core_copies(prefill, &entry) > 1;
        if (prefill->heads_per_ticket == 1) entry.heads = POD_HEADS_ALL;
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
            if (is_listed_twice) entry.heads = POD_HEADS_FIRST;
            scratch->unsorted[places[0]++] = entry;
            if (is_listed_twice) {
                entry.heads = POD_HEADS_SECOND;
                scratch->unsorted[places[0]++] = entry;
            }
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
    int32_t begin, end, num_entries = 0, num_slots = 0;
    pod_core_share(team, totals[POD_COUNT_ROW_TILES], &begin, &end);
    pod_core_prefill prefill = {0, 0, 0, 1, 0};
    if (totals[POD_COUNT_ROW_TILES] > 0) {
        pod_core_row_tiles(shape, tiling, scratch, begin, end, &prefill);
        pod_core_sum_prefill(team, shape, totals, &prefill);
        int32_t num_items =
            pod_core_num_items(team, shape, tiling, scratch, begin, end, &prefill, totals[POD_COUNT_DECODE_TILES]);
        num_entries = pod_core_cut_tiles(team, shape, tiling, scratch, begin, end, &prefill, num_items, &num_slots);
        pod_team_sync(team); /* entries are read by other lanes than wrote them */
        pod_core_sort(team, schedule, scratch, num_entries, prefill.longest);
        if (tiling->decode_rows == 0) {
            pod_core_share(team, num_entries, &begin, &end);
            pod_core_interleave(team, shape, tiling, schedule, scratch->unsorted, begin, end,
                                shape->kv_heads / prefill.heads_per_ticket);
        }
    }
    if (team->lane == 0) {
        schedule->header->num_prefill_entries = num_entries;
        schedule->header->num_prefill_tiles = prefill.tiles * shape->kv_heads;
        schedule->header->num_prefill_steps = prefill.steps;
        schedule->header->heads_per_ticket = prefill.heads_per_ticket;
        schedule->header->reserved = 0;
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
