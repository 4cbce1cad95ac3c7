/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/cuda_tensor_map.h"

#include "base/status.h"
#include "families/family.h"

enum {
    KV_RANK = 5,
    Q_RANK = 3,
    HALF_ELEMENTS = 64, /* 128 bytes: the swizzle's span */
    GROUP_TOKENS = 8,   /* the swizzle's period */
    CLUSTER_CTAS = 2,
    Q_TILE_ROWS = 64, /* query rows of a warpgroup */
    ELEMENT_BYTES = 2,
    STRIDE_BITS = 40 /* a stride has to be smaller, in bytes */
};
#define MOST_HALVES INT32_MAX /* coordinates have 32 bits */

/** Some dimensions of a tensor in memory, the innermost first; strides in elements, that of the first is 1. */
typedef struct map_shape {
    cuuint32_t rank;
    cuuint64_t extents[KV_RANK];
    int64_t strides[KV_RANK];
    cuuint32_t box[KV_RANK];
} map_shape;

_Static_assert(sizeof(pod_tensor_map) == sizeof(CUtensorMap), "the kernels see the driver's struct");

/** K or V of one call. */
typedef struct cache {
    const char *map_name, *token_field, *head_field, *page_field;
    int32_t dim; /* elements of a row */
    const void *base;
    int64_t head_stride, token_stride, page_stride;
} cache;

static pod_status encode(const pod_cuda_device *cuda, const char *what, pod_dtype dtype, const void *base,
                         const map_shape *shape, pod_tensor_map *map) {
    cuuint64_t stride_bytes[KV_RANK];
    cuuint32_t element_strides[KV_RANK];
    CUtensorMap encoded;
    for (cuuint32_t d = 0; d < shape->rank; d++) element_strides[d] = 1;
    for (cuuint32_t d = 1; d < shape->rank; d++) {
        /* Nothing is ever reached through that of a dimension of extent 1, but it has to be valid. */
        int64_t stride = shape->extents[d] == 1 ? HALF_ELEMENTS : shape->strides[d];
        stride_bytes[d - 1] = (cuuint64_t)stride * ELEMENT_BYTES;
    }
    /* Without promotion in L2: with that to 256 bytes decode reads a tenth slower. */
    POD_CUDA_TRY(cuda,
                 tensor_map_encode_tiled(
                     &encoded, dtype == POD_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                     shape->rank, (void *)(uintptr_t)base, shape->extents, stride_bytes, shape->box, element_strides,
                     CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                     CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                 what);
    memcpy(map, &encoded, sizeof *map);
    return POD_OK;
}

/* ---- K and V ---- */

/** Whether `times` a stride is more than a map takes. */
static int is_far(int64_t stride, int64_t times) {
    return stride >= (INT64_C(1) << STRIDE_BITS) / ELEMENT_BYTES / times;
}

static pod_status check_stride(const char *field, int64_t stride, int64_t extent) {
    if (extent == 1 || !is_far(stride, 1)) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s = %lld is 2^%d bytes or more, which the sm90 kernels do not support", field,
                     (long long)stride, STRIDE_BITS);
}

/** A wide box holds eight tokens' whole rows of a head, again and again. So heads have to begin at whole halves and, as
 * no box may reach past a page's end, pages to hold whole groups of tokens. */
static int is_wide(const pod_limits *limits, const cache *c) {
    int has_whole_heads = c->head_stride % HALF_ELEMENTS == 0 && c->head_stride <= MOST_HALVES / limits->kv_heads;
    return (has_whole_heads || limits->kv_heads == 1) && limits->page_size % GROUP_TOKENS == 0 &&
           !is_far(c->token_stride, GROUP_TOKENS);
}

/** Halves from one head to the next. */
static int32_t head_halves(const pod_limits *limits, const cache *c) {
    return limits->kv_heads == 1 ? 0 : (int32_t)(c->head_stride / HALF_ELEMENTS);
}

static map_shape wide_shape(const pod_plan *plan, const cache *c, int32_t tokens, int32_t num_pages) {
    const pod_limits *limits = &plan->limits;
    uint64_t halves_before = (uint64_t)(limits->kv_heads - 1) * (uint64_t)head_halves(limits, c);
    int32_t halves = c->dim / HALF_ELEMENTS;
    return (map_shape){
        .rank = KV_RANK,
        .extents = {HALF_ELEMENTS, GROUP_TOKENS, halves_before + (uint64_t)halves,
                    (cuuint64_t)limits->page_size / GROUP_TOKENS, (cuuint64_t)num_pages},
        .strides = {1, c->token_stride, HALF_ELEMENTS, c->token_stride * GROUP_TOKENS, c->page_stride},
        .box = {HALF_ELEMENTS, GROUP_TOKENS, (cuuint32_t)halves, (cuuint32_t)(tokens / GROUP_TOKENS), 1},
    };
}

static map_shape narrow_shape(const pod_plan *plan, const cache *c, int32_t num_pages) {
    const pod_limits *limits = &plan->limits;
    return (map_shape){
        .rank = KV_RANK,
        .extents = {(cuuint64_t)c->dim, (cuuint64_t)limits->page_size, (cuuint64_t)limits->kv_heads,
                    (cuuint64_t)num_pages, 1},
        .strides = {1, c->token_stride, c->head_stride, c->page_stride, 1},
        .box = {HALF_ELEMENTS, GROUP_TOKENS, 1, 1, 1},
    };
}

/** A box lies within a page: the largest power of two that divides it. A request's only page needs no dividing; what
 * reaches past its end reads zeros. Each of a cluster's CTAs loads half of a tile. */
