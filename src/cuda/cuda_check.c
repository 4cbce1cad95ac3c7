/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors and pointers that the GPU's kernels can use; all others are refused by name. */
#include "base/status.h"
#include "cache/virtual_cache.h"
#include "cuda/cuda_device.h"

enum { ALIGNMENT_BYTES = 16 }; /* the kernels move 16 bytes at a time */

pod_status pod__cuda_check_aligned(const char *field, const void *pointer) {
    if ((uintptr_t)pointer % ALIGNMENT_BYTES == 0) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s is not aligned to %d bytes, which the cuda backend needs", field,
                     ALIGNMENT_BYTES);
}

pod_status pod__cuda_check_stride(const char *field, int64_t stride, size_t element_bytes) {
    int64_t elements = ALIGNMENT_BYTES / (int64_t)element_bytes;
    if (stride % elements == 0) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s = %lld is not a multiple of %lld, which the cuda backend needs", field,
                     (long long)stride, (long long)elements);
}

static pod_status check_mask(const pod_call *call, const char *field, const void *pointer, const char *limit) {
    return pointer != NULL ? pod__choice_check_mask(&call->plan->choice, field, limit) : POD_OK;
}

static pod_status check_scale_absent(const char *field, const float *scale, pod_dtype dtype) {
    if (scale == NULL) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s with kv_dtype %s is not supported by the cuda backend, with f8e4m3 it is",
                     field, pod_dtype_name(dtype));
}

/** A kernel whose values are in the keys reads no others. */
static pod_status check_values_in_keys(const pod_call *call) {
    const pod_variant *variant = &pod__variants[call->plan->choice.kernel];
    const pod_cache *c = &call->cache;
    if (!variant->tiles->has_values_in_keys) return POD_OK;
    if (c->v == c->k && c->v_page_stride == c->k_page_stride && c->v_token_stride == c->k_token_stride &&
        c->v_head_stride == c->k_head_stride) {
        return POD_OK;
    }
    return pod__fail(POD_E_UNSUPPORTED,
                     "v of its own is not supported by the %s kernels with head_dim = %d and v_head_dim = %d: leave it "
                     "NULL, and the values are the first %d elements of k",
                     variant->family->name, call->plan->limits.head_dim, variant->tiles->v_head_dim,
                     variant->tiles->v_head_dim);
}

pod_status pod__cuda_check_cache(const pod_cache *c, size_t bytes) {
    POD_TRY(pod__cuda_check_aligned("k", c->k));
    POD_TRY(pod__cuda_check_aligned("v", c->v));
    POD_TRY(pod__cuda_check_stride("k_page_stride", c->k_page_stride, bytes));
    POD_TRY(pod__cuda_check_stride("k_token_stride", c->k_token_stride, bytes));
    POD_TRY(pod__cuda_check_stride("k_head_stride", c->k_head_stride, bytes));
    POD_TRY(pod__cuda_check_stride("v_page_stride", c->v_page_stride, bytes));
    POD_TRY(pod__cuda_check_stride("v_token_stride", c->v_token_stride, bytes));
    return pod__cuda_check_stride("v_head_stride", c->v_head_stride, bytes);
}

pod_status pod__cuda_check_call(const pod_call *call) {
    const pod_tensors *t = &call->tensors;
    const pod_limits *limits = &call->plan->limits;
    size_t q_bytes = pod_dtype_size(limits->q_dtype), out_bytes = pod_dtype_size(limits->out_dtype);
    POD_TRY(pod__cuda_check_aligned("q", t->q));
    POD_TRY(pod__cuda_check_aligned("out", t->out));
    POD_TRY(pod__cuda_check_stride("q_token_stride", t->q_token_stride, q_bytes));
    POD_TRY(pod__cuda_check_stride("q_head_stride", t->q_head_stride, q_bytes));
    POD_TRY(pod__cuda_check_stride("out_token_stride", t->out_token_stride, out_bytes));
    POD_TRY(pod__cuda_check_stride("out_head_stride", t->out_head_stride, out_bytes));
    POD_TRY(check_values_in_keys(call));
    POD_TRY(pod__cuda_check_cache(&call->cache, pod_dtype_size(limits->kv_dtype)));
    if (limits->kv_dtype != POD_F8E4M3) {
        POD_TRY(check_scale_absent("k_scale", call->cache.k_scale, limits->kv_dtype));
        POD_TRY(check_scale_absent("v_scale", call->cache.v_scale, limits->kv_dtype));
    }
    if (t->scale < 0) { /* the kernels compare scores before they scale them */
        return pod__fail(POD_E_UNSUPPORTED,
                         "scale = %g is not supported by the cuda backend, which takes positive ones",
                         (double)t->scale);
    }
    POD_TRY(check_mask(call, "alibi_slopes", t->alibi_slopes, "alibi"));
    return check_mask(call, "tree_mask", t->tree_mask, "tree_masks");
}

static int is_another_gpus(const pod_cuda_device *cuda, CUdeviceptr address) {
    int ordinal = -1;
    CUresult result = cuda->driver.pointer_get_attribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address);
    return result == CUDA_SUCCESS && ordinal >= 0 && ordinal != cuda->ordinal;
}

/** Where kernels of the current context find the memory: nowhere, if it is the host's alone or another GPU's that gives
 * no peer access. Memory of the host that is registered may be found elsewhere, where the kernels do not look. A GPU
 * that follows every pointer of the host does not follow one of another GPU either. */
pod_status pod__cuda_check_pointer(const pod_cuda_device *cuda, const char *field, const void *pointer) {
    const CUdeviceptr address = (CUdeviceptr)(uintptr_t)pointer;
    CUdeviceptr found = 0;
    if (pointer == NULL) return POD_OK;
    CUresult result = cuda->driver.pointer_get_attribute(&found, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, address);
    if (result == CUDA_SUCCESS && found == address) return POD_OK;
    int32_t gpu = pod__virtual_find_gpu(pointer); /* of a range whose beginning has no page, maybe */
    if (gpu == 1 + cuda->number) return POD_OK;
    if (cuda->reads_pageable_memory && gpu <= 0 && !is_another_gpus(cuda, address)) return POD_OK;
    if (result != CUDA_SUCCESS && result != CUDA_ERROR_INVALID_VALUE) {
        return pod__cuda_check(&cuda->driver, result, "looking a pointer up");
    }
    return pod__fail(POD_E_ARGUMENT, "%s is no memory that cuda:%d, %s, can reach; allocate it there", field,
                     cuda->number, cuda->name);
}
