/* SPDX-License-Identifier: Apache-2.0 */
/* Appends a step's K and V to the cache, and rotates its Q: a warp takes a unit, which is a token and up to
 * POD_APPEND_STEPS times as many of its rows, or of their pieces, as fit the warp, a lane eight elements. Bound by
 * memory: all of a unit's rows are asked for before the first is used, and while they come the lane's cosines and sines
 * are computed. */
#include "cache/append_core.h"
#include "cache/rope_core.h"
#include "cuda/kernels/append/append_params.h"
#include "cuda/kernels/eight.cuh"
#include "cuda/kernels/ptx/cvt_f8.cuh"

constexpr int LANES = 32;
constexpr int STEPS = POD_APPEND_STEPS;
static_assert(POD_APPEND_ELEMENTS == EIGHT, "a lane's share of a row");
static_assert(sizeof(pod_append_job) <= 4096, "a kernel's parameters");

enum rows_kind { ROWS_K, ROWS_V, ROWS_Q };

/** A token's rows of one kind, [heads][dim]. */
struct append_rows {
    const void *from;
    void *to;
    int64_t from_at, from_head, to_head; /**< elements: of the first row, and from row to row */
    int32_t heads, dim;
    pod_dtype from_dtype, to_dtype;
    const float *scales; /**< NULL: none */
    bool is_rotated;
};

static __device__ __forceinline__ append_rows rows_of(const pod_append_job &job, rows_kind kind, int64_t token) {
    const pod_append &a = job.given;
    const pod_cache &c = job.cache;
    bool has_rope = a.rope != nullptr;
    if (kind == ROWS_K) {
        return {a.k,
                c.k,
                token * a.k_token_stride,
                a.k_head_stride,
                c.k_head_stride,
                job.kv_heads,
                job.head_dim,
                a.dtype,
                job.kv_dtype,
                c.k_scale,
                has_rope};
    }
    if (kind == ROWS_V) {
        return {a.v,
                c.v,
                token * a.v_token_stride,
                a.v_head_stride,
                c.v_head_stride,
                job.kv_heads,
                job.v_head_dim,
                a.dtype,
                job.kv_dtype,
                c.v_scale,
                false};
    }
    return {a.q,
            a.q_out,
            token * a.q_token_stride,
            a.q_head_stride,
            a.q_out_head_stride,
            job.q_heads,
            job.head_dim,
            a.dtype,
            job.q_dtype,
            nullptr,
            has_rope};
}

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

/** First element of the token's first row where it goes. */
static __device__ __forceinline__ int64_t to_offset(const pod_append_job &job, rows_kind kind, int64_t token,
                                                    const pod_append_place &place) {
    const pod_cache &c = job.cache;
    if (kind == ROWS_Q) return token * job.given.q_out_token_stride;
    pod_cache_strides strides = {c.v_page_stride, c.v_token_stride, c.v_head_stride};
    if (kind == ROWS_K) strides = {c.k_page_stride, c.k_token_stride, c.k_head_stride};
    return pod_core_cache_offset(&strides, place.page, place.slot, 0);
}

/** What a lane's elements are rotated by: x becomes x cos + partner sin. */
struct lane_rotation {
    float cos[EIGHT], sin[EIGHT];
};

/** The element that `element`, one of the rotated ones, is rotated with, where pairs are in halves. */
static __device__ __forceinline__ int32_t partner_of(const pod_rope &rope, int32_t element) {
    int32_t half = rope.rotary_dim / 2;
    return element < half ? element + half : element - half;
}

/** One element, of a table or of a row. */
static __device__ __forceinline__ float load_one(const void *array, pod_dtype dtype, int64_t at) {
    if (dtype == POD_F32) return ((const float *)array)[at];
    uint32_t half = ((const uint16_t *)array)[at];
    return dtype == POD_BF16 ? pod_element_bf16::unpack(half).x : pod_element_f16::unpack(half).x;
}

