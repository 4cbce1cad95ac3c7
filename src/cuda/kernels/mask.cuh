/* SPDX-License-Identifier: Apache-2.0 */
/* What rows see. */
#ifndef POD_CUDA_MASK_CUH
#define POD_CUDA_MASK_CUH

#include "cuda/kernels/params.h"

/** Keys that the query token sees. */
static __device__ __forceinline__ pod_key_range visible_keys(const pod_kernel_params &params,
                                                             const pod_request &request, int32_t token) {
    return pod_core_visible(&params.shape, &request, token, token + 1);
}

#endif
