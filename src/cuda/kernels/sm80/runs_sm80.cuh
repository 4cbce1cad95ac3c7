/* SPDX-License-Identifier: Apache-2.0 */
/* Places of keys as the sm80 kernels keep them: in chunks of 16 bytes, one for each run of keys that are neighbours in
 * memory. */
#ifndef POD_SM80_RUNS_CUH
#define POD_SM80_RUNS_CUH

#include "cuda/kernels/address.cuh"
#include "cuda/kernels/swizzle.cuh"

/** Where a key and its value are in the cache, in chunks from the head's beginning. 32 bits reach 64 GB. */
struct key_place {
    uint32_t k_chunk, v_chunk;
};

template <int KV_BYTES> static __device__ __forceinline__ uint32_t to_chunks(int64_t elements) {
    return (uint32_t)(elements / (CHUNK_BYTES / KV_BYTES));
}

/** A KV head of K or V. */
template <int KV_BYTES>
static __device__ __forceinline__ const char *head_of(const void *cache, int32_t kv_head, int64_t head_stride) {
    return (const char *)cache + kv_head * head_stride * KV_BYTES;
}

template <int KV_BYTES>
static __device__ __forceinline__ key_place locate_key(const pod_kernel_params &params, int32_t page, int32_t key) {
    int32_t slot = key_slot(params, key).slot;
    pod_cache_strides k = k_strides(params), v = v_strides(params);
    return {to_chunks<KV_BYTES>(pod_core_cache_offset(&k, page, slot, 0)),
            to_chunks<KV_BYTES>(pod_core_cache_offset(&v, page, slot, 0))};
}

/** log2 of how many keys from every such multiple on are neighbours in memory: 16 where no page ends inside them, at
 * least up to `end_key`, otherwise one. */
static __device__ __forceinline__ int32_t run_shift(const pod_kernel_params &params, int32_t end_key) {
    return params.page_table == nullptr || params.page_size % 16 == 0 || end_key <= params.page_size ? 4 : 0;
}

/** The chunk that a key begins with, from that of its run. */
static __device__ __forceinline__ uint32_t chunk_in_run(uint32_t chunk_of_run, int32_t key, int32_t run_shift,
                                                        uint32_t token_chunks) {
    return chunk_of_run + (key & ((1 << run_shift) - 1)) * token_chunks;
}

#endif
