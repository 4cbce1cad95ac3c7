/* SPDX-License-Identifier: Apache-2.0 */
/* Planning on the device, one launch per step: the first CTAs run the planner, one mask each, with all their threads as
 * the team; the other CTAs check every page number of the batch, one request at a time each. They write different
 * arrays (requests[], page_errors[]), so none waits for another.
 *
 * Planning is a chain of short steps, so what counts is latency: lanes meet once per collective, what they read back is
 * in shared memory wherever the batch fits, and the workspace is only written. */
#include <stdint.h>

#define POD_CORE_FN static __device__ __forceinline__
#define POD_CORE_ROLLED _Pragma("unroll 1")
#define POD_CORE_TEAM

constexpr int WARP_LANES = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int MAX_VALUES = 18; /* of one collective */

/** The threads of a CTA: whole warps, at most 32. */
typedef struct pod_team {
    int32_t lane, num_lanes;
    int32_t radix_bits;
    int32_t *digits;
    int32_t (*warp_values)[MAX_VALUES][WARP_LANES]; /**< [2], in shared memory; written by turns, read after one sync */
    mutable int32_t turn;
} pod_team;

POD_CORE_FN void pod_team_sync(const pod_team *) {
    __syncthreads();
}

static __device__ __forceinline__ int32_t warp_sum(int32_t value) {
    return (int32_t)__reduce_add_sync(ALL_LANES, (unsigned)value);
}

POD_CORE_FN void pod_team_scan(const pod_team *team, int32_t count, int32_t *values, int32_t *totals) {
    int warp = team->lane / WARP_LANES, lane = team->lane % WARP_LANES;
    int32_t(*shared)[WARP_LANES] = team->warp_values[team->turn];
    team->turn ^= 1;
    for (int i = 0; i < count; i++) {
        unsigned inclusive = (unsigned)values[i];
        for (int distance = 1; distance < WARP_LANES; distance *= 2) {
            unsigned before = __shfl_up_sync(ALL_LANES, inclusive, distance);
            if (lane >= distance) inclusive += before;
        }
        if (lane == WARP_LANES - 1) shared[i][warp] = (int32_t)inclusive;
        values[i] = (int32_t)(inclusive - (unsigned)values[i]);
    }
    __syncthreads();
    for (int i = 0; i < count; i++) {
        int32_t of_warp = lane < team->num_lanes / WARP_LANES ? shared[i][lane] : 0;
        totals[i] = warp_sum(of_warp);
        values[i] += warp_sum(lane < warp ? of_warp : 0);
    }
}

POD_CORE_FN void pod_team_reduce(const pod_team *team, int32_t num_sums, int32_t *sums, int32_t num_maxima,
                                 int32_t *maxima) {
    int warp = team->lane / WARP_LANES, lane = team->lane % WARP_LANES;
    int32_t(*shared)[WARP_LANES] = team->warp_values[team->turn];
    team->turn ^= 1;
    for (int i = 0; i < num_sums; i++) {
        int32_t sum = warp_sum(sums[i]);
        if (lane == 0) shared[i][warp] = sum;
    }
    for (int i = 0; i < num_maxima; i++) {
        int32_t maximum = __reduce_max_sync(ALL_LANES, maxima[i]);
        if (lane == 0) shared[num_sums + i][warp] = maximum;
    }
    __syncthreads();
    bool is_warp = lane < team->num_lanes / WARP_LANES;
    for (int i = 0; i < num_sums; i++) sums[i] = warp_sum(is_warp ? shared[i][lane] : 0);
    for (int i = 0; i < num_maxima; i++) {
        maxima[i] = __reduce_max_sync(ALL_LANES, is_warp ? shared[num_sums + i][lane] : INT32_MIN);
    }
}

#include "cuda/kernels/plan/plan_params.h"
#include "schedule/cache_core.h"
#include "schedule/planner.h"

constexpr int RADIX_BITS = 3;
constexpr int MAX_REQUESTS = 1024; /* in shared memory; beyond, and for more entries, the workspace serves */
constexpr int MAX_ENTRIES = 432;

struct plan_smem {
    int32_t warp_values[2][MAX_VALUES][WARP_LANES];
    int32_t decode_tiles[MAX_REQUESTS + 1];
    int32_t row_tile_begin[MAX_REQUESTS + 1];
    int32_t digits[POD_PLAN_THREADS << RADIX_BITS];
    __align__(16) pod_prefill_entry row_tiles[MAX_ENTRIES];
    __align__(16) pod_prefill_entry unsorted[MAX_ENTRIES];
};
static_assert(sizeof(plan_smem) <= 48 << 10, "static shared memory");
static_assert(2 * POD_MAX_SHARES + POD_MAX_SHARES <= MAX_VALUES && POD_NUM_COUNTS <= MAX_VALUES, "collectives");
static_assert(POD_PLAN_THREADS <= WARP_LANES * WARP_LANES, "a warp holds one value of every warp");

