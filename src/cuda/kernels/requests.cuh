/* SPDX-License-Identifier: Apache-2.0 */
/* The planned requests: finding the one that a place on the decode line belongs to, and loading one. */
#ifndef POD_CUDA_REQUESTS_CUH
#define POD_CUDA_REQUESTS_CUH

#include "cuda/kernels/params.h"

/** A planned request; one with a bad page number sees no keys, like one with bad lengths. */
static __device__ __forceinline__ pod_request load_request(const pod_kernel_params &params, int32_t r) {
    pod_request request = params.schedule.requests[r];
    if (params.schedule.page_errors[r] != 0) {
        request.kv_len = 0;
        request.error = POD_REQUEST_PAGE;
    }
    return request;
}

/** The request that owns `position` on the decode line: pod_core_find() with 32 lanes, so that a search takes one or
 * two trips to memory instead of ten. */
static __device__ __forceinline__ int32_t find_decode_request(const pod_schedule &schedule, int32_t num_requests,
                                                              int32_t position, int lane) {
    int32_t low = 0, high = num_requests;
    while (high - low > 1) {
        int32_t step = (high - low + 31) / 32, probe = low + lane * step;
        bool owned = probe < high && schedule.decode_begin[probe] <= position;
        low += (__popc(__ballot_sync(~0u, owned)) - 1) * step;
        high = min(high, low + step);
    }
    return low;
}

#endif
