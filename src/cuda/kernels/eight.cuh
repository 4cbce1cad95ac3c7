/* SPDX-License-Identifier: Apache-2.0 */
/* Eight neighbouring elements of an array of f32, f16 or bf16, which is known at run time, as floats: from and to a
 * multiple of 16 bytes. */
#ifndef POD_CUDA_EIGHT_CUH
#define POD_CUDA_EIGHT_CUH

#include "cuda/kernels/element.cuh"

#include "podattn.h"

constexpr int EIGHT = 8;

static __device__ __forceinline__ void load_eight(const void *array, pod_dtype dtype, int64_t at, float (&x)[EIGHT]) {
    if (dtype == POD_F32) {
        const float4 *from = (const float4 *)((const float *)array + at);
        float4 low = from[0], high = from[1];
        x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
        x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
        return;
    }
    uint4 packed = *(const uint4 *)((const uint16_t *)array + at);
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 pair = dtype == POD_BF16 ? pod_element_bf16::unpack(words[i]) : pod_element_f16::unpack(words[i]);
        x[2 * i] = pair.x;
        x[2 * i + 1] = pair.y;
    }
}

static __device__ __forceinline__ void store_eight(void *array, pod_dtype dtype, int64_t at, const float (&x)[EIGHT]) {
    if (dtype == POD_F32) {
        float4 *to = (float4 *)((float *)array + at);
        to[0] = make_float4(x[0], x[1], x[2], x[3]);
        to[1] = make_float4(x[4], x[5], x[6], x[7]);
        return;
    }
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        words[i] = dtype == POD_BF16 ? pod_element_bf16::pack(x[2 * i], x[2 * i + 1])
                                     : pod_element_f16::pack(x[2 * i], x[2 * i + 1]);
    }
    *(uint4 *)((uint16_t *)array + at) = make_uint4(words[0], words[1], words[2], words[3]);
}

#endif
