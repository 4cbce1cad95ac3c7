/* SPDX-License-Identifier: Apache-2.0 */
/* Which keys rows see, and of which keys and tiles no row needs a mask. */
#ifndef POD_CUDA_MASK_CUH
#define POD_CUDA_MASK_CUH

#include "cuda/kernels/params.h"

/** Keys that the query token sees. */
static __device__ __forceinline__ pod_key_range visible_keys(const pod_kernel_params &params,
                                                             const pod_request &request, int32_t token) {
    return pod_core_visible(&params.shape, &request, token, token + 1);
}

/** Keys that all of the tokens from `first_token` to `last_token` see, so that none of their rows masks them: later
 * tokens see further on both ends. */
static __device__ __forceinline__ pod_key_range unmasked_keys(const pod_kernel_params &params,
                                                              const pod_request &request, int32_t first_token,
                                                              int32_t last_token) {
    return {visible_keys(params, request, last_token).begin, visible_keys(params, request, first_token).end};
}

/** Some of a work's KV tiles, counted from its first one. */
struct tile_range {
    int32_t begin, end;
};

/** Tiles of which no key is masked, of work that begins with `first_key`. */
static __device__ __forceinline__ tile_range unmasked_tiles(pod_key_range unmasked, int32_t first_key,
                                                            int32_t tile_tokens) {
    return {pod_core_ceil_div(max(unmasked.begin - first_key, 0), tile_tokens),
            max(unmasked.end - first_key, 0) / tile_tokens};
}

#endif
