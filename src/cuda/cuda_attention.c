/* SPDX-License-Identifier: Apache-2.0 */
/* One layer: the tensors and the plan become the parameters of one launch. */
#include "base/status.h"
#include "cuda/cuda_device.h"
#include "cuda/cuda_tensor_map.h"
#include "cuda/kernels/params.h"
#include "schedule/cache_core.h"
#include "schedule/merge_core.h"

#include <float.h>
#include <math.h>

/** What scores are multiplied by. Of a scale that is no normal number a kernel would make 0, and NaN of a masked score;
 * one that is a thousand times the smallest weighs keys alike just as well. */
static float score_scale(float scale) {
    return fabsf(scale) < FLT_MIN * 1024 ? copysignf(FLT_MIN * 1024, scale) : scale * POD_LOG2_E;
}

/** A positive number as a float; a larger one than there is becomes the largest. */
static float to_float(double number) {
    return number < (double)FLT_MAX ? (float)number : FLT_MAX;
}

static pod_kernel_params make_params(const pod_call *call, int32_t policy) {
    const pod_plan *plan = call->plan;
    const pod_tensors *t = &call->tensors;
    const pod_cache *c = &call->cache;
    int has_softcap = t->softcap > 0;
    float scale = has_softcap ? 1 : score_scale(t->scale);
    pod_kernel_params params = {
        .shape = *call->shape,
        .tiling = plan->choice.tiling,
        .schedule = *call->schedule,
        .page_table = plan->batch.page_table,
        .page_table_stride = plan->batch.page_table_stride,
        .page_size = plan->limits.page_size,
        .page_shift = pod_core_page_shift(plan->limits.page_size),
        .head_dim = plan->limits.head_dim,
        .v_head_dim = plan->limits.v_head_dim,
        .q = t->q,
        .k = c->k,
        .v = c->v,
        .out = t->out,
        .lse = t->lse,
        .sinks = t->sinks,
        .k_scale = c->k_scale,
        .v_scale = c->v_scale,
        .scale_stride = c->scale_stride,
        .q_token_stride = t->q_token_stride,
        .q_head_stride = t->q_head_stride,
        .k_page_stride = c->k_page_stride,
        .k_token_stride = c->k_token_stride,
        .k_head_stride = c->k_head_stride,
        .v_page_stride = c->v_page_stride,
        .v_token_stride = c->v_token_stride,
        .v_head_stride = c->v_head_stride,
        .out_token_stride = t->out_token_stride,
        .out_head_stride = t->out_head_stride,
        .lse_token_stride = t->lse_token_stride,
        .lse_head_stride = t->lse_head_stride,
        .softcap_log2 = has_softcap ? to_float((double)t->softcap * (double)POD_LOG2_E) : 0,
        .softcap_argument = has_softcap ? to_float((double)t->scale / (double)t->softcap) : 0,
        .softcap_slope = has_softcap ? t->scale * POD_LOG2_E : 0,
        .score_scale = t->alibi_slopes != NULL ? 1 : scale,
        .policy = policy == POD_POLICY_ANY ? POD_POLICY_PROPORTIONAL : policy,
        .alibi_slopes = t->alibi_slopes,
        .alibi_scale = scale,
        .tree_mask = t->tree_mask,
    };
    return params;
}

static pod_status check_pointers(const pod_cuda_device *cuda, const pod_call *call) {
    POD_TRY(pod__cuda_check_pointer(cuda, "q", call->tensors.q));
    POD_TRY(pod__cuda_check_pointer(cuda, "k", call->cache.k));
    POD_TRY(pod__cuda_check_pointer(cuda, "v", call->cache.v));
    POD_TRY(pod__cuda_check_pointer(cuda, "out", call->tensors.out));
    POD_TRY(pod__cuda_check_pointer(cuda, "lse", call->tensors.lse));
    POD_TRY(pod__cuda_check_pointer(cuda, "k_scale", call->cache.k_scale));
    POD_TRY(pod__cuda_check_pointer(cuda, "v_scale", call->cache.v_scale));
    POD_TRY(pod__cuda_check_pointer(cuda, "alibi_slopes", call->tensors.alibi_slopes));
    POD_TRY(pod__cuda_check_pointer(cuda, "tree_mask", call->tensors.tree_mask));
    return pod__cuda_check_pointer(cuda, "sinks", call->tensors.sinks);
}

static pod_status check_reach(const pod_plan *plan, const char *field, int64_t page_stride, int64_t token_stride,
                              int64_t most_bytes) {
    const int64_t most_elements = most_bytes / (int64_t)pod_dtype_size(plan->limits.kv_dtype);
    int64_t pages, slots, reach;
    int is_far = __builtin_mul_overflow(page_stride, (int64_t)plan->batch.num_pages, &pages);
    is_far |= __builtin_mul_overflow(token_stride, (int64_t)plan->limits.page_size, &slots);
    is_far |= __builtin_add_overflow(pages, slots, &reach);
    if (!is_far && reach <= most_elements) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED,
                     "%s = %lld with num_pages = %d reaches past the %lld elements that the cuda backend supports",
                     field, (long long)page_stride, plan->batch.num_pages, (long long)most_elements);
}

/** What only some families need. */
static pod_status add_family_params(const pod_cuda_device *cuda, const pod_call *call, const pod_family *family,
                                    pod_kernel_params *params) {
    const pod_cache *c = &call->cache;
    if (family->needs_tensor_maps) return pod__cuda_add_tensor_maps(cuda, call, params);
    if (family == &pod__family_sm90mla) return pod__cuda_add_key_map(cuda, call, params);
    int64_t most = family->most_cache_bytes;
    if (most == 0) return POD_OK;
    POD_TRY(check_reach(call->plan, "k_page_stride", c->k_page_stride, c->k_token_stride, most));
    return check_reach(call->plan, "v_page_stride", c->v_page_stride, c->v_token_stride, most);
}

static pod_status launch(const pod_cuda_device *cuda, void *argument) {
    const pod_call *call = argument;
    const pod_plan *plan = call->plan;
    POD_TRY(check_pointers(cuda, call));
    const pod_variant *variant = &pod__variants[plan->choice.kernel];
    pod_kernel_params params = make_params(call, cuda->options.policy);
    POD_TRY(add_family_params(cuda, call, variant->family, &params));
    void *arguments[] = {&params};
    POD_CUDA_TRY(cuda,
                 launch_kernel(cuda->kernels[plan->choice.kernel], (unsigned)plan->choice.tiling.num_ctas, 1, 1,
                               (unsigned)variant->tiles->threads, 1, 1, (unsigned)variant->tiles->smem_bytes,
                               (CUstream)call->stream, arguments, NULL),
                 "launching the attention kernel");
    return POD_OK;
}

pod_status pod__cuda_attention(const pod_call *call) {
    pod_call copy = *call;
    return pod__cuda_in_context(call->plan->device, launch, &copy);
}