static __device__ __forceinline__ pod_rope_angle angle_of(const pod_append_job &job, int64_t position, int32_t pair) {
    const pod_rope &rope = job.rope;
    if (rope.cos != nullptr) {
        int64_t at = position * rope.table_stride + pair;
        return {load_one(rope.cos, rope.table_dtype, at), load_one(rope.sin, rope.table_dtype, at)};
    }
    pod_rope_angle angle = pod_rope_core_angle(job.turns.turns[pair], (uint64_t)position);
    return {angle.cos * job.turns.amplitude, angle.sin * job.turns.amplitude};
}

static __device__ __forceinline__ void find_rotation(const pod_append_job &job, int64_t position, int32_t first,
                                                     lane_rotation &rotation) {
    const pod_rope &rope = job.rope;
    int32_t half = rope.rotary_dim / 2;
    bool is_pairs = rope.style == POD_ROPE_PAIRS;
#pragma unroll
    for (int i = 0; i < EIGHT; i++) {
        int32_t element = first + i;
        rotation.cos[i] = 1.0f;
        rotation.sin[i] = 0.0f;
        if (element >= rope.rotary_dim) continue;
        bool is_second = is_pairs ? element % 2 != 0 : element >= half;
        pod_rope_angle angle = angle_of(job, position, is_pairs ? element / 2 : is_second ? element - half : element);
        rotation.cos[i] = angle.cos;
        rotation.sin[i] = is_second ? angle.sin : -angle.sin;
    }
}

/** The partners of a lane's elements, for those that are rotated; all lanes of the warp call it. Halves of whole lanes'
 * shares change places between lanes; others are read again, before any lane writes this row. */
static __device__ __forceinline__ void find_partners(const pod_append_job &job, const append_rows &rows, int64_t row_at,
                                                     int32_t first, bool is_active, const float (&own)[EIGHT],
                                                     float (&partners)[EIGHT]) {
    const pod_rope &rope = job.rope;
    if (rope.style == POD_ROPE_PAIRS) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) partners[i] = own[i ^ 1];
    } else if (rope.rotary_dim / 2 % EIGHT == 0) {
        int32_t lane = (int32_t)ptx_tid() % LANES, from = lane;
        if (first < rope.rotary_dim) from += (partner_of(rope, first) - first) / EIGHT;
#pragma unroll
        for (int i = 0; i < EIGHT; i++) partners[i] = __shfl_sync(~0u, own[i], from);
    } else {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            partners[i] = 0.0f;
            if (!is_active || first + i >= rope.rotary_dim) continue;
            partners[i] = load_one(rows.from, rows.from_dtype, row_at + partner_of(rope, first + i));
        }
        __syncwarp();
    }
}

/** store_eight() for e4m3: half as many bytes as an aligned store of other dtypes has. */
static __device__ __forceinline__ void store_f8(void *array, int64_t at, const float (&x)[EIGHT]) {
    uint32_t low = cvt_to_f8e4m3x2(x[0], x[1]) | cvt_to_f8e4m3x2(x[2], x[3]) << 16;
    uint32_t high = cvt_to_f8e4m3x2(x[4], x[5]) | cvt_to_f8e4m3x2(x[6], x[7]) << 16;
    *(uint2 *)((uint8_t *)array + at) = make_uint2(low, high);
}

/** Where a lane is in its unit. */
struct lane_place {
    int32_t piece, per_step; /**< the first one, of all rows' pieces, and how many a step has */
    int32_t first;           /**< element of the piece */
};

/** A lane's elements in a step. */
struct lane_elements {
    int32_t head, first;
};
static __device__ __forceinline__ lane_elements elements_at(const append_rows &rows, const lane_place &at, int step) {
    int32_t piece = at.piece + step * at.per_step;
    if (rows.dim <= POD_APPEND_PIECE) return {piece, at.first};
    int32_t pieces = pod_append_pieces(rows.dim), head = piece / pieces;
    return {head, at.first + (piece - head * pieces) * POD_APPEND_PIECE};
}

