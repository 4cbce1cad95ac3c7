/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary embedding in the appending kernel: a warp computes the cosines and sines of its token's pairs once, for all
 * rows that it takes, and its lanes read those of their chunks from shared memory. */
#ifndef POD_CUDA_APPEND_ROTATION_CUH
#define POD_CUDA_APPEND_ROTATION_CUH

#include "cache/rope_core.h"
#include "cuda/kernels/append/append_params.h"
#include "cuda/kernels/append/one_element.cuh"
#include "cuda/kernels/eight.cuh"

/** A warp's cosines and sines, in fours of neighbouring pairs: even fours, then odd ones. The gap puts both on
 * different banks where lanes read two fours each, and where they read one. */
struct warp_rotation {
    static constexpr int FOUR = 4, ODD_FOURS = POD_ROPE_MAX_PAIRS / 2 + 16;
    float cos[ODD_FOURS + POD_ROPE_MAX_PAIRS / 2], sin[ODD_FOURS + POD_ROPE_MAX_PAIRS / 2];

    static __device__ __forceinline__ int32_t place_of(int32_t pair) {
        int32_t four = pair / FOUR;
        return four / 2 * FOUR + (four % 2 != 0 ? ODD_FOURS : 0) + pair % FOUR;
    }
};

static __device__ __forceinline__ pod_rope_angle angle_of(const pod_append_job &job, int64_t position, int32_t pair) {
    const pod_rope &rope = job.rope;
    if (rope.cos != nullptr) {
        int64_t at = position * rope.table_stride + pair;
        return {load_one(rope.cos, rope.table_dtype, at), load_one(rope.sin, rope.table_dtype, at)};
    }
    /* By a generic address: the constant bank serves one lane after the other where their addresses differ. */
    pod_rope_angle angle = pod_rope_core_angle(ptx_ld_u64(&job.turns.turns[pair]), (uint64_t)position);
    return {angle.cos * job.turns.amplitude, angle.sin * job.turns.amplitude};
}

/** Fills in the warp's rotation; all of its lanes call it. */
static __device__ __forceinline__ void find_rotation(const pod_append_job &job, int64_t position, int lane,
                                                     warp_rotation &rotation) {
    int32_t num_pairs = job.rope.rotary_dim / 2;
    for (int32_t pair = lane; pair < num_pairs; pair += POD_APPEND_LANES) {
        pod_rope_angle angle = angle_of(job, position, pair);
        rotation.cos[warp_rotation::place_of(pair)] = angle.cos;
        rotation.sin[warp_rotation::place_of(pair)] = angle.sin;
    }
    __syncwarp();
}

/** Of four neighbouring pairs, which begin at `pair`. */
static __device__ __forceinline__ void load_four(const warp_rotation &rotation, int32_t pair, float *cos, float *sin) {
    float4 c = *(const float4 *)&rotation.cos[warp_rotation::place_of(pair)];
    float4 s = *(const float4 *)&rotation.sin[warp_rotation::place_of(pair)];
    cos[0] = c.x, cos[1] = c.y, cos[2] = c.z, cos[3] = c.w;
    sin[0] = s.x, sin[1] = s.y, sin[2] = s.z, sin[3] = s.w;
}

static __device__ __forceinline__ void rotate(float &first, float &second, float cos, float sin) {
    float was = first;
    first = first * cos - second * sin;
    second = second * cos + was * sin;
}

/** A lane's two chunks, whose elements are each other's partners; `pair` is the first one's. */
static __device__ __forceinline__ void rotate_halves(const warp_rotation &rotation, int32_t pair, float (&first)[EIGHT],
                                                     float (&second)[EIGHT]) {
#pragma unroll
    for (int four = 0; four < EIGHT; four += warp_rotation::FOUR) {
        float cos[warp_rotation::FOUR], sin[warp_rotation::FOUR];
        load_four(rotation, pair + four, cos, sin);
#pragma unroll
        for (int i = 0; i < warp_rotation::FOUR; i++) rotate(first[four + i], second[four + i], cos[i], sin[i]);
    }
}

/** A chunk whose neighbours are pairs. */
static __device__ __forceinline__ void rotate_pairs(const warp_rotation &rotation, int32_t pair, float (&x)[EIGHT]) {
    float cos[warp_rotation::FOUR], sin[warp_rotation::FOUR];
    load_four(rotation, pair, cos, sin);
#pragma unroll
    for (int i = 0; i < warp_rotation::FOUR; i++) rotate(x[2 * i], x[2 * i + 1], cos[i], sin[i]);
}

#endif
