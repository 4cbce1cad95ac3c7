/* SPDX-License-Identifier: Apache-2.0 */
/* Merges partial results by their LSEs: a warp takes a row (a query token's head), a lane eight of its elements. Bound
 * by memory: every part is read once, the result written once. */
#include "cuda/kernels/merge/merge_params.h"
#include "schedule/merge_core.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

constexpr int LANES = 32;
constexpr int ELEMENTS = POD_MERGE_ELEMENTS;

/** Eight elements of an array, from a multiple of 16 bytes on. */
static __device__ __forceinline__ void load(const void *array, int32_t dtype, int64_t at, float (&values)[ELEMENTS]) {
    if (dtype == POD_MERGE_F32) {
        const float4 *from = (const float4 *)((const float *)array + at);
        float4 low = from[0], high = from[1];
        values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
        values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
        return;
    }
    uint4 packed = *(const uint4 *)((const uint16_t *)array + at);
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 pair = dtype == POD_MERGE_BF16 ? __bfloat1622float2(*(const __nv_bfloat162 *)&words[i])
                                              : __half22float2(*(const __half2 *)&words[i]);
        values[2 * i] = pair.x;
        values[2 * i + 1] = pair.y;
    }
}

static __device__ __forceinline__ void store(void *array, int32_t dtype, int64_t at, const float (&values)[ELEMENTS]) {
    if (dtype == POD_MERGE_F32) {
        float4 *to = (float4 *)((float *)array + at);
        to[0] = make_float4(values[0], values[1], values[2], values[3]);
        to[1] = make_float4(values[4], values[5], values[6], values[7]);
        return;
    }
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (dtype == POD_MERGE_BF16) {
            *(__nv_bfloat162 *)&words[i] = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
        } else {
            *(__half2 *)&words[i] = __floats2half2_rn(values[2 * i], values[2 * i + 1]);
        }
    }
    *(uint4 *)((uint16_t *)array + at) = make_uint4(words[0], words[1], words[2], words[3]);
}

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
        load(params.part_outs[p], params.part_dtype, part_at, part);
#pragma unroll
        for (int i = 0; i < ELEMENTS; i++) merged[i] += weight / sum * part[i];
    }
    __syncwarp();
    if (has_elements) store(params.out, params.out_dtype, out_at, merged);
    if (lane > 0 || params.lse == nullptr) return;
    params.lse[token * params.lse_token_stride + head * params.lse_head_stride] = pod_merge_total(max, sum);
}

extern "C" __global__ void __launch_bounds__(POD_MERGE_THREADS)
    pod_merge(const __grid_constant__ pod_merge_params params) {
    int warp = (int)threadIdx.x / LANES, lane = (int)threadIdx.x % LANES;
    constexpr int WARPS = POD_MERGE_THREADS / LANES;
    int64_t step = (int64_t)gridDim.x * WARPS;
    for (int64_t row = (int64_t)blockIdx.x * WARPS + warp; row < params.num_rows; row += step) {
        merge_row(params, row, lane);
    }
}
