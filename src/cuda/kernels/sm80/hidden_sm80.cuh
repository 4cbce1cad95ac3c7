/* SPDX-License-Identifier: Apache-2.0 */
/* Values of keys that some rows of an item see and others do not. For the others their weight is 0, and 0 times a value
 * that is not finite would be NaN. So in tiles with such keys every value is looked at, and what is not finite becomes
 * 0. Where there was any, it is read again from the cache when the item ends, and added to the rows that see it: a
 * weight does not change an infinity or NaN. */
#ifndef POD_SM80_HIDDEN_CUH
#define POD_SM80_HIDDEN_CUH

#include "cuda/kernels/address.cuh"
#include "cuda/kernels/element.cuh"

template <class ELEMENT> struct hidden_sm80 {
    static __device__ __forceinline__ bool is_finite(float x) {
        return x * 0.0f == 0.0f;
    }

    /** Whether all of a thread's chunks are finite: COUNT of them, STEP_BYTES apart. */
    template <int COUNT, int STEP_BYTES> static __device__ __forceinline__ bool are_finite(const char *chunk) {
        uint32_t sums = 0; /* of elements times 0 */
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            uint4 pairs = *(const uint4 *)(chunk + i * STEP_BYTES);
            sums = ELEMENT::add_times_zero(sums, pairs.x);
            sums = ELEMENT::add_times_zero(sums, pairs.y);
            sums = ELEMENT::add_times_zero(sums, pairs.z);
            sums = ELEMENT::add_times_zero(sums, pairs.w);
        }
        float2 both = ELEMENT::unpack(sums);
        return both.x + both.y == 0.0f;
    }

    /** Puts zeros for what is not finite of a thread's chunks. Returns whether there was any. */
    template <int COUNT, int STEP_BYTES> static __device__ __forceinline__ bool clear(char *chunk) {
        if (__builtin_expect(are_finite<COUNT, STEP_BYTES>(chunk), 1)) return false;
#pragma unroll 1
        for (int i = 0; i < COUNT * 4; i++) {
            uint32_t *pair = (uint32_t *)(chunk + i / 4 * STEP_BYTES) + i % 4;
            float2 values = ELEMENT::unpack(*pair);
            *pair &= (is_finite(values.x) ? 0xffffu : 0u) | (is_finite(values.y) ? 0xffff0000u : 0u);
        }
        return true;
    }

    /** What is not finite of two elements, and 0 for the others. */
    static __device__ __forceinline__ float2 lost(uint32_t pair) {
        float2 values = ELEMENT::unpack(pair);
        return make_float2(is_finite(values.x) ? 0.0f : values.x, is_finite(values.y) ? 0.0f : values.y);
    }

    /** A key's value in the cache. */
    static __device__ __forceinline__ const uint16_t *value_of(const pod_kernel_params &params, int32_t request,
                                                               int32_t kv_head, int32_t key) {
        pod_key_slot at = key_slot(params, key);
        pod_cache_strides strides = v_strides(params);
        return (const uint16_t *)params.v +
               pod_core_cache_offset(&strides, load_page(params, request, at.page_idx), at.slot, kv_head);
    }
};

#endif
