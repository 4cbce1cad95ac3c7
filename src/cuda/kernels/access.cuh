/* SPDX-License-Identifier: Apache-2.0 */
/* From a request's rows and keys to addresses: paging, strides and what a row may see. */
#ifndef POD_CUDA_ACCESS_CUH
#define POD_CUDA_ACCESS_CUH

#include "cuda/kernels/params.h"
#include "cuda/kernels/ptx/ptx_sm80.cuh"
#include "schedule/merge_core.h"

#include <cfloat>

enum { CHUNK_ELEMENTS = 8, CHUNK_BYTES = 16 }; /* every copy moves 16 bytes of 16-bit elements */

/** The schedule's header, as if it could be another one at every call. NOTE: nvcc 13.0 else keeps its address through a
 * whole kernel, which for sm_80 is in local memory. */
static __device__ __forceinline__ pod_schedule_header *new_header(const pod_kernel_params &params) {
    return params.schedule.header + (ptx_smid() >> 31); /* + 0 */
}

/** A planned request; one with a bad page number sees no keys, like one with bad lengths. */
static __device__ __forceinline__ pod_request load_request(const pod_kernel_params &params, int32_t r) {
    pod_request request = params.schedule.requests[r];
    if (params.schedule.page_errors[r] != 0) {
        request.kv_len = 0;
        request.error = POD_REQUEST_PAGE;
    }
    return request;
}

/** Where a key and its value stand in the cache, in chunks of 16 bytes from the head's beginning. 32 bits reach 64 GB.
 */
struct key_place {
    uint32_t k_chunk, v_chunk;
};

/** Where the page of a key stands in the page table. */
static __device__ __forceinline__ const int32_t *page_entry(const pod_kernel_params &params, int32_t request,
                                                            int32_t key) {
    int32_t page_idx = params.page_shift >= 0 ? key >> params.page_shift : key / params.page_size;
    return params.page_table + request * params.page_table_stride + page_idx;
}

/** The page of a key: the slow half of finding its place, begun long before the place is needed. */
static __device__ __forceinline__ int32_t load_page(const pod_kernel_params &params, int32_t request, int32_t key) {
    return params.page_table == nullptr ? request : __ldg(page_entry(params, request, key));
}

/** Where in its page a key stands. */
static __device__ __forceinline__ int32_t page_slot(const pod_kernel_params &params, int32_t key) {
    if (params.page_table == nullptr) return key;
    return params.page_shift >= 0 ? key & (params.page_size - 1) : key % params.page_size;
}

static __device__ __forceinline__ key_place locate_key(const pod_kernel_params &params, int32_t page, int32_t key) {
    int32_t slot = page_slot(params, key);
    key_place place;
    place.k_chunk = (uint32_t)((page * params.k_page_stride + slot * params.k_token_stride) / CHUNK_ELEMENTS);
    place.v_chunk = (uint32_t)((page * params.v_page_stride + slot * params.v_token_stride) / CHUNK_ELEMENTS);
    return place;
}

/** log2 of how many keys from every such multiple on are neighbours in memory: 16 where no page ends inside them, at
 * least up to `end_key`, else one. */
static __device__ __forceinline__ int32_t run_shift(const pod_kernel_params &params, int32_t end_key) {
    return params.page_table == nullptr || params.page_size % 16 == 0 || end_key <= params.page_size ? 4 : 0;
}

/** The chunk that a key begins with, from that of its run. */
static __device__ __forceinline__ uint32_t chunk_in_run(uint32_t chunk_of_run, int32_t key, int32_t run_shift,
                                                        uint32_t token_chunks) {
    return chunk_of_run + (key & ((1 << run_shift) - 1)) * token_chunks;
}

/** Keys that the query token sees. */
static __device__ __forceinline__ pod_key_range visible_keys(const pod_kernel_params &params,
                                                             const pod_request &request, int32_t token) {
    return pod_core_visible(&params.shape, &request, token, token + 1);
}

