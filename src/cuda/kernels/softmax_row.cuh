/* SPDX-License-Identifier: Apache-2.0 */
/* The online softmax of a row, from its scores to its LSE. */
#ifndef POD_CUDA_SOFTMAX_ROW_CUH
#define POD_CUDA_SOFTMAX_ROW_CUH

#include "cuda/kernels/address.cuh"
#include "cuda/kernels/ptx/ptx_sm80.cuh"
#include "schedule/merge_core.h"

#include <cfloat>

/** Score in log2 units from the raw dot product; with a softcap: cap * tanh(scale * dot / cap). */
static __device__ __forceinline__ float softcap_score(const pod_kernel_params &params, float dot) {
    /* tanh(x) = 1 - 2 / (2^(2 x log2(e)) + 1), right at both infinities. Near 0, where that cancels, x times a
     * polynomial; and x times the cap is the score without a cap, which is exact for caps of any size. */
    float x = params.softcap_argument * dot, score = params.softcap_slope * dot, square = x * x;
    float p = fmaf(fmaf(-0.047796711f, square, 0.13277549f), square, -0.33331865f); /* within 2^-23 below 0.4 */
    float near = fmaf(score * square, p, score);
    float power = ptx_ex2(2.0f * POD_LOG2_E * x);
    float far = params.softcap_log2 * (1.0f - __fdividef(2.0f, power + 1.0f));
    return fabsf(x) < 0.4f ? near : far;
}

/** What a KV head's dot products, after a softcap if there is one, are multiplied by: to log2 units. No subnormal
 * number where a scale of the cache joins it, of which a masked score would make NaN. */
template <class ELEMENT>
static __device__ __forceinline__ float row_scale(const pod_kernel_params &params, int32_t kv_head) {
    if constexpr (ELEMENT::KV_BYTES == 2) return params.score_scale;
    if (params.softcap_log2 > 0.0f) return params.score_scale;
    return fminf(fmaxf(params.score_scale * ELEMENT::key_unit(params, kv_head), FLT_MIN * 1024.0f), FLT_MAX);
}

/** The same before ALiBi, which adds to scores in log2 units. */
template <class ELEMENT>
static __device__ __forceinline__ float alibi_scale(const pod_kernel_params &params, int32_t kv_head) {
    float unit = params.softcap_log2 > 0.0f ? 1.0f : ELEMENT::key_unit(params, kv_head);
    return fminf(fmaxf(params.alibi_scale * unit, FLT_MIN * 1024.0f), FLT_MAX);
}

/** What ALiBi adds to a score in log2 units, for each key that the key is further right of the query. */
static __device__ __forceinline__ float alibi_step(const pod_kernel_params &params, int32_t kv_head, int32_t head) {
    return __ldg(params.alibi_slopes + kv_head * params.shape.group + head) * POD_LOG2_E;
}

/* A row's *origin* is what its exponents count from, in log2 units. It rises only where a probability would come out
 * too large (POD_RESCALE_LOG2), not with every new maximum. */

/** The origin of a row that has seen no key yet. Finite: -inf - NO_KEY_YET is an exponent, -inf + inf is none. */
static constexpr float NO_KEY_YET = -FLT_MAX;

/** The exponent of a score where the origin is far: rounded before the origin is taken away, so that a score that
 * equals its row's maximum has exactly 0 whatever its size. Elsewhere fmaf(score, scale, -origin) does, one instruction
 * less: the origin's rounding error is the same for all of a row's scores, and its sum has it too. */
static __device__ __forceinline__ float exponent(float score, float scale, float origin) {
    return __fadd_rn(__fmul_rn(score, scale), -origin);
}

/** From here on an origin is far: its rounding error can be more than 1, and a probability might leave what f16 can
 * hold. */
static constexpr float FAR_ORIGIN = 0x1p25f;

/** Whether the origin of a row that has seen a key is far. */
static __device__ __forceinline__ bool is_far(float origin) {
    return fabsf(origin) >= FAR_ORIGIN && origin != NO_KEY_YET;
}

/** Raises a row's origin to `seen`, if that is above it; its sum follows. Returns what the row's output is to be
 * multiplied by. */
static __device__ __forceinline__ float raise_row(float &origin, float &sum, float seen) {
    float raised = fmaxf(seen, origin);
    float factor = ptx_ex2(origin - raised);
    origin = raised;
    sum *= factor;
    return factor;
}

/** The maximum of a partial: it is -inf where no key was seen. */
static __device__ __forceinline__ float partial_max(float origin) {
    return origin == NO_KEY_YET ? -INFINITY : origin;
}

/** Ends a row: joins the sink (not for a bad request, whose LSE is -inf), writes the LSE if `writes_lse`, returns what
 * the row's output is multiplied by. */
static __device__ __forceinline__ float finish_row(const pod_kernel_params &params, const pod_request &request,
                                                   int32_t kv_head, row_place place, float2 max_sum, bool writes_lse) {
    int32_t head = kv_head * params.shape.group + place.head;
    float factor = 1.0f;
    if (params.sinks != nullptr && request.error == POD_REQUEST_OK)
        factor = pod_merge_sink(&max_sum.x, &max_sum.y, params.sinks[head]);
    if (params.lse != nullptr && writes_lse) {
        params.lse[(request.q_begin + place.token) * params.lse_token_stride + head * params.lse_head_stride] =
            pod_merge_lse(max_sum.x, max_sum.y);
    }
    return factor * pod_merge_normaliser(max_sum.y);
}

#endif
