/* SPDX-License-Identifier: Apache-2.0 */
/* What the device found wrong with a batch, read back and put in words. */
#include "base/status.h"
#include "cuda/cuda_device.h"

enum { REQUESTS_PER_COPY = 256 };

static pod_status name_q_start(const pod_cuda_device *cuda, const pod_plan *plan, int32_t r, CUstream stream) {
    int32_t ends[2];
    POD_TRY(pod__cuda_read_back(cuda, ends, plan->batch.q_start + r, sizeof ends, stream));
    return pod__fail(POD_E_ARGUMENT, "q_start[%d] = %d and q_start[%d] = %d do not ascend within [0, %d]", r, ends[0],
                     r + 1, ends[1], plan->limits.max_q_tokens);
}

static pod_status name_kv_len(const pod_cuda_device *cuda, const pod_plan *plan, int32_t r, int32_t q_len,
                              CUstream stream) {
    int32_t kv_len;
    POD_TRY(pod__cuda_read_back(cuda, &kv_len, plan->batch.kv_len + r, sizeof kv_len, stream));
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
    POD_TRY(pod__cuda_read_back(cuda, &page, batch->page_table + r * batch->page_table_stride + entry, sizeof page,
                                stream));
    return pod__fail(POD_E_ARGUMENT, "page_table[%d][%d] = %d is outside [0, %d)", r, entry, page, batch->num_pages);
}

static pod_status find_bad_request(const pod_cuda_device *cuda, const pod_plan *plan, CUstream stream) {
    pod_request requests[REQUESTS_PER_COPY];
    uint32_t page_errors[REQUESTS_PER_COPY];
    for (int32_t begin = 0; begin < plan->batch.num_requests; begin += REQUESTS_PER_COPY) {
        int32_t count = pod_core_min(REQUESTS_PER_COPY, plan->batch.num_requests - begin);
        size_t n = (size_t)count;
        POD_TRY(pod__cuda_read_back(cuda, requests, plan->schedule.requests + begin, n * sizeof *requests, stream));
        POD_TRY(pod__cuda_read_back(cuda, page_errors, plan->schedule.page_errors + begin, n * sizeof *page_errors,
                                    stream));
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

static pod_status status_in_context(const pod_cuda_device *cuda, const pod_plan *plan, CUstream stream) {
    POD_TRY(pod__cuda_check_not_capturing(cuda, stream));
    return find_bad_request(cuda, plan, stream);
}

pod_status pod__cuda_plan_status(const pod_plan *plan, pod_stream stream) {
    const pod_cuda_device *cuda = (const pod_cuda_device *)plan->device;
    int pushed;
    POD_TRY(pod__cuda_enter(cuda, &pushed));
    pod_status status = status_in_context(cuda, plan, (CUstream)stream);
    pod__cuda_leave(cuda, pushed);
    return status;
}