/** Score in log2 units from the raw dot product; with a softcap: cap * tanh(scale * dot / cap). */
static __device__ __forceinline__ float softcap_score(const pod_kernel_params &params, float dot) {
    /* tanh(x) = 1 - 2 / (2^(2 x log2(e)) + 1), right at both infinities */
    float power = ptx_ex2(2.0f * POD_LOG2_E * params.scale_log2 * dot);
    return params.softcap_log2 * (1.0f - __fdividef(2.0f, power + 1.0f));
}

/** Of a query row, token * group + head in group, within its request and KV head. */
struct row_place {
    int32_t token, head;
};
static __device__ __forceinline__ row_place place_row(const pod_kernel_params &params, int32_t row) {
    int32_t token = row / params.shape.group;
    return {token, row - token * params.shape.group};
}

/** First element of a query row or an output row. */
static __device__ __forceinline__ int64_t q_offset(const pod_kernel_params &params, const pod_request &request,
                                                   int32_t kv_head, int32_t row) {
    row_place place = place_row(params, row);
    return (request.q_begin + place.token) * params.q_token_stride +
           (kv_head * params.shape.group + place.head) * params.q_head_stride;
}

static __device__ __forceinline__ int64_t out_offset(const pod_kernel_params &params, const pod_request &request,
                                                     int32_t kv_head, row_place place) {
    return (request.q_begin + place.token) * params.out_token_stride +
           (kv_head * params.shape.group + place.head) * params.out_head_stride;
}
static __device__ __forceinline__ int64_t out_offset(const pod_kernel_params &params, const pod_request &request,
                                                     int32_t kv_head, int32_t row) {
    return out_offset(params, request, kv_head, place_row(params, row));
}

/** Byte offset of a 16-byte chunk in a tile of rows of ROW_BYTES; neighbouring rows start at different banks. */
template <int ROW_BYTES> static __device__ __forceinline__ uint32_t swizzle_chunk(int row, int chunk) {
    return row * ROW_BYTES + ((chunk ^ (row & 7)) * CHUNK_BYTES);
}

/** Chunks 2 * step and 2 * step + 1 of a lane's row, from the address of the row's first two: the swizzle changes the
 * low three bits of a chunk's number, so the rest can be added, which costs no instruction. */
static __device__ __forceinline__ uint32_t step_chunk(uint32_t first_smem, int step) {
    return (first_smem ^ (step % 4 * 2 * CHUNK_BYTES)) + step / 4 * 8 * CHUNK_BYTES;
}

/** What exponents of a row count from that has seen nothing. Finite: -inf - NO_MAX is an exponent, -inf + inf is none.
 */
static constexpr float NO_MAX = -FLT_MAX;

/** Raises a row's maximum to `seen` (log2 units), if that is above it; its sum follows. Returns what the row's output
 * is to be multiplied by. */
static __device__ __forceinline__ float raise_row(float &max, float &sum, float seen) {
    float row_max = fmaxf(seen, max);
    float factor = ptx_ex2(max - row_max);
    max = row_max;
    sum *= factor;
    return factor;
}

/** Ends a row: joins the sink (not for a bad request, whose LSE is -inf), writes the LSE if `writes_lse`, returns what
 * the row's output is multiplied by. */
static __device__ __forceinline__ float finish_row(const pod_kernel_params &params, const pod_request &request,
                                                   int32_t kv_head, row_place place, float max, float sum,
                                                   bool writes_lse) {
    int32_t head = kv_head * params.shape.group + place.head;
    float factor = 1.0f;
    if (params.sinks != nullptr && request.error == POD_REQUEST_OK)
        factor = pod_merge_sink(&max, &sum, params.sinks[head]);
    if (params.lse != nullptr && writes_lse) {
        params.lse[(request.q_begin + place.token) * params.lse_token_stride + head * params.lse_head_stride] =
            pod_merge_lse(max, sum);
    }
    return factor * pod_merge_normaliser(sum);
}
static __device__ __forceinline__ float finish_row(const pod_kernel_params &params, const pod_request &request,
                                                   int32_t kv_head, int32_t row, float max, float sum,
                                                   bool writes_lse) {
    return finish_row(params, request, kv_head, place_row(params, row), max, sum, writes_lse);
}

#endif
