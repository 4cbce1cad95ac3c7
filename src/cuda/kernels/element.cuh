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
};

struct pod_element_f16 {
    static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        ptx_mma_f16(c, a, b0, b1);
    }
    static __device__ __forceinline__ uint32_t pack(float low, float high) {
        return ptx_cvt_f16x2(low, high);
    }
};

#endif
