/* SPDX-License-Identifier: Apache-2.0 */
/* Appending on a GPU: one launch, whose parameters are the call itself and the cut of its rows. */
#include "base/status.h"
#include "cuda/cuda_device.h"
#include "cuda/kernels/append/append_params.h"

static pod_status check_rows(const char *field, const char *token_field, const char *head_field, const void *pointer,
                             int64_t token_stride, int64_t head_stride, size_t bytes) {
    if (pointer == NULL) return POD_OK;
    POD_TRY(pod__cuda_check_aligned(field, pointer));
    POD_TRY(pod__cuda_check_stride(token_field, token_stride, bytes));
    return pod__cuda_check_stride(head_field, head_stride, bytes);
}

pod_status pod__cuda_check_append(const pod_append_job *job) {
    const pod_append *a = &job->given;
    size_t bytes = pod_dtype_size(a->dtype);
    POD_TRY(check_rows("append.k", "append.k_token_stride", "append.k_head_stride", a->k, a->k_token_stride,
                       a->k_head_stride, bytes));
    POD_TRY(check_rows("append.v", "append.v_token_stride", "append.v_head_stride", a->v, a->v_token_stride,
                       a->v_head_stride, bytes));
    POD_TRY(check_rows("append.q", "append.q_token_stride", "append.q_head_stride", a->q, a->q_token_stride,
                       a->q_head_stride, bytes));
    POD_TRY(check_rows("append.q_out", "append.q_out_token_stride", "append.q_out_head_stride", a->q_out,
                       a->q_out_token_stride, a->q_out_head_stride, pod_dtype_size(job->q_dtype)));
    return a->k != NULL ? pod__cuda_check_cache(&job->cache, pod_dtype_size(job->kv_dtype)) : POD_OK;
}

static pod_status check_pointers(const pod_cuda_device *cuda, const pod_append_job *job) {
    const pod_append *a = &job->given;
    const struct {
        const char *field;
        const void *pointer;
    } pointers[] = {
        {"append.k", a->k},
        {"append.v", a->v},
        {"append.q", a->q},
        {"append.q_out", a->q_out},
        {"append.slot_mapping", a->slot_mapping},
        {"append.positions", a->positions},
        {"append.left_pad", a->left_pad},
        {"append.bad_token", a->bad_token},
        {"rope.cos", job->rope.cos},
        {"rope.sin", job->rope.sin},
        {"k", job->cache.k},
        {"v", job->cache.v},
        {"k_scale", job->cache.k_scale},
        {"v_scale", job->cache.v_scale},
    };
    for (size_t i = 0; i < sizeof pointers / sizeof pointers[0]; i++) {
        POD_TRY(pod__cuda_check_pointer(cuda, pointers[i].field, pointers[i].pointer));
    }
    return POD_OK;
}

typedef struct append_launch {
    const pod_append_job *job;
    CUstream stream;
} append_launch;

static pod_status launch(const pod_cuda_device *cuda, void *argument) {
    const append_launch *given = argument;
    POD_TRY(check_pointers(cuda, given->job));
    pod_append_params params = pod__cuda_append_params(given->job);
    int32_t ctas = (given->job->given.num_tokens + POD_APPEND_TOKENS - 1) / POD_APPEND_TOKENS;
    void *arguments[] = {&params};
    POD_CUDA_TRY(cuda,
                 launch_kernel(cuda->append_kernel, (unsigned)ctas, (unsigned)params.num_units, 1, POD_APPEND_THREADS,
                               1, 1, POD_APPEND_SMEM_BYTES, given->stream, arguments, NULL),
                 "launching the appending kernel");
    return POD_OK;
}

pod_status pod__cuda_append(const pod_device *device, const pod_append_job *job, pod_stream stream) {
    append_launch given = {job, (CUstream)stream};
    return pod__cuda_in_context(device, launch, &given);
}
