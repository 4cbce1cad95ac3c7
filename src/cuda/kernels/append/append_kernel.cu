/* SPDX-License-Identifier: Apache-2.0 */
/* Appends a step's K and V to the cache, and rotates its Q: a warp takes a unit of a token, a few of its rows, and a
 * lane two chunks of each. Bound by memory: all of a unit's rows are asked for before anything is waited for, and while
 * they come the token's place and its cosines and sines are found. Elements that are rotated with each other are one
 * lane's. */
#include "cache/append_core.h"
#include "cuda/kernels/append/append_params.h"
#include "cuda/kernels/append/append_rotation.cuh"
#include "cuda/kernels/append/append_uneven.cuh"
#include "cuda/kernels/cta.cuh"
#include "cuda/kernels/eight.cuh"

constexpr int LANES = POD_APPEND_LANES;
static_assert(POD_APPEND_ELEMENTS == EIGHT, "a chunk");
static_assert(sizeof(pod_append_params) <= 4096, "a kernel's parameters");
static_assert(POD_APPEND_TOKENS * sizeof(warp_rotation) == POD_APPEND_SMEM_BYTES, "shared memory");

/** The request that owns the token, -1 if none does. 32 lanes look in the sorted requests; where one of these is wrong
 * the order may be, and all are looked at. */
static __device__ __forceinline__ int32_t find_request(const pod_append_job &job, int32_t token, int lane) {
    int32_t low = 0, high = job.num_requests;
    while (high - low > 1) {
        int32_t step = (high - low + LANES - 1) / LANES, probe = low + lane * step;
        bool is_before = probe < high && job.requests[probe].q_begin <= token;
        int32_t count = __popc(__ballot_sync(~0u, is_before));
        if (count == 0) break;
        low += (count - 1) * step;
        high = min(high, low + step);
    }
    if (low < job.num_requests && pod_append_core_owns(&job, low, token)) return low;
    for (int32_t begin = 0; begin < job.num_requests; begin += LANES) {
        bool owns = begin + lane < job.num_requests && pod_append_core_owns(&job, begin + lane, token);
        uint32_t owners = __ballot_sync(~0u, owns);
        if (owners != 0) return begin + __ffs((int)owners) - 1;
    }
    return -1;
}

/** A lane's share of a unit, as it is in memory; of f16 and bf16 alike. */
template <class EIGHT_OF> constexpr int STEPS_OF = POD_APPEND_LANE_BYTES / (2 * (int)sizeof(typename EIGHT_OF::raw));
template <class EIGHT_OF> using unit_chunks = typename EIGHT_OF::raw[STEPS_OF<EIGHT_OF>][2];

template <class FROM>
static __device__ __forceinline__ void load_unit(const pod_append_stripe &stripe, int32_t token,
                                                 const pod_append_lane &at, unit_chunks<FROM> &raw) {
    int64_t row_at = token * stripe.from_token_stride + at.head * stripe.from_head_stride;
#pragma unroll
    for (int s = 0; s < STEPS_OF<FROM>; s++) {
        bool is_head = at.head + s * at.per_step < stripe.heads;
        if (is_head && at.has_first) raw[s][0] = FROM::load(stripe.from, row_at + at.chunks[0] * EIGHT);
        if (is_head && at.has_second) raw[s][1] = FROM::load(stripe.from, row_at + at.chunks[1] * EIGHT);
        row_at += at.per_step * stripe.from_head_stride;
    }
}

static __device__ __forceinline__ void rotate_chunks(const pod_append_stripe &stripe, int32_t rotary_dim,
                                                     const pod_append_lane &at, const warp_rotation &rotation,
                                                     float (&x)[2][EIGHT]) {
    if (stripe.rotation == POD_APPEND_HALVES) {
        if (at.item < stripe.num_paired) rotate_halves(rotation, at.item * EIGHT, x[0], x[1]);
    } else if (stripe.rotation == POD_APPEND_PAIRS) {
#pragma unroll
        for (int c = 0; c < 2; c++) {
            if (at.chunks[c] * EIGHT < rotary_dim) rotate_pairs(rotation, at.chunks[c] * (EIGHT / 2), x[c]);
        }
    }
}

template <class FROM, class TO>
static __device__ __forceinline__ void store_unit(const pod_append_job &job, const pod_append_stripe &stripe,
                                                  const pod_append_lane &at, int64_t to_at,
                                                  const warp_rotation &rotation, const unit_chunks<FROM> &raw) {
    to_at += at.head * stripe.to_head_stride;
#pragma unroll
    for (int s = 0; s < STEPS_OF<FROM>; s++) {
        int32_t head = at.head + s * at.per_step;
        if (!at.has_first || head >= stripe.heads) return;
        float x[2][EIGHT];
#pragma unroll
        for (int c = 0; c < 2; c++) FROM::unpack(raw[s][c], x[c]);
        rotate_chunks(stripe, job.rope.rotary_dim, at, rotation, x);
        if (stripe.scales != nullptr) {
            float scale = stripe.scales[head * job.cache.scale_stride];
#pragma unroll
            for (int i = 0; i < 2 * EIGHT; i++) x[i / EIGHT][i % EIGHT] /= scale;
        }
        TO::store(stripe.to, to_at + at.chunks[0] * EIGHT, TO::pack(x[0]));
        if (at.has_second) TO::store(stripe.to, to_at + at.chunks[1] * EIGHT, TO::pack(x[1]));
        to_at += at.per_step * stripe.to_head_stride;
    }
}

