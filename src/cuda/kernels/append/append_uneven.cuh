/* SPDX-License-Identifier: Apache-2.0 */
/* Rows in which what is rotated ends within a chunk, as of a rotary_dim of 20: element by element. A lane takes pairs,
 * then single elements behind them: it alone reads and writes them, so that q_out may be q. */
#ifndef POD_CUDA_APPEND_UNEVEN_CUH
#define POD_CUDA_APPEND_UNEVEN_CUH

#include "cuda/kernels/append/append_rotation.cuh"

/** Elements `first` and `second` of a row, rotated with each other, or one of them alone. */
static __device__ __forceinline__ void move_elements(const pod_append_job &job, const pod_append_stripe &stripe,
                                                     int64_t from_at, int64_t to_at, float scale, int32_t first,
                                                     int32_t second, float cos, float sin) {
    float x = load_one(stripe.from, job.given.dtype, from_at + first), y = 0.0f;
    if (second != first) {
        y = load_one(stripe.from, job.given.dtype, from_at + second);
        rotate(x, y, cos, sin);
        store_one(stripe.to, stripe.to_dtype, to_at + second, y / scale);
    }
    store_one(stripe.to, stripe.to_dtype, to_at + first, x / scale);
}

/** A unit's heads [begin, end) of a token whose rotation is there. */
static __device__ __forceinline__ void append_uneven(const pod_append_job &job, const pod_append_stripe &stripe,
                                                     int32_t begin, int32_t end, int64_t from_at, int64_t to_at,
                                                     const warp_rotation &rotation, int lane) {
    int32_t half = job.rope.rotary_dim / 2, dim = stripe.num_chunks * EIGHT;
    bool is_pairs = job.rope.style == POD_ROPE_PAIRS;
    for (int32_t head = begin; head < end; head++) {
        int64_t from_row = from_at + head * stripe.from_head_stride, to_row = to_at + head * stripe.to_head_stride;
        float scale = stripe.scales != nullptr ? stripe.scales[head * job.cache.scale_stride] : 1.0f;
        for (int32_t pair = lane; pair < half; pair += POD_APPEND_LANES) {
            int32_t first = is_pairs ? 2 * pair : pair, at = warp_rotation::place_of(pair);
            move_elements(job, stripe, from_row, to_row, scale, first, is_pairs ? first + 1 : first + half,
                          rotation.cos[at], rotation.sin[at]);
        }
        for (int32_t i = 2 * half + lane; i < dim; i += POD_APPEND_LANES) {
            move_elements(job, stripe, from_row, to_row, scale, i, i, 1.0f, 0.0f);
        }
    }
}

#endif
