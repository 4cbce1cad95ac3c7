/* SPDX-License-Identifier: Apache-2.0 */
/* From a request's rows and keys to addresses. */
#ifndef POD_CUDA_ADDRESS_CUH
#define POD_CUDA_ADDRESS_CUH

#include "cuda/kernels/params.h"
#include "schedule/cache_core.h"

/* ---- rows ---- */

/** Elements of a value, or of a key: of padded kernels, whose tiles have more columns. */
static __device__ __forceinline__ int32_t dim_of(const pod_kernel_params &params, bool is_value) {
    return is_value ? params.v_head_dim : params.head_dim;
}

/** Of a query row, token * group + head in group, within its request and KV head. */
struct row_place {
    int32_t token, head;
};
static __device__ __forceinline__ row_place place_row(const pod_kernel_params &params, int32_t row) {
    int32_t token = row / params.shape.group;
    return {token, row - token * params.shape.group};
}

/** a / b of numbers from 0 up to 2^16: a quotient in float is right and quick. */
static __device__ __forceinline__ int32_t small_quotient(int32_t a, int32_t b) {
    return (int32_t)__fdividef((float)a + 0.5f, (float)b);
}

/** The same of a row below 2^16. */
static __device__ __forceinline__ row_place place_small_row(const pod_kernel_params &params, int32_t row) {
    int32_t token = small_quotient(row, params.shape.group);
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

/* ---- keys ---- */

static __device__ __forceinline__ pod_cache_strides k_strides(const pod_kernel_params &params) {
    return {params.k_page_stride, params.k_token_stride, params.k_head_stride};
}
static __device__ __forceinline__ pod_cache_strides v_strides(const pod_kernel_params &params) {
    return {params.v_page_stride, params.v_token_stride, params.v_head_stride};
}

static __device__ __forceinline__ pod_key_slot key_slot(const pod_kernel_params &params, int32_t key) {
    if (params.page_table == nullptr) return {0, key};
    return pod_core_key_slot(params.page_size, params.page_shift, key);
}

/** Where a page of a request is in the page table, if there is one. */
static __device__ __forceinline__ const int32_t *page_entry(const pod_kernel_params &params, int32_t request,
                                                            int32_t page_idx) {
    return params.page_table + request * params.page_table_stride + page_idx;
}

/** A page of a request: the slow half of finding a key, begun long before the key is needed. */
static __device__ __forceinline__ int32_t load_page(const pod_kernel_params &params, int32_t request,
                                                    int32_t page_idx) {
    return params.page_table == nullptr ? request : __ldg(page_entry(params, request, page_idx));
}

#endif
