/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_tensor_map.h"

#include "families.h"
#include "status.h"

enum {
    RANK = 4,          /* head_dim, kv_heads, token in page, page */
    BOX_ELEMENTS = 64, /* 128 bytes: the swizzle's span */
    MAX_BOX_TOKENS = 64,
    ELEMENT_BYTES = 2,
    STRIDE_BITS = 40 /* a stride has to be smaller, in bytes */
};

_Static_assert(sizeof(pod_tensor_map) == sizeof(CUtensorMap), "the kernels see the driver's struct");

/** K or V of one call. */
typedef struct cache {
    const char *map_name, *token_field, *head_field, *page_field;
    const void *base;
    int64_t head_stride, token_stride, page_stride;
} cache;

/** A box lies within a page: the largest power of two that divides it. A request's only page needs no dividing; what
 * reaches past its end reads zeros. */
static int32_t box_tokens(const pod_plan *plan) {
    int32_t page_size = plan->limits.page_size;
    if (plan->batch.page_table == NULL || pod__has_one_page(&plan->limits)) return MAX_BOX_TOKENS;
    return pod_core_min(page_size & -page_size, MAX_BOX_TOKENS);
}

/** One stride in bytes. Nothing is ever reached through that of a dimension of extent 1, but it has to be valid. */
static pod_status encode_stride(const char *field, int64_t stride, int64_t extent, cuuint64_t *bytes) {
    *bytes = BOX_ELEMENTS * ELEMENT_BYTES;
    if (extent == 1) return POD_OK;
    if (stride >= (INT64_C(1) << STRIDE_BITS) / ELEMENT_BYTES) {
        return pod__fail(POD_E_UNSUPPORTED, "%s = %lld is 2^%d bytes or more, which the sm90 kernels do not support",
                         field, (long long)stride, STRIDE_BITS);
    }
    *bytes = (cuuint64_t)stride * ELEMENT_BYTES;
    return POD_OK;
}

static pod_status encode(const pod_cuda_device *cuda, const pod_plan *plan, const cache *c, int32_t tokens,
                         pod_tensor_map *map) {
    const pod_limits *limits = &plan->limits;
    int is_bf16 = limits->kv_dtype == POD_BF16;
    int32_t num_pages = pod_core_max(1, plan->batch.num_pages); /* without pages nothing is read */
    const cuuint64_t extents[RANK] = {(cuuint64_t)limits->head_dim, (cuuint64_t)limits->kv_heads,
                                      (cuuint64_t)limits->page_size, (cuuint64_t)num_pages};
    const cuuint32_t box[RANK] = {BOX_ELEMENTS, 1, (cuuint32_t)tokens, 1};
    const cuuint32_t element_strides[RANK] = {1, 1, 1, 1};
    cuuint64_t strides[RANK - 1];
    POD_TRY(encode_stride(c->head_field, c->head_stride, limits->kv_heads, &strides[0]));
    POD_TRY(encode_stride(c->token_field, c->token_stride, limits->page_size, &strides[1]));
    POD_TRY(encode_stride(c->page_field, c->page_stride, num_pages, &strides[2]));
    CUtensorMap encoded;
    POD_CUDA_TRY(cuda,
                 tensor_map_encode_tiled(
                     &encoded, is_bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, RANK,
                     (void *)(uintptr_t)c->base, extents, strides, box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE,
                     CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                 c->map_name);
    memcpy(map, &encoded, sizeof *map);
    return POD_OK;
}

pod_status pod__cuda_add_tensor_maps(const pod_cuda_device *cuda, const pod_plan *plan, const pod_tensors *t,
                                     pod_kernel_params *params) {
    const cache k = {"describing k to the GPU", "k_token_stride",  "k_head_stride", "k_page_stride", t->k,
                     t->k_head_stride,          t->k_token_stride, t->k_page_stride};
    const cache v = {"describing v to the GPU", "v_token_stride",  "v_head_stride", "v_page_stride", t->v,
                     t->v_head_stride,          t->v_token_stride, t->v_page_stride};
    int32_t tokens = box_tokens(plan);
    params->box_tokens = tokens;
    params->box_shift = __builtin_ctz((unsigned)tokens);
    POD_TRY(encode(cuda, plan, &k, tokens, &params->k_map));
    return encode(cuda, plan, &v, tokens, &params->v_map);
}
