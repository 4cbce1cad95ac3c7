/* SPDX-License-Identifier: Apache-2.0 */
/* Eight neighbouring elements of an array, from and to a multiple of 16 bytes (8 of e4m3): as they are in memory, and
 * as floats. Of a dtype known at compile time, or of f32, f16 or bf16 known at run time. */
#ifndef POD_CUDA_EIGHT_CUH
#define POD_CUDA_EIGHT_CUH

#include "cuda/kernels/element.cuh"
#include "cuda/kernels/ptx/cvt_f8.cuh"

#include "podattn.h"

constexpr int EIGHT = 8;

struct eight_f32 {
    struct raw {
        float4 low, high;
    };
    static __device__ __forceinline__ raw load(const void *array, int64_t at) {
        const float4 *from = (const float4 *)((const float *)array + at);
        return {from[0], from[1]};
    }
    static __device__ __forceinline__ void unpack(const raw &r, float (&x)[EIGHT]) {
        x[0] = r.low.x, x[1] = r.low.y, x[2] = r.low.z, x[3] = r.low.w;
        x[4] = r.high.x, x[5] = r.high.y, x[6] = r.high.z, x[7] = r.high.w;
    }
    static __device__ __forceinline__ raw pack(const float (&x)[EIGHT]) {
        return {make_float4(x[0], x[1], x[2], x[3]), make_float4(x[4], x[5], x[6], x[7])};
    }
    static __device__ __forceinline__ void store(void *array, int64_t at, const raw &r) {
        float4 *to = (float4 *)((float *)array + at);
        to[0] = r.low;
        to[1] = r.high;
    }
};

template <class ELEMENT> struct eight_halves {
    typedef uint4 raw;
    static __device__ __forceinline__ raw load(const void *array, int64_t at) {
        return *(const uint4 *)((const uint16_t *)array + at);
    }
    static __device__ __forceinline__ void unpack(const raw &r, float (&x)[EIGHT]) {
        const uint32_t words[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 pair = ELEMENT::unpack(words[i]);
            x[2 * i] = pair.x;
            x[2 * i + 1] = pair.y;
        }
    }
    static __device__ __forceinline__ raw pack(const float (&x)[EIGHT]) {
        return make_uint4(ELEMENT::pack(x[0], x[1]), ELEMENT::pack(x[2], x[3]), ELEMENT::pack(x[4], x[5]),
                          ELEMENT::pack(x[6], x[7]));
    }
    static __device__ __forceinline__ void store(void *array, int64_t at, const raw &r) {
        *(uint4 *)((uint16_t *)array + at) = r;
    }
};

typedef eight_halves<pod_element_bf16> eight_bf16;
typedef eight_halves<pod_element_f16> eight_f16;

struct eight_f8e4m3 { /* only stored */
    typedef uint2 raw;
    static __device__ __forceinline__ raw pack(const float (&x)[EIGHT]) {
        return make_uint2(cvt_to_f8e4m3x2(x[0], x[1]) | cvt_to_f8e4m3x2(x[2], x[3]) << 16,
                          cvt_to_f8e4m3x2(x[4], x[5]) | cvt_to_f8e4m3x2(x[6], x[7]) << 16);
    }
    static __device__ __forceinline__ void store(void *array, int64_t at, const raw &r) {
        *(uint2 *)((uint8_t *)array + at) = r;
    }
};

static __device__ __forceinline__ void load_eight(const void *array, pod_dtype dtype, int64_t at, float (&x)[EIGHT]) {
    if (dtype == POD_F32)
        eight_f32::unpack(eight_f32::load(array, at), x);
    else if (dtype == POD_BF16)
        eight_bf16::unpack(eight_bf16::load(array, at), x);
    else
        eight_f16::unpack(eight_f16::load(array, at), x);
}

static __device__ __forceinline__ void store_eight(void *array, pod_dtype dtype, int64_t at, const float (&x)[EIGHT]) {
    if (dtype == POD_F32)
        eight_f32::store(array, at, eight_f32::pack(x));
    else if (dtype == POD_BF16)
        eight_bf16::store(array, at, eight_bf16::pack(x));
    else
        eight_f16::store(array, at, eight_f16::pack(x));
}

#endif
