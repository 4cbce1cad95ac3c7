/* SPDX-License-Identifier: Apache-2.0 */
/* A plan that the device made, copied to the host for looking at it. */
#include "base/status.h"
#include "cuda/cuda_device.h"

#include <stdlib.h>

pod_status pod__cuda_read_back(const pod_cuda_device *cuda, void *to, const void *from, size_t bytes, CUstream stream) {
    if (bytes == 0) return POD_OK;
    POD_CUDA_TRY(cuda, memcpy_dtoh_async(to, (CUdeviceptr)(uintptr_t)from, bytes, stream), "reading the plan back");
    POD_CUDA_TRY(cuda, stream_synchronize(stream), "waiting for the plan");
    return POD_OK;
}

pod_status pod__cuda_check_not_capturing(const pod_cuda_device *cuda, CUstream stream) {
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    POD_CUDA_TRY(cuda, stream_is_capturing(stream, &capture), "asking whether the stream is being captured");
    if (capture == CU_STREAM_CAPTURE_STATUS_NONE) return POD_OK;
    return pod__fail(POD_E_STATE, "the stream is being captured; ask about the plan after a replay");
}

/** A captured plan is made by the first replay; before that the workspace holds anything. */
static pod_status check_made(const pod_plan *plan, const pod_schedule_header *header) {
    int is_made = header->signature == plan->layout.signature && header->num_requests == plan->batch.num_requests;
    is_made &= header->num_prefill_entries >= 0 && header->num_prefill_entries <= plan->layout.max_entries;
    is_made &= header->num_slices >= 0 && header->num_slices <= plan->choice.tiling.max_slices;
    if (is_made) return POD_OK;
    return pod__fail(POD_E_STATE, "the GPU has not made this plan yet, or the workspace was overwritten since");
}

/** One block for the header and the arrays behind it; each is a multiple of 8 bytes but the last. */
static pod_status allocate(const pod_schedule_header *header, pod_schedule *copy) {
    size_t requests = (size_t)header->num_requests, entries = (size_t)header->num_prefill_entries;
    size_t request_bytes = requests * sizeof *copy->requests, entry_bytes = entries * sizeof *copy->entries;
    char *block = malloc(sizeof *header + request_bytes + entry_bytes + (requests + 1) * sizeof *copy->decode_begin);
    if (block == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for a copy of the plan");
    memcpy(block, header, sizeof *header);
    *copy = (pod_schedule){
        .header = (pod_schedule_header *)(void *)block,
        .requests = (pod_request *)(void *)(block + sizeof *header),
        .entries = (pod_prefill_entry *)(void *)(block + sizeof *header + request_bytes),
        .decode_begin = (int32_t *)(void *)(block + sizeof *header + request_bytes + entry_bytes),
    };
    return POD_OK;
}

static pod_status read_arrays(const pod_cuda_device *cuda, const pod_plan *plan, pod_schedule *copy) {
    CUstream stream = (CUstream)plan->stream;
    size_t requests = (size_t)copy->header->num_requests, entries = (size_t)copy->header->num_prefill_entries;
    POD_TRY(
        pod__cuda_read_back(cuda, copy->requests, plan->schedule.requests, requests * sizeof *copy->requests, stream));
    POD_TRY(pod__cuda_read_back(cuda, copy->entries, plan->schedule.entries, entries * sizeof *copy->entries, stream));
    return pod__cuda_read_back(cuda, copy->decode_begin, plan->schedule.decode_begin,
                               (requests + 1) * sizeof *copy->decode_begin, stream);
}

static pod_status read_in_context(const pod_cuda_device *cuda, const pod_plan *plan, pod_schedule *copy) {
    pod_schedule_header header;
    CUstream stream = (CUstream)plan->stream;
    POD_TRY(pod__cuda_check_not_capturing(cuda, stream));
    POD_TRY(pod__cuda_read_back(cuda, &header, plan->schedule.header, sizeof header, stream));
    POD_TRY(check_made(plan, &header));
    POD_TRY(allocate(&header, copy));
    pod_status status = read_arrays(cuda, plan, copy);
    if (status != POD_OK) free(copy->header);
    return status;
}

pod_status pod__cuda_plan_read(const pod_plan *plan, pod_schedule *copy) {
    const pod_cuda_device *cuda = (const pod_cuda_device *)plan->device;
    int pushed;
    POD_TRY(pod__cuda_enter(cuda, &pushed));
    pod_status status = read_in_context(cuda, plan, copy);
    pod__cuda_leave(cuda, pushed);
    return status;
}
