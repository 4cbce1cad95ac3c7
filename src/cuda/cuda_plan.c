/* SPDX-License-Identifier: Apache-2.0 */
/* Planning on the device: one launch, after copies of the arrays if they are on the host. */
#include "base/status.h"
#include "cuda/cuda_device.h"
#include "cuda/kernels/plan/plan_params.h"

static CUdeviceptr workspace_at(const pod_plan *plan, size_t offset) {
    return (CUdeviceptr)(uintptr_t)plan->workspace + offset;
}

static int32_t *workspace_array(const pod_plan *plan, size_t offset) {
    return (int32_t *)(void *)((char *)plan->workspace + offset);
}

/** Most pages that any request of a (validated) host batch uses. */
static int32_t most_pages(const pod_limits *limits, const pod_batch *batch) {
    int32_t most = 0;
    for (int32_t r = 0; r < batch->num_requests; r++) most = pod_core_max(most, batch->kv_len[r]);
    return pod_core_ceil_div(most, limits->page_size);
}

static pod_status copy_page_table(const pod_cuda_device *cuda, pod_plan *plan, CUstream stream) {
    size_t pages = (size_t)most_pages(&plan->limits, &plan->batch);
    CUDA_MEMCPY2D copy = {
        .srcMemoryType = CU_MEMORYTYPE_HOST,
        .srcHost = plan->batch.page_table,
        .srcPitch = (size_t)plan->batch.page_table_stride * sizeof(int32_t),
        .dstMemoryType = CU_MEMORYTYPE_DEVICE,
        .dstDevice = workspace_at(plan, plan->layout.page_table),
        .dstPitch = (size_t)plan->layout.table_pages * sizeof(int32_t),
        .WidthInBytes = pages * sizeof(int32_t),
        .Height = (size_t)plan->batch.num_requests,
    };
    if (copy.WidthInBytes != 0 && copy.Height != 0) {
        POD_CUDA_TRY(cuda, memcpy_2d_async(&copy, stream), "copying the page table to the GPU");
    }
    plan->batch.page_table = workspace_array(plan, plan->layout.page_table);
    plan->batch.page_table_stride = plan->layout.table_pages;
    plan->batch.max_pages = plan->layout.table_pages;
    return POD_OK;
}

/** Moves a host batch into the workspace; from here on the plan's batch is the copy. */
static pod_status copy_batch(const pod_cuda_device *cuda, pod_plan *plan, CUstream stream) {
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    POD_CUDA_TRY(cuda, stream_is_capturing(stream, &capture), "asking whether the stream is being captured");
    if (capture != CU_STREAM_CAPTURE_STATUS_NONE) {
        return pod__fail(POD_E_UNSUPPORTED, "memory = POD_MEMORY_HOST is not supported while the stream is being "
                                            "captured: a replay reads the arrays from the GPU's memory "
                                            "(POD_MEMORY_DEVICE)");
    }
    pod_batch *batch = &plan->batch;
    size_t requests = (size_t)batch->num_requests;
    POD_CUDA_TRY(cuda,
                 memcpy_htod_async(workspace_at(plan, plan->layout.q_start), batch->q_start,
                                   (requests + 1) * sizeof(int32_t), stream),
                 "copying q_start to the GPU");
    if (requests != 0) {
        POD_CUDA_TRY(cuda,
                     memcpy_htod_async(workspace_at(plan, plan->layout.kv_len), batch->kv_len,
                                       requests * sizeof(int32_t), stream),
                     "copying kv_len to the GPU");
    }
    if (batch->page_table != NULL) POD_TRY(copy_page_table(cuda, plan, stream));
    batch->memory = POD_MEMORY_DEVICE;
    batch->q_start = plan->shape.q_start = workspace_array(plan, plan->layout.q_start);
    batch->kv_len = plan->shape.kv_len = workspace_array(plan, plan->layout.kv_len);
    return POD_OK;
}

static pod_status check_batch_pointers(const pod_cuda_device *cuda, const pod_batch *batch) {
    POD_TRY(pod__cuda_check_pointer(cuda, "q_start", batch->q_start));
    POD_TRY(pod__cuda_check_pointer(cuda, "kv_len", batch->kv_len));
    return pod__cuda_check_pointer(cuda, "page_table", batch->page_table);
}

static pod_status launch_plan(const pod_cuda_device *cuda, const pod_plan *plan, CUstream stream) {
    pod_plan_params params = {
        .shape = plan->shape,
        .tiling = plan->choice.tiling,
        .schedule = plan->schedule,
        .signature = plan->layout.signature,
        .page_table = plan->batch.page_table,
        .page_table_stride = plan->batch.page_table_stride,
        .max_pages = plan->batch.max_pages,
        .num_pages = plan->batch.num_pages,
        .page_size = plan->limits.page_size,
    };
    int32_t checkers = pod_core_min(plan->batch.num_requests, POD_PLAN_CHECKERS_PER_SM * cuda->chip.num_sms);
    void *arguments[] = {&params};
    POD_CUDA_TRY(cuda,
                 launch_kernel(cuda->plan_kernel, 1 + (unsigned)checkers, 1, 1, POD_PLAN_THREADS, 1, 1, 0, stream,
                               arguments, NULL),
                 "launching the planning kernel");
    return POD_OK;
}

static pod_status plan_in_context(const pod_cuda_device *cuda, pod_plan *plan, CUstream stream) {
    pod_status unreachable = pod__cuda_check_pointer(cuda, "workspace", plan->workspace);
    if (unreachable != POD_OK) return unreachable == POD_E_ARGUMENT ? POD_E_WORKSPACE : unreachable;
    if (plan->batch.memory == POD_MEMORY_HOST) {
        POD_TRY(copy_batch(cuda, plan, stream));
    } else {
        POD_TRY(check_batch_pointers(cuda, &plan->batch));
    }
    return launch_plan(cuda, plan, stream);
}

pod_status pod__cuda_plan_build(pod_plan *plan, const pod_batch *batch, pod_stream stream) {
    (void)batch; /* the plan has a copy */
    const pod_cuda_device *cuda = (const pod_cuda_device *)plan->device;
    int pushed;
    POD_TRY(pod__cuda_enter(cuda, &pushed));
    pod_status status = plan_in_context(cuda, plan, (CUstream)stream);
    pod__cuda_leave(cuda, pushed);
    return status;
}