/** The window through which the most is seen under any mask. */
static __device__ int32_t widest_window(const pod_plan_params &params) {
    int32_t widest = params.shapes[0].window_tokens;
    for (int32_t m = 1; m < params.num_masks; m++) {
        widest = pod_core_wider_window(widest, params.shapes[m].window_tokens);
    }
    return widest;
}

/** First entry of the request's page table row that is missing or names no page, INT32_MAX if none; this lane's part.
 * Entries that no query needs may be anything, and cost nothing. The lengths are checked ones, whatever the masks are,
 * so that a request with wrong lengths reads nothing. */
static __device__ int32_t first_bad_page(const pod_plan_params &params, int32_t r, int32_t window_tokens) {
    pod_shape shape = params.shapes[0];
    shape.causal = 0;
    shape.causal_per_request = nullptr;
    pod_request request = pod_core_request(&shape, r);
    pod_page_range pages = pod_core_needed_pages(request.q_len, request.kv_len, window_tokens, params.page_size);
    if (params.page_table == nullptr) {
        if (pages.end > 1) return 1;
        return pages.end == 1 && !pod_core_is_page(r, params.num_pages) ? 0 : INT32_MAX;
    }
    const int32_t *row = params.page_table + r * params.page_table_stride;
    int32_t end = pod_core_min(pages.end, params.max_pages);
    int32_t bad = pages.end > params.max_pages ? params.max_pages : INT32_MAX;
    for (int32_t p = pages.begin + threadIdx.x; p < end; p += POD_PLAN_THREADS) {
        if (!pod_core_is_page(row[p], params.num_pages)) bad = pod_core_min(bad, p);
    }
    return bad;
}

/** Tells the caller of a wrong request, if there is one and a place for it. */
static __device__ void tell_bad_request(const pod_plan_params &params, int32_t r) {
    if (params.bad_request != nullptr && r != INT32_MAX) *(volatile int32_t *)params.bad_request = 1 + r;
}

/** CTA `checker` of `num_checkers`. */
static __device__ void check_pages(const pod_plan_params &params, const pod_team &team, int32_t checker,
                                   int32_t num_checkers) {
    int32_t window_tokens = widest_window(params);
    for (int32_t r = checker; r < params.shapes[0].num_requests; r += num_checkers) {
        int32_t from_last = INT32_MAX - first_bad_page(params, r, window_tokens);
        pod_team_reduce(&team, 0, nullptr, 1, &from_last);
        if (team.lane != 0) continue;
        bool is_bad = from_last != 0;
        params.schedules[0].page_errors[r] = is_bad ? (uint32_t)(INT32_MAX - from_last) + 1 : 0;
        if (is_bad) tell_bad_request(params, r);
    }
}

/** The planner for one mask, with what it reads back in shared memory where it fits. */
static __device__ void plan(const pod_plan_params &params, int32_t mask, const pod_team &team, plan_smem &smem) {
    const pod_shape &shape = params.shapes[mask];
    const pod_schedule &schedule = params.schedules[mask];
    pod_core_scratch scratch = pod_core_workspace_scratch(&schedule);
    int32_t totals[POD_NUM_COUNTS];
    if (shape.num_requests <= MAX_REQUESTS) {
        scratch.decode_tiles = smem.decode_tiles;
        scratch.row_tile_begin = smem.row_tile_begin;
    }
    pod_core_lines(&team, &shape, &params.tiling, &schedule, &scratch, totals);
    int32_t num_slices = pod_core_num_slices(&shape, &params.tiling, totals);
    /* Splits add at most one entry per share of the work and KV head. */
    int32_t most_shares = params.tiling.max_parts;
    if (pod_core_whole_entries(totals) + most_shares / shape.kv_heads <= MAX_ENTRIES) {
        scratch.row_tiles = smem.row_tiles;
        scratch.unsorted = smem.unsorted;
    }
    int32_t num_slots = pod_core_entries(&team, &shape, &params.tiling, &schedule, &scratch, totals);
    pod_core_reset(&team, &schedule, num_slices, num_slots);
    if (team.lane != 0) return;
    schedule.header->signature = params.signature;
    tell_bad_request(params, schedule.header->first_error);
}

extern "C" __global__ void __launch_bounds__(POD_PLAN_THREADS, 1)
    pod_plan(const __grid_constant__ pod_plan_params params) {
    __shared__ plan_smem smem;
    pod_team team = {(int32_t)threadIdx.x, POD_PLAN_THREADS, RADIX_BITS, smem.digits, smem.warp_values, 0};
    int32_t cta = (int32_t)blockIdx.x, num_masks = params.num_masks;
    if (cta < num_masks) {
        plan(params, cta, team, smem);
    } else {
        check_pages(params, team, cta - num_masks, (int32_t)gridDim.x - num_masks);
    }
}
