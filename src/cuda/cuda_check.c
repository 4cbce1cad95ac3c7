/* SPDX-License-Identifier: Apache-2.0 */
/* What the GPU's kernels can do: everything that they cannot is refused by name. */
#include "base/status.h"
#include "cuda/cuda_device.h"

enum { ALIGNMENT_BYTES = 16 }; /* the kernels move 16 bytes at a time */

static pod_status check_dtypes(const pod_limits *limits) {
    if (limits->q_dtype != POD_BF16 && limits->q_dtype != POD_F16) {
        return pod__fail(POD_E_UNSUPPORTED, "q_dtype %s is not supported by the cuda backend; bf16 and f16 are",
                         pod_dtype_name(limits->q_dtype));
    }
    if (limits->kv_dtype != limits->q_dtype) {
        return pod__fail(POD_E_UNSUPPORTED, "kv_dtype %s with q_dtype %s is not supported by the cuda backend",
                         pod_dtype_name(limits->kv_dtype), pod_dtype_name(limits->q_dtype));
    }
    if (limits->out_dtype != limits->q_dtype) {
        return pod__fail(POD_E_UNSUPPORTED, "out_dtype %s with q_dtype %s is not supported by the cuda backend",
                         pod_dtype_name(limits->out_dtype), pod_dtype_name(limits->q_dtype));
    }
    if (limits->v_head_dim != limits->head_dim) {
        return pod__fail(POD_E_UNSUPPORTED, "v_head_dim = %d with head_dim = %d is not supported by the cuda backend",
                         limits->v_head_dim, limits->head_dim);
    }
    return POD_OK;
}

int32_t pod__cuda_row(const pod_device *device, const pod_limits *limits) {
    const pod_cuda_device *cuda = (const pod_cuda_device *)device;
    return pod__cuda_find_variant(&cuda->options, &cuda->chip, limits);
}

pod_status pod__cuda_check_limits(const pod_device *device, const pod_limits *limits) {
    const pod_cuda_device *cuda = (const pod_cuda_device *)device;
    POD_TRY(check_dtypes(limits));
    if (limits->head_dim != 64 && limits->head_dim != 128) {
        return pod__fail(POD_E_UNSUPPORTED, "head_dim = %d is not supported by the cuda backend; 64 and 128 are",
                         limits->head_dim);
    }
    if (pod__cuda_row(device, limits) >= 0) return POD_OK;
    char note[256];
    pod__cuda_explain_variant(&cuda->options, &cuda->chip, limits, note, sizeof note);
    return pod__fail(POD_E_UNSUPPORTED,
                     "no kernel for %s, head_dim = %d on %s with the options of this device's name (%s)",
                     pod_dtype_name(limits->q_dtype), limits->head_dim, cuda->name, note);
}

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

static pod_status check_absent(const char *field, const void *pointer) {
    if (pointer == NULL) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s is not supported by the cuda backend", field);
}

static pod_status check_cache(const pod_cache *c, size_t bytes) {
    POD_TRY(pod__cuda_check_aligned("k", c->k));
    POD_TRY(pod__cuda_check_aligned("v", c->v));
    POD_TRY(pod__cuda_check_stride("k_page_stride", c->k_page_stride, bytes));
    POD_TRY(pod__cuda_check_stride("k_token_stride", c->k_token_stride, bytes));
    POD_TRY(pod__cuda_check_stride("k_head_stride", c->k_head_stride, bytes));
    POD_TRY(pod__cuda_check_stride("v_page_stride", c->v_page_stride, bytes));
    POD_TRY(pod__cuda_check_stride("v_token_stride", c->v_token_stride, bytes));
    POD_TRY(pod__cuda_check_stride("v_head_stride", c->v_head_stride, bytes));
    POD_TRY(check_absent("k_scale", c->k_scale));
    return check_absent("v_scale", c->v_scale);
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
    POD_TRY(check_cache(&call->cache, pod_dtype_size(limits->kv_dtype)));
    if (t->scale < 0) { /* the kernels compare scores before they scale them */
        return pod__fail(POD_E_UNSUPPORTED,
                         "scale = %g is not supported by the cuda backend, which takes positive ones",
                         (double)t->scale);
    }
    return check_absent("alibi_slopes", t->alibi_slopes);
}

pod_status pod__cuda_check_pointer(const pod_cuda_device *cuda, const char *field, const void *pointer) {
    CUmemorytype type;
    if (pointer == NULL || cuda->reads_pageable_memory) return POD_OK;
    CUresult result =
        cuda->driver.pointer_get_attribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)pointer);
    if (result != CUDA_ERROR_INVALID_VALUE) return pod__cuda_check(&cuda->driver, result, "looking a pointer up");
    return pod__fail(POD_E_ARGUMENT, "%s is no memory that %s can reach; allocate it on the GPU", field, cuda->name);
}
