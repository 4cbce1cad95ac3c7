/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between bf16 and f16, and nothing else. */
#ifndef POD_CUDA_ELEMENT_CUH
#define POD_CUDA_ELEMENT_CUH

#include "cuda/kernels/ptx/ptx_sm80.cuh"

struct pod_element_bf16 {
    static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        ptx_mma_bf16(c, a, b0, b1);
    }
    static __device__ __forceinline__ uint32_t pack(float low, float high) {
        return ptx_cvt_bf16x2(low, high);
    }
    static __device__ __forceinline__ float2 unpack(uint32_t pair) {
        return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000));
    }
    static __device__ __forceinline__ uint32_t add_times_zero(uint32_t sums, uint32_t pair) {
        return ptx_fma_bf16x2(pair, 0, sums);
    }
};

struct pod_element_f16 {
    static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        ptx_mma_f16(c, a, b0, b1);
    }
    static __device__ __forceinline__ uint32_t pack(float low, float high) {
        return ptx_cvt_f16x2(low, high);
    }
    static __device__ __forceinline__ float2 unpack(uint32_t pair) {
        return make_float2(ptx_cvt_from_f16(pair), ptx_cvt_from_f16(pair >> 16));
    }
    static __device__ __forceinline__ uint32_t add_times_zero(uint32_t sums, uint32_t pair) {
        return ptx_fma_f16x2(pair, 0, sums);
    }
};

#endif
