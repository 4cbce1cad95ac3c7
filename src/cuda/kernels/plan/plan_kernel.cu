/* SPDX-License-Identifier: Apache-2.0 */
/* Planning on the device, one launch per step: CTA 0 runs the core planner with all its threads as the team; the other
 * CTAs look every page number of the batch up, one request at a time each. The two write different arrays
 * (requests[], page_errors[]), so nobody waits for anybody. */
#include <stdint.h>

#define POD_CORE_FN static __device__ inline
#define POD_CORE_TEAM

constexpr int WARP_LANES = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

/** The threads of a CTA; a multiple of 32. */
typedef struct pod_team {
    int32_t lane, num_lanes;
    int32_t radix_bits;
    int32_t *digits;
    int64_t *warp_values; /**< [num_lanes / 32] in shared memory */
} pod_team;

POD_CORE_FN void pod_team_sync(const pod_team *) {
    __syncthreads();
}

POD_CORE_FN int64_t pod_team_scan(const pod_team *team, int64_t value, int64_t *total) {
    int warp = team->lane / WARP_LANES, lane = team->lane % WARP_LANES;
    long long inclusive = value;
    for (int distance = 1; distance < WARP_LANES; distance *= 2) {
        long long before = __shfl_up_sync(ALL_LANES, inclusive, distance);
        if (lane >= distance) inclusive += before;
    }
    if (lane == WARP_LANES - 1) team->warp_values[warp] = inclusive;
    __syncthreads();
    int64_t before = 0, all = 0;
    for (int w = 0; w < team->num_lanes / WARP_LANES; w++) {
        int64_t sum = team->warp_values[w];
        if (w < warp) before += sum;
        all += sum;
    }
    __syncthreads(); /* warp_values may be written again */
    *total = all;
    return before + inclusive - value;
}

POD_CORE_FN int32_t pod_team_max(const pod_team *team, int32_t value) {
    int32_t warp_max = __reduce_max_sync(ALL_LANES, value);
    if (team->lane % WARP_LANES == 0) team->warp_values[team->lane / WARP_LANES] = warp_max;
    __syncthreads();
    int32_t max = (int32_t)team->warp_values[0];
    for (int w = 1; w < team->num_lanes / WARP_LANES; w++) max = ::max(max, (int32_t)team->warp_values[w]);
    __syncthreads();
    return max;
}

#include "plan_params.h"

constexpr int RADIX_BITS = 3;
constexpr int NUM_WARPS = POD_PLAN_THREADS / WARP_LANES;

struct plan_smem {
    int32_t digits[POD_PLAN_THREADS << RADIX_BITS];
    int64_t warp_values[NUM_WARPS];
};

/** First entry of the request's page table row that is missing or names no page, INT32_MAX if none; this lane's part.
 * The lengths are the checked ones, so that a request with wrong lengths reads nothing. */
static __device__ int32_t first_bad_page(const pod_plan_params &params, int32_t r) {
    int32_t kv_len = pod_core_request(&params.shape, r).kv_len;
    int32_t pages = pod_core_ceil_div(kv_len, params.page_size);
    if (params.page_table == nullptr) {
        if (pages > 1) return 1;
        return pages == 1 && r >= params.num_pages ? 0 : INT32_MAX;
    }
    const int32_t *row = params.page_table + r * params.page_table_stride;
    int32_t readable = pod_core_min(pages, params.max_pages);
    int32_t bad = pages > params.max_pages ? params.max_pages : INT32_MAX;
    for (int32_t p = threadIdx.x; p < readable; p += POD_PLAN_THREADS) {
        if ((uint32_t)row[p] >= (uint32_t)params.num_pages) bad = pod_core_min(bad, p);
    }
    return bad;
}

static __device__ void check_pages(const pod_plan_params &params, const pod_team &team) {
    for (int32_t r = blockIdx.x - 1; r < params.shape.num_requests; r += gridDim.x - 1) {
        int32_t bad = INT32_MAX - pod_team_max(&team, INT32_MAX - first_bad_page(params, r));
        if (team.lane == 0) params.schedule.page_errors[r] = bad == INT32_MAX ? 0 : (uint32_t)bad + 1;
    }
}

extern "C" __global__ void __launch_bounds__(POD_PLAN_THREADS, 1)
    pod_plan(const __grid_constant__ pod_plan_params params) {
    __shared__ plan_smem smem;
    pod_team team = {(int32_t)threadIdx.x, POD_PLAN_THREADS, RADIX_BITS, smem.digits, smem.warp_values};
    if (blockIdx.x > 0) {
        check_pages(params, team);
        return;
    }
    pod_core_plan(&team, &params.shape, &params.tiling, &params.schedule);
    if (team.lane == 0) params.schedule.header->signature = params.signature;
}