/** No kernel of a GPU reads a cache or queries of f32. */
template <class FROM>
static __device__ __forceinline__ void store_from(const pod_append_job &job, const pod_append_stripe &stripe,
                                                  const pod_append_lane &at, int64_t to_at,
                                                  const warp_rotation &rotation, const unit_chunks<FROM> &raw) {
    if (stripe.to_dtype == POD_BF16)
        store_unit<FROM, eight_bf16>(job, stripe, at, to_at, rotation, raw);
    else if (stripe.to_dtype == POD_F16)
        store_unit<FROM, eight_f16>(job, stripe, at, to_at, rotation, raw);
    else
        store_unit<FROM, eight_f8e4m3>(job, stripe, at, to_at, rotation, raw);
}

static __device__ __forceinline__ void store_any(const pod_append_job &job, const pod_append_stripe &stripe,
                                                 const pod_append_lane &at, int64_t to_at,
                                                 const warp_rotation &rotation, const unit_chunks<eight_bf16> &raw) {
    if (job.given.dtype == POD_BF16)
        store_from<eight_bf16>(job, stripe, at, to_at, rotation, raw);
    else
        store_from<eight_f16>(job, stripe, at, to_at, rotation, raw);
}
static __device__ __forceinline__ void store_any(const pod_append_job &job, const pod_append_stripe &stripe,
                                                 const pod_append_lane &at, int64_t to_at,
                                                 const warp_rotation &rotation, const unit_chunks<eight_f32> &raw) {
    store_from<eight_f32>(job, stripe, at, to_at, rotation, raw);
}

/** q_out may be q: an element is written by the lane that has read it, and by no other. */
template <class FROM>
static __device__ __forceinline__ void append_unit(const pod_append_params &params, const pod_append_stripe &stripe,
                                                   int32_t token, int lane, warp_rotation &rotation) {
    const pod_append_job &job = params.job;
    int32_t unit_heads = STEPS_OF<FROM> * (LANES >> stripe.lane_shift);
    int32_t first_head = ((int32_t)blockIdx.y - stripe.first_unit) * unit_heads;
    pod_append_lane at = pod_append_core_lane(&stripe, first_head, lane);
    bool is_uneven = stripe.rotation == POD_APPEND_UNEVEN, has_batch = job.requests != nullptr;
    bool is_there = !has_batch || job.told_tokens > 0; /* otherwise a token of no request may be behind the arrays */
    unit_chunks<FROM> raw = {};
    if (is_there && !is_uneven) load_unit<FROM>(stripe, token, at, raw);
    int32_t request = has_batch ? find_request(job, token, lane) : -1;
    pod_append_place place = pod_append_core_place(&job, request, token);
    if (place.is_bad && lane == 0 && job.given.bad_token != nullptr) {
        *(volatile int32_t *)job.given.bad_token = 1 + token;
    }
    bool is_query = stripe.kind == POD_APPEND_Q;
    if (is_query ? !place.has_position : !place.is_stored) return;
    if (!is_there && !is_uneven) load_unit<FROM>(stripe, token, at, raw);
    if (stripe.rotation != POD_APPEND_MOVED) find_rotation(job, place.position, lane, rotation);
    pod_cache_strides strides = {stripe.to_page_stride, stripe.to_token_stride, stripe.to_head_stride};
    int64_t to_at = token * stripe.to_token_stride;
    if (!is_query) to_at = pod_core_cache_offset(&strides, place.page, place.slot, 0);
    if (is_uneven) {
        append_uneven(job, stripe, first_head, min(first_head + unit_heads, stripe.heads),
                      token * stripe.from_token_stride, to_at, rotation, lane);
        return;
    }
    store_any(job, stripe, at, to_at, rotation, raw);
}

extern "C" __global__ void __launch_bounds__(POD_APPEND_THREADS, POD_APPEND_CTAS_PER_SM)
    pod_append_rows(const __grid_constant__ pod_append_params params) {
    int warp = (int)ptx_tid() / LANES, lane = (int)ptx_tid() % LANES;
    int32_t token = (int32_t)blockIdx.x * POD_APPEND_TOKENS + warp;
    if (token >= params.job.given.num_tokens) return;
    const pod_append_stripe &stripe = params.stripes[pod_append_core_stripe(&params, (int32_t)blockIdx.y)];
    warp_rotation &rotation = ((warp_rotation *)dynamic_smem)[warp];
    if (params.job.given.dtype == POD_F32)
        append_unit<eight_f32>(params, stripe, token, lane, rotation);
    else
        append_unit<eight_bf16>(params, stripe, token, lane, rotation);
}
