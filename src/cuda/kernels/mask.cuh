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

/** The first of a request's keys that not all rows may see because of a tree mask; kv_len without one. */
static __device__ __forceinline__ int32_t tree_begin(const pod_kernel_params &params, const pod_request &request) {
    return params.tree_mask != nullptr ? pod_core_tree_begin(&request) : request.kv_len;
}

/** A query token's word of the tree mask, in a kernel that has trees; in others it hides nothing. Keys, all below
 * kv_len, count from `origin`; the token may be one behind the request's last. */
template <bool HAS_TREES> struct tree_word {
    __device__ __forceinline__ tree_word(const pod_kernel_params &, const pod_request &, int32_t, int32_t = 0) {
    }
    __device__ __forceinline__ bool hides(int32_t) const {
        return false;
    }
};
template <> struct tree_word<true> {
    int32_t begin;
    uint64_t word;
    __device__ __forceinline__ tree_word(const pod_kernel_params &params, const pod_request &request, int32_t token,
                                         int32_t origin = 0) {
        begin = tree_begin(params, request);
        word = 0;
        if (begin < request.kv_len) word = __ldg(params.tree_mask + request.q_begin + min(token, request.q_len - 1));
        begin -= origin;
    }
    __device__ __forceinline__ bool hides(int32_t key) const {
        return !pod_core_tree_shows(word, key - begin);
    }
};

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
