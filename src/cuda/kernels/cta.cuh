/* SPDX-License-Identifier: Apache-2.0 */
/* What the threads of a CTA share: its dynamic shared memory, and values that all lanes of a warp have. */
#ifndef POD_CUDA_CTA_CUH
#define POD_CUDA_CTA_CUH

#include <stdint.h>

/** The CTA's dynamic shared memory; tiles begin at multiples of what a swizzle spans. */
extern __shared__ __align__(1024) char dynamic_smem[];

/** The address of shared memory that instructions take. */
static __device__ __forceinline__ uint32_t smem_address(const void *pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/** A value that all lanes of the warp have: told so, the compiler keeps it and what follows from it in uniform
 * registers. */
static __device__ __forceinline__ int32_t warp_uniform(int32_t value) {
    return __shfl_sync(~0u, value, 0);
}

#endif
