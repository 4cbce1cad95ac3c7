/* SPDX-License-Identifier: Apache-2.0 */
#ifndef POD_CUDA_DECODE_LINE_CUH
#define POD_CUDA_DECODE_LINE_CUH

#include "cuda/kernels/params.h"

/** The request that owns `position` on the decode line: pod_core_find() with 32 lanes, so that a search takes one or
 * two trips to memory instead of ten. */
static __device__ __forceinline__ int32_t find_decode_request(const pod_schedule &schedule, int32_t position,
                                                              int lane) {
    int32_t low = 0, high = schedule.header->num_requests;
    while (high - low > 1) {
        int32_t step = (high - low + 31) / 32, probe = low + lane * step;
        bool owned = probe < high && schedule.decode_begin[probe] <= position;
        low += (__popc(__ballot_sync(~0u, owned)) - 1) * step;
        high = min(high, low + step);
    }
    return low;
}

#endif
