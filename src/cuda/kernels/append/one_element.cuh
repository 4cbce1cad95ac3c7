/* SPDX-License-Identifier: Apache-2.0 */
/* One element of an array whose dtype is known at run time: of tables, and of rows that chunks do not fit. */
#ifndef POD_CUDA_ONE_ELEMENT_CUH
#define POD_CUDA_ONE_ELEMENT_CUH

#include "cuda/kernels/element.cuh"
#include "cuda/kernels/ptx/cvt_f8.cuh"

#include "podattn.h"

/** Of f32, f16 or bf16. */
static __device__ __forceinline__ float load_one(const void *array, pod_dtype dtype, int64_t at) {
    if (dtype == POD_F32) return ((const float *)array)[at];
    uint32_t half = ((const uint16_t *)array)[at];
    return dtype == POD_BF16 ? pod_element_bf16::unpack(half).x : pod_element_f16::unpack(half).x;
}

/** Of f16, bf16 or f8e4m3. */
static __device__ __forceinline__ void store_one(void *array, pod_dtype dtype, int64_t at, float x) {
    if (dtype == POD_F8E4M3)
        ((uint8_t *)array)[at] = (uint8_t)cvt_to_f8e4m3x2(x, 0.0f);
    else
        ((uint16_t *)array)[at] =
            (uint16_t)(dtype == POD_BF16 ? pod_element_bf16::pack(x, 0.0f) : pod_element_f16::pack(x, 0.0f));
}

#endif
