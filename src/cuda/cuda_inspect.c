/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a plan that the device made: copied to the host, or what is wrong with its batch put in words. */
#include "base/status.h"
#include "cuda/cuda_device.h"
#include "schedule/soundness.h"

#include <stdlib.h>

/** Copies from the device, after all that `stream` was given, and waits for it. */
static pod_status read_back(const pod_cuda_device *cuda, void *to, const void *from, size_t bytes, CUstream stream) {
    if (bytes == 0) return POD_OK;
    POD_CUDA_TRY(cuda, memcpy_dtoh_async(to, (CUdeviceptr)(uintptr_t)from, bytes, stream), "reading the plan back");
    POD_CUDA_TRY(cuda, stream_synchronize(stream), "waiting for the plan");
    return POD_OK;
}

pod_status pod__cuda_is_capturing(const pod_cuda_device *cuda, CUstream stream, int *is_capturing) {
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    POD_CUDA_TRY(cuda, stream_is_capturing(stream, &capture), "asking whether the stream is being captured");
    *is_capturing = capture != CU_STREAM_CAPTURE_STATUS_NONE;
    return POD_OK;
}

/** While a stream is being captured, nothing can be read back. */
static pod_status check_not_capturing(const pod_cuda_device *cuda, CUstream stream) {
    int is_capturing;
    POD_TRY(pod__cuda_is_capturing(cuda, stream, &is_capturing));
    if (!is_capturing) return POD_OK;
    return pod__fail(POD_E_STATE, "the stream is being captured; ask about the plan after a replay");
}

/** Reads the header of a mask's schedule. A captured plan is made by the first replay; before that the workspace holds
 * anything. */
static pod_status read_header(const pod_cuda_device *cuda, const pod_plan *plan, int32_t mask, CUstream stream,
                              pod_schedule_header *header) {
    POD_TRY(read_back(cuda, header, plan->schedules[mask].header, sizeof *header, stream));
    if (header->signature == plan->signature &&
        pod__schedule_has_sound_counts(&plan->shapes[mask], &plan->choice.tiling, &plan->layout, header)) {
        return POD_OK;
    }
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

static pod_status read_arrays(const pod_cuda_device *cuda, const pod_schedule *from, CUstream stream,
                              pod_schedule *copy) {
    size_t requests = (size_t)copy->header->num_requests, entries = (size_t)copy->header->num_prefill_entries;
    POD_TRY(read_back(cuda, copy->requests, from->requests, requests * sizeof *copy->requests, stream));
    POD_TRY(read_back(cuda, copy->entries, from->entries, entries * sizeof *copy->entries, stream));
    return read_back(cuda, copy->decode_begin, from->decode_begin, (requests + 1) * sizeof *copy->decode_begin, stream);
}

typedef struct read_job {
    const pod_plan *plan;
    int32_t mask;
    pod_schedule *copy;
} read_job;

static pod_status read_plan(const pod_cuda_device *cuda, void *argument) {
    const read_job *job = argument;
    const pod_plan *plan = job->plan;
    const pod_schedule *from = &plan->schedules[job->mask];
    pod_schedule_header header;
    CUstream stream = (CUstream)plan->stream;
    POD_TRY(check_not_capturing(cuda, stream));
    POD_TRY(read_header(cuda, plan, job->mask, stream, &header));
    POD_TRY(allocate(&header, job->copy));
    pod_status status = read_arrays(cuda, from, stream, job->copy);
    if (status != POD_OK) free(job->copy->header);
    return status;
}

pod_status pod__cuda_plan_read(const pod_plan *plan, int32_t mask, pod_schedule *copy) {
    read_job job = {plan, mask, copy};
    return pod__cuda_in_context(plan->device, read_plan, &job);
}

/* ---- what is wrong with a batch ---- */

enum { REQUESTS_PER_COPY = 256 };

static pod_status name_q_start(const pod_cuda_device *cuda, const pod_plan *plan, int32_t r, CUstream stream) {
    int32_t ends[2];
    POD_TRY(read_back(cuda, ends, plan->batch.q_start + r, sizeof ends, stream));
    if (r == 0 && ends[0] != 0) return pod__fail(POD_E_ARGUMENT, "q_start[0] = %d is not 0", ends[0]);
    return pod__fail(POD_E_ARGUMENT, "q_start[%d] = %d and q_start[%d] = %d do not ascend within [0, %d]", r, ends[0],
                     r + 1, ends[1], plan->batch.num_q_tokens);
}

static pod_status name_kv_len(const pod_cuda_device *cuda, const pod_plan *plan, int32_t r, int32_t q_len,
                              CUstream stream) {
    int32_t kv_len;
    POD_TRY(read_back(cuda, &kv_len, plan->batch.kv_len + r, sizeof kv_len, stream));
    if (kv_len >= 0 && kv_len < q_len) {
        return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is smaller than q_len[%d] = %d", r, kv_len, r, q_len);
    }
    return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is outside [0, %d]", r, kv_len, plan->limits.max_kv_len);
}

static pod_status name_page(const pod_cuda_device *cuda, const pod_plan *plan, int32_t r, int32_t entry, int32_t kv_len,
                            CUstream stream) {
    const pod_batch *batch = &plan->batch;
    int32_t page;
    if (batch->page_table == NULL && entry == 0) {
        return pod__fail(POD_E_ARGUMENT, "request %d needs page %d, but num_pages = %d", r, r, batch->num_pages);
    }
    if (batch->page_table == NULL) {
        return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d exceeds page_size = %d without a page_table", r, kv_len,
                         plan->limits.page_size);
    }
    if (entry >= batch->max_pages) {
        return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d needs more pages of %d tokens than max_pages = %d", r, kv_len,
                         plan->limits.page_size, batch->max_pages);
    }
    POD_TRY(read_back(cuda, &page, batch->page_table + r * batch->page_table_stride + entry, sizeof page, stream));
    return pod__fail(POD_E_ARGUMENT, "page_table[%d][%d] = %d is outside [0, %d)", r, entry, page, batch->num_pages);
}

