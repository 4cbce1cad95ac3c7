/* SPDX-License-Identifier: Apache-2.0 */
/* Merges partial results by their LSEs: a warp takes a row (a query token's head), a lane eight of its elements. Bound
 * by memory: every part is read once, the result written once. */
#include "cuda/kernels/eight.cuh"
#include "cuda/kernels/merge/merge_params.h"
#include "schedule/merge_core.h"

constexpr int LANES = 32;
constexpr int ELEMENTS = POD_MERGE_ELEMENTS;
static_assert(ELEMENTS == EIGHT, "a lane's share of a row");

/** One row. The result may be where a part is: all lanes have read the LSEs before the first writes one. */
static __device__ void merge_row(const pod_merge_params &params, int64_t row, int lane) {
    int64_t token = row / params.q_heads, head = row % params.q_heads;
    int64_t lse_at = token * params.part_lse_token_stride + head * params.part_lse_head_stride;
    int64_t part_at = token * params.part_token_stride + head * params.part_head_stride + lane * ELEMENTS;
    int64_t out_at = token * params.out_token_stride + head * params.out_head_stride + lane * ELEMENTS;
    bool has_elements = lane * ELEMENTS < params.head_dim;
    float max = -INFINITY, sum = 0.0f, merged[ELEMENTS] = {};
    for (int p = 0; p < params.num_parts; p++) max = pod_merge_larger(max, params.part_lses[p][lse_at]);
    for (int p = 0; p < params.num_parts; p++) sum += pod_merge_weight(params.part_lses[p][lse_at], max);
    for (int p = 0; p < params.num_parts; p++) {
        float weight = pod_merge_weight(params.part_lses[p][lse_at], max), part[ELEMENTS];
        if (weight == 0.0f || !has_elements) continue; /* whatever such a part holds */
        load_eight(params.part_outs[p], (pod_dtype)params.part_dtype, part_at, part);
#pragma unroll
        for (int i = 0; i < ELEMENTS; i++) merged[i] += weight / sum * part[i];
    }
    __syncwarp();
    if (has_elements) store_eight(params.out, (pod_dtype)params.out_dtype, out_at, merged);
    if (lane > 0 || params.lse == nullptr) return;
    params.lse[token * params.lse_token_stride + head * params.lse_head_stride] = pod_merge_total(max, sum);
}

extern "C" __global__ void __launch_bounds__(POD_MERGE_THREADS)
    pod_merge_rows(const __grid_constant__ pod_merge_params params) {
    int warp = (int)ptx_tid() / LANES, lane = (int)ptx_tid() % LANES;
    constexpr int WARPS = POD_MERGE_THREADS / LANES;
    int64_t step = (int64_t)gridDim.x * WARPS;
    for (int64_t row = (int64_t)blockIdx.x * WARPS + warp; row < params.num_rows; row += step) {
        merge_row(params, row, lane);
    }
}