static int32_t wide_tokens(const pod_plan *plan) {
    int32_t page_size = plan->limits.page_size, most = plan->choice.tiling.prefill_tile_tokens / CLUSTER_CTAS;
    if (plan->batch.page_table == NULL || pod__has_one_page(&plan->limits)) return most;
    return pod_core_min(page_size & -page_size, most);
}

static pod_status encode_cache(const pod_cuda_device *cuda, const pod_plan *plan, const cache *c,
                               const pod_kernel_params *params, pod_tensor_map *map) {
    int32_t num_pages = pod_core_max(1, plan->batch.num_pages); /* without pages nothing is read */
    POD_TRY(check_stride(c->head_field, c->head_stride, plan->limits.kv_heads));
    POD_TRY(check_stride(c->token_field, c->token_stride, plan->limits.page_size));
    POD_TRY(check_stride(c->page_field, c->page_stride, num_pages));
    map_shape shape =
        params->is_wide ? wide_shape(plan, c, params->box_tokens, num_pages) : narrow_shape(plan, c, num_pages);
    return encode(cuda, c->map_name, plan->limits.kv_dtype, c->base, &shape, map);
}

static cache keys_of(const pod_limits *limits, const pod_cache *c) {
    return (cache){.map_name = "describing k to the GPU",
                   .token_field = "k_token_stride",
                   .head_field = "k_head_stride",
                   .page_field = "k_page_stride",
                   .dim = limits->head_dim,
                   .base = c->k,
                   .head_stride = c->k_head_stride,
                   .token_stride = c->k_token_stride,
                   .page_stride = c->k_page_stride};
}

static cache values_of(const pod_limits *limits, const pod_cache *c) {
    return (cache){.map_name = "describing v to the GPU",
                   .token_field = "v_token_stride",
                   .head_field = "v_head_stride",
                   .page_field = "v_page_stride",
                   .dim = limits->v_head_dim,
                   .base = c->v,
                   .head_stride = c->v_head_stride,
                   .token_stride = c->v_token_stride,
                   .page_stride = c->v_page_stride};
}

static pod_status add_cache_maps(const pod_cuda_device *cuda, const pod_plan *plan, const pod_cache *c,
                                 pod_kernel_params *params) {
    const pod_limits *limits = &plan->limits;
    const cache k = keys_of(limits, c), v = values_of(limits, c);
    params->is_wide = is_wide(limits, &k) && is_wide(limits, &v);
    params->box_tokens = params->is_wide ? wide_tokens(plan) : GROUP_TOKENS;
    params->box_shift = __builtin_ctz((unsigned)params->box_tokens);
    params->k_head_halves = params->is_wide ? head_halves(limits, &k) : 1;
    params->v_head_halves = params->is_wide ? head_halves(limits, &v) : 1;
    POD_TRY(encode_cache(cuda, plan, &k, params, &params->k_map));
    return encode_cache(cuda, plan, &v, params, &params->v_map);
}

/* ---- Q ---- */

/** Only tiles whose rows all exist are read through it, so it may end behind the query tokens that there are. */
static pod_status add_q_map(const pod_cuda_device *cuda, const pod_plan *plan, const pod_tensors *t,
                            pod_kernel_params *params) {
    const pod_limits *limits = &plan->limits;
    int32_t group = limits->q_heads / limits->kv_heads;
    params->has_q_map = Q_TILE_ROWS % group == 0 && !is_far(t->q_head_stride, 1) && !is_far(t->q_token_stride, 1);
    if (!params->has_q_map) return POD_OK;
    const map_shape shape = {
        .rank = Q_RANK,
        .extents = {(cuuint64_t)limits->head_dim, (cuuint64_t)limits->q_heads,
                    (cuuint64_t)pod_core_max(1, limits->max_q_tokens)},
        .strides = {1, t->q_head_stride, t->q_token_stride},
        .box = {HALF_ELEMENTS, (cuuint32_t)group, (cuuint32_t)(Q_TILE_ROWS / group)},
    };
    return encode(cuda, "describing q to the GPU", limits->q_dtype, t->q, &shape, &params->q_map);
}

/* ---- K alone ---- */

pod_status pod__cuda_add_key_map(const pod_cuda_device *cuda, const pod_call *call, pod_kernel_params *params) {
    const pod_plan *plan = call->plan;
    const pod_cache *c = &call->cache;
    const cache k = keys_of(&plan->limits, c);
    int32_t tokens = pod_core_min(wide_tokens(plan), plan->choice.tiling.decode_tile_tokens);
    params->box_tokens = 0;
    if (!cuda->chip.has_tensor_maps || tokens < GROUP_TOKENS) return POD_OK;
    if (is_far(k.head_stride, 1) || is_far(k.token_stride, 1) || is_far(k.page_stride, 1)) return POD_OK;
    map_shape shape = narrow_shape(plan, &k, pod_core_max(1, plan->batch.num_pages));
    shape.box[1] = (cuuint32_t)tokens;
    params->box_tokens = tokens;
    params->box_shift = __builtin_ctz((unsigned)tokens);
    return encode(cuda, k.map_name, plan->limits.kv_dtype, k.base, &shape, &params->k_map);
}

pod_status pod__cuda_add_tensor_maps(const pod_cuda_device *cuda, const pod_call *call, pod_kernel_params *params) {
    POD_TRY(add_cache_maps(cuda, call->plan, &call->cache, params));
    return add_q_map(cuda, call->plan, &call->tensors, params);
}
