/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors and pointers that the GPU's kernels can use; everything else is refused by name. */
#include "base/status.h"
#include "cuda/cuda_device.h"

enum { ALIGNMENT_BYTES = 16 };

/** The kernels move 16 bytes at a time. */
static pod_status check_aligned(const char *field, const void *pointer) {
    if ((uintptr_t)pointer % ALIGNMENT_BYTES == 0) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s is not aligned to %d bytes, which the cuda backend needs", field,
                     ALIGNMENT_BYTES);
}

static pod_status check_stride(const char *field, int64_t stride) {
    int64_t elements = ALIGNMENT_BYTES / 2; /* bf16 and f16 */
    if (stride % elements == 0) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s = %lld is not a multiple of %lld, which the cuda backend needs", field,
                     (long long)stride, (long long)elements);
}

static pod_status check_absent(const char *field, const void *pointer) {
    if (pointer == NULL) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s is not supported by the cuda backend", field);
}

pod_status pod__cuda_check_tensors(const pod_device *device, const pod_limits *limits, const pod_tensors *t) {
    (void)device;
    (void)limits;
    POD_TRY(check_aligned("q", t->q));
    POD_TRY(check_aligned("k", t->k));
    POD_TRY(check_aligned("v", t->v));
    POD_TRY(check_aligned("out", t->out));
    POD_TRY(check_stride("q_token_stride", t->q_token_stride));
    POD_TRY(check_stride("q_head_stride", t->q_head_stride));
    POD_TRY(check_stride("k_page_stride", t->k_page_stride));
    POD_TRY(check_stride("k_token_stride", t->k_token_stride));
    POD_TRY(check_stride("k_head_stride", t->k_head_stride));
    POD_TRY(check_stride("v_page_stride", t->v_page_stride));
    POD_TRY(check_stride("v_token_stride", t->v_token_stride));
    POD_TRY(check_stride("v_head_stride", t->v_head_stride));
    POD_TRY(check_stride("out_token_stride", t->out_token_stride));
    POD_TRY(check_stride("out_head_stride", t->out_head_stride));
    if (t->scale < 0) { /* the kernels compare scores before they scale them */
        return pod__fail(POD_E_UNSUPPORTED,
                         "scale = %g is not supported by the cuda backend, which takes positive ones",
                         (double)t->scale);
    }
    POD_TRY(check_absent("alibi_slopes", t->alibi_slopes));
    POD_TRY(check_absent("k_scale", t->k_scale));
    return check_absent("v_scale", t->v_scale);
}

pod_status pod__cuda_check_pointer(const pod_cuda_device *cuda, const char *field, const void *pointer) {
    CUmemorytype type;
    if (pointer == NULL || cuda->reads_pageable_memory) return POD_OK;
    CUresult result =
        cuda->driver.pointer_get_attribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)pointer);
    if (result != CUDA_ERROR_INVALID_VALUE) return pod__cuda_check(&cuda->driver, result, "looking a pointer up");
    return pod__fail(POD_E_ARGUMENT, "%s is no memory that %s can reach; allocate it on the GPU", field, cuda->name);
}