/** Names the first request that is wrong under one mask. */
static pod_status find_bad_request(const pod_cuda_device *cuda, const pod_plan *plan, int32_t mask, CUstream stream) {
    const pod_schedule *schedule = &plan->schedules[mask];
    pod_request requests[REQUESTS_PER_COPY] = {{0}};
    uint32_t page_errors[REQUESTS_PER_COPY] = {0};
    for (int32_t begin = 0; begin < plan->batch.num_requests; begin += REQUESTS_PER_COPY) {
        int32_t count = pod_core_min(REQUESTS_PER_COPY, plan->batch.num_requests - begin);
        size_t n = (size_t)count;
        POD_TRY(read_back(cuda, requests, schedule->requests + begin, n * sizeof *requests, stream));
        POD_TRY(read_back(cuda, page_errors, schedule->page_errors + begin, n * sizeof *page_errors, stream));
        for (int32_t i = 0; i < count; i++) {
            int32_t r = begin + i;
            if (requests[i].error == POD_REQUEST_Q_START) return name_q_start(cuda, plan, r, stream);
            if (requests[i].error != POD_REQUEST_OK) return name_kv_len(cuda, plan, r, requests[i].q_len, stream);
            if (page_errors[i] != 0) {
                return name_page(cuda, plan, r, (int32_t)(page_errors[i] - 1), requests[i].kv_len, stream);
            }
        }
    }
    return POD_OK;
}

typedef struct check_job {
    const pod_plan *plan;
    CUstream stream;
} check_job;

static pod_status check_plan(const pod_cuda_device *cuda, void *argument) {
    const check_job *job = argument;
    pod_schedule_header header;
    POD_TRY(check_not_capturing(cuda, job->stream));
    for (int32_t m = 0; m < job->plan->num_masks; m++) {
        POD_TRY(read_header(cuda, job->plan, m, job->stream, &header));
        POD_TRY(find_bad_request(cuda, job->plan, m, job->stream));
    }
    return POD_OK;
}

pod_status pod__cuda_plan_check(const pod_plan *plan, pod_stream stream) {
    check_job job = {plan, (CUstream)stream};
    return pod__cuda_in_context(plan->device, check_plan, &job);
}
