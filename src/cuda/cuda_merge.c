/* SPDX-License-Identifier: Apache-2.0 */
/* Merging partial results on a GPU: one launch. */
#include "base/status.h"
#include "cuda/cuda_device.h"
#include "cuda/kernels/merge/merge_params.h"

#include <stdio.h>

_Static_assert(POD_MERGE_MAX_PARTS == POD_MAX_PARTS, "one launch merges all parts");

enum { CTAS_PER_SM = 8 };

static pod_status check_arrays(const pod_cuda_device *cuda, const pod_parts *parts) {
    size_t part_bytes = pod_dtype_size(parts->part_dtype), out_bytes = pod_dtype_size(parts->out_dtype);
    for (int32_t p = 0; p < parts->num_parts; p++) {
        char field[32];
        snprintf(field, sizeof field, "part_outs[%d]", p);
        POD_TRY(pod__cuda_check_aligned(field, parts->part_outs[p]));
        POD_TRY(pod__cuda_check_pointer(cuda, field, parts->part_outs[p]));
        snprintf(field, sizeof field, "part_lses[%d]", p);
        POD_TRY(pod__cuda_check_pointer(cuda, field, parts->part_lses[p]));
    }
    POD_TRY(pod__cuda_check_aligned("out", parts->out));
    POD_TRY(pod__cuda_check_pointer(cuda, "out", parts->out));
    POD_TRY(pod__cuda_check_pointer(cuda, "lse", parts->lse));
    POD_TRY(pod__cuda_check_stride("part_token_stride", parts->part_token_stride, part_bytes));
    POD_TRY(pod__cuda_check_stride("part_head_stride", parts->part_head_stride, part_bytes));
    POD_TRY(pod__cuda_check_stride("out_token_stride", parts->out_token_stride, out_bytes));
    return pod__cuda_check_stride("out_head_stride", parts->out_head_stride, out_bytes);
}

typedef struct merge_job {
    const pod_parts *parts;
    CUstream stream;
} merge_job;

static pod_status launch(const pod_cuda_device *cuda, void *argument) {
    const merge_job *job = argument;
    const pod_parts *parts = job->parts;
    if (parts->head_dim > POD_MERGE_MAX_HEAD_DIM) {
        return pod__fail(POD_E_UNSUPPORTED, "head_dim = %d is not supported by the merging kernel; those up to %d are",
                         parts->head_dim, POD_MERGE_MAX_HEAD_DIM);
    }
    POD_TRY(check_arrays(cuda, parts));
    pod_merge_params params = {
        .out = parts->out,
        .lse = parts->lse,
        .part_token_stride = parts->part_token_stride,
        .part_head_stride = parts->part_head_stride,
        .part_lse_token_stride = parts->part_lse_token_stride,
        .part_lse_head_stride = parts->part_lse_head_stride,
        .out_token_stride = parts->out_token_stride,
        .out_head_stride = parts->out_head_stride,
        .lse_token_stride = parts->lse_token_stride,
        .lse_head_stride = parts->lse_head_stride,
        .num_rows = (int64_t)parts->num_tokens * parts->q_heads,
        .num_parts = parts->num_parts,
        .q_heads = parts->q_heads,
        .head_dim = parts->head_dim,
        .part_dtype = (int32_t)parts->part_dtype,
        .out_dtype = (int32_t)parts->out_dtype,
    };
    memcpy(params.part_outs, parts->part_outs, (size_t)parts->num_parts * sizeof *parts->part_outs);
    memcpy(params.part_lses, parts->part_lses, (size_t)parts->num_parts * sizeof *parts->part_lses);
    int64_t rows_per_cta = POD_MERGE_THREADS / 32, ctas = (params.num_rows + rows_per_cta - 1) / rows_per_cta;
    int64_t most = (int64_t)CTAS_PER_SM * cuda->chip.num_sms;
    void *arguments[] = {&params};
    POD_CUDA_TRY(cuda,
                 launch_kernel(cuda->merge_kernel, (unsigned)(ctas < most ? ctas : most), 1, 1, POD_MERGE_THREADS, 1, 1,
                               0, job->stream, arguments, NULL),
                 "launching the merging kernel");
    return POD_OK;
}

pod_status pod__cuda_merge(const pod_device *device, const pod_parts *parts, pod_stream stream) {
    merge_job job = {parts, (CUstream)stream};
    return pod__cuda_in_context(device, launch, &job);
}