static __device__ __forceinline__ void load_rows(const append_rows &rows, const lane_place &at,
                                                 float (&own)[STEPS][EIGHT]) {
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        lane_elements own_at = elements_at(rows, at, s);
        if (own_at.first >= rows.dim || own_at.head >= rows.heads) continue;
        load_eight(rows.from, rows.from_dtype, rows.from_at + own_at.head * rows.from_head + own_at.first, own[s]);
    }
}

/** Up to STEPS times as many rows as fit the warp. q_out may be q: a step's rows are read by this warp alone, all of
 * them before it writes the first. */
static __device__ __forceinline__ void append_unit(const pod_append_job &job, rows_kind kind, int32_t token,
                                                   int32_t unit, int lane) {
    append_rows rows = rows_of(job, kind, token);
    int32_t lanes = pod_append_lanes(rows.dim), per_step = LANES / lanes;
    lane_place at = {unit * STEPS * per_step + lane / lanes, per_step, lane % lanes * EIGHT};
    float own[STEPS][EIGHT] = {};
    bool has_batch = job.requests != nullptr;
    if (!has_batch) load_rows(rows, at, own);
    int32_t request = has_batch ? find_request(job, token, lane) : -1;
    pod_append_place place = pod_append_core_place(&job, request, token);
    if (place.is_bad && lane == 0 && job.given.bad_token != nullptr) {
        *(volatile int32_t *)job.given.bad_token = 1 + token;
    }
    if (kind == ROWS_Q ? !place.has_position : !place.is_stored) return;
    if (has_batch) load_rows(rows, at, own); /* a token of no request may be behind the arrays' end */
    lane_rotation rotation;
    if (rows.is_rotated) find_rotation(job, place.position, at.first, rotation);
    int64_t to = to_offset(job, kind, token, place);
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        lane_elements own_at = elements_at(rows, at, s);
        int32_t head = own_at.head, first = own_at.first;
        bool is_active = first < rows.dim && head < rows.heads;
        if (rows.is_rotated) {
            float partners[EIGHT];
            find_partners(job, rows, rows.from_at + head * rows.from_head, first, is_active, own[s], partners);
#pragma unroll
            for (int i = 0; i < EIGHT; i++) {
                if (first + i >= job.rope.rotary_dim) continue;
                own[s][i] = own[s][i] * rotation.cos[i] + partners[i] * rotation.sin[i];
            }
        }
        if (!is_active) continue;
        if (rows.scales != nullptr) {
            float scale = rows.scales[head * job.cache.scale_stride];
#pragma unroll
            for (int i = 0; i < EIGHT; i++) own[s][i] /= scale;
        }
        int64_t to_at = to + head * rows.to_head + first;
        if (rows.to_dtype == POD_F8E4M3)
            store_f8(rows.to, to_at, own[s]);
        else
            store_eight(rows.to, rows.to_dtype, to_at, own[s]);
    }
}

extern "C" __global__ void __launch_bounds__(POD_APPEND_THREADS)
    pod_append_rows(const __grid_constant__ pod_append_job job) {
    constexpr int WARPS = POD_APPEND_THREADS / LANES;
    int warp = (int)ptx_tid() / LANES, lane = (int)ptx_tid() % LANES;
    pod_append_shares share = pod_append_share(&job);
    int32_t each = share.k + share.v + share.q;
    int64_t num_units = (int64_t)each * job.given.num_tokens, step = (int64_t)gridDim.x * WARPS;
    for (int64_t i = (int64_t)blockIdx.x * WARPS + warp; i < num_units; i += step) {
        int32_t token = (int32_t)pod_core_div(i, each), unit = (int32_t)(i - (int64_t)token * each);
        rows_kind kind = unit < share.k ? ROWS_K : unit < share.k + share.v ? ROWS_V : ROWS_Q;
        int32_t before = kind == ROWS_K ? 0 : kind == ROWS_V ? share.k : share.k + share.v;
        append_unit(job, kind, token, unit - before, lane);
    }
}
