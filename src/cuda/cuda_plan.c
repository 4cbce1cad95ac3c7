/* SPDX-License-Identifier: Apache-2.0 */
/* Planning on the device: one launch, after copies of the arrays if they are on the host. */
#include "base/status.h"
#include "cuda/cuda_device.h"
#include "cuda/kernels/plan/plan_params.h"

static int32_t *workspace_array(const pod_plan *plan, size_t offset) {
    return (int32_t *)(void *)((char *)plan->workspace.plan + offset);
}

/** Copies `count` numbers from the host to an offset of the workspace. Returns where they are then through `array`. */
static pod_status copy_array(const pod_cuda_device *cuda, const pod_plan *plan, size_t offset, size_t count,
                             const char *doing, const int32_t **array) {
    int32_t *to = workspace_array(plan, offset);
    if (count != 0) {
        POD_CUDA_TRY(
            cuda,
            memcpy_htod_async((CUdeviceptr)(uintptr_t)to, *array, count * sizeof(int32_t), (CUstream)plan->stream),
            doing);
    }
    *array = to;
    return POD_OK;
}

/** Most pages that any request of a (validated) host batch uses. */
static int32_t most_pages(const pod_limits *limits, const pod_batch *batch) {
    int32_t most = 0;
    for (int32_t r = 0; r < batch->num_requests; r++) most = pod_core_max(most, batch->kv_len[r]);
    return pod_core_ceil_div(most, limits->page_size);
}

static pod_status copy_page_table(const pod_cuda_device *cuda, pod_plan *plan) {
    size_t pages = (size_t)most_pages(&plan->limits, &plan->batch);
    CUDA_MEMCPY2D copy = {
        .srcMemoryType = CU_MEMORYTYPE_HOST,
        .srcHost = plan->batch.page_table,
        .srcPitch = (size_t)plan->batch.page_table_stride * sizeof(int32_t),
        .dstMemoryType = CU_MEMORYTYPE_DEVICE,
        .dstDevice = (CUdeviceptr)(uintptr_t)workspace_array(plan, plan->layout.page_table),
        .dstPitch = (size_t)plan->layout.table_pages * sizeof(int32_t),
        .WidthInBytes = pages * sizeof(int32_t),
        .Height = (size_t)plan->batch.num_requests,
    };
    if (copy.WidthInBytes != 0 && copy.Height != 0) {
        POD_CUDA_TRY(cuda, memcpy_2d_async(&copy, (CUstream)plan->stream), "copying the page table to the GPU");
    }
    plan->batch.page_table = workspace_array(plan, plan->layout.page_table);
    plan->batch.page_table_stride = plan->layout.table_pages;
    plan->batch.max_pages = plan->layout.table_pages;
    return POD_OK;
}

/** Moves a host batch into the workspace: from here on the plan's batch and shapes name the copies. What the planner is
 * told of the host arrays' contents (num_q_tokens) stays. */
static pod_status copy_batch(const pod_cuda_device *cuda, pod_plan *plan) {
    int is_capturing;
    POD_TRY(pod__cuda_is_capturing(cuda, (CUstream)plan->stream, &is_capturing));
    if (is_capturing) {
        return pod__fail(POD_E_UNSUPPORTED, "memory = POD_MEMORY_HOST is not supported while the stream is being "
                                            "captured: a replay reads the arrays from the GPU's memory "
                                            "(POD_MEMORY_DEVICE)");
    }
    const pod_layout *layout = &plan->layout;
    pod_batch *batch = &plan->batch;
    size_t requests = (size_t)batch->num_requests;
    if (batch->page_table != NULL) POD_TRY(copy_page_table(cuda, plan)); /* looks at the host's kv_len */
    POD_TRY(copy_array(cuda, plan, layout->q_start, requests + 1, "copying q_start to the GPU", &batch->q_start));
    POD_TRY(copy_array(cuda, plan, layout->kv_len, requests, "copying kv_len to the GPU", &batch->kv_len));
    for (int32_t m = 0; m < plan->num_masks; m++) {
        pod_shape *shape = &plan->shapes[m];
        size_t offset = layout->causal_per_request + (size_t)m * (size_t)plan->limits.max_requests * sizeof(int32_t);
        shape->q_start = batch->q_start;
        shape->kv_len = batch->kv_len;
        if (shape->causal_per_request == NULL) continue;
        POD_TRY(copy_array(cuda, plan, offset, requests, "copying causal_per_request to the GPU",
                           &shape->causal_per_request));
    }
    batch->memory = POD_MEMORY_DEVICE;
    return POD_OK;
}

static pod_status check_batch_pointers(const pod_cuda_device *cuda, const pod_plan *plan) {
    POD_TRY(pod__cuda_check_pointer(cuda, "q_start", plan->batch.q_start));
    POD_TRY(pod__cuda_check_pointer(cuda, "kv_len", plan->batch.kv_len));
    for (int32_t m = 0; m < plan->num_masks; m++) {
        POD_TRY(pod__cuda_check_pointer(cuda, "causal_per_request", plan->shapes[m].causal_per_request));
    }
    return pod__cuda_check_pointer(cuda, "page_table", plan->batch.page_table);
}

/** A workspace that the GPU cannot reach is a wrong workspace, not a wrong argument. */
static pod_status check_workspace(const pod_cuda_device *cuda, const pod_workspace *workspace) {
    pod_status status = pod__cuda_check_pointer(cuda, "workspace.plan", workspace->plan);
    if (status == POD_OK) status = pod__cuda_check_pointer(cuda, "workspace.scratch", workspace->scratch);
    if (status == POD_OK) status = pod__cuda_check_pointer(cuda, "workspace.bad_request", workspace->bad_request);
    return status == POD_E_ARGUMENT ? POD_E_WORKSPACE : status;
}

_Static_assert(POD_PLAN_MAX_MASKS == POD_MAX_MASKS, "one launch plans all masks");

static pod_status launch_plan(const pod_cuda_device *cuda, const pod_plan *plan) {
    pod_plan_params params = {
        .num_masks = plan->num_masks,
        .num_pages = plan->batch.num_pages,
        .page_size = plan->limits.page_size,
        .max_pages = plan->batch.max_pages,
        .page_table = plan->batch.page_table,
        .page_table_stride = plan->batch.page_table_stride,
        .signature = plan->signature,
        .bad_request = plan->workspace.bad_request,
        .tiling = plan->choice.tiling,
    };
    memcpy(params.shapes, plan->shapes, (size_t)plan->num_masks * sizeof *plan->shapes);
    memcpy(params.schedules, plan->schedules, (size_t)plan->num_masks * sizeof *plan->schedules);
    int32_t checkers = pod_core_min(plan->batch.num_requests, POD_PLAN_CHECKERS_PER_SM * cuda->chip.num_sms);
    void *arguments[] = {&params};
    POD_CUDA_TRY(cuda,
                 launch_kernel(cuda->plan_kernel, (unsigned)(plan->num_masks + checkers), 1, 1, POD_PLAN_THREADS, 1, 1,
                               0, (CUstream)plan->stream, arguments, NULL),
                 "launching the planning kernel");
    return POD_OK;
}

static pod_status build(const pod_cuda_device *cuda, void *argument) {
    pod_plan *plan = argument;
    POD_TRY(check_workspace(cuda, &plan->workspace));
    POD_TRY(plan->batch.memory == POD_MEMORY_HOST ? copy_batch(cuda, plan) : check_batch_pointers(cuda, plan));
    return launch_plan(cuda, plan);
}

pod_status pod__cuda_plan_build(pod_plan *plan) {
    return pod__cuda_in_context(plan->device, build, plan);
}
