/* SPDX-License-Identifier: Apache-2.0 */
/* SM-aware CTA scheduling: a CTA first asks on which SM it runs, takes that SM's next ticket, and only then binds
 * itself to prefill or decode, so that every SM holds both for as long as there are both. */
#ifndef POD_SM80_TICKET_CUH
#define POD_SM80_TICKET_CUH

#include "cuda/kernels/params.h"
#include "cuda/kernels/ptx/ptx_sm80.cuh"

enum work_kind { WORK_NONE, WORK_PREFILL, WORK_DECODE };

enum { DECODE_SLICES_PER_CTA = 4 }; /* one per warp */

struct work_ticket {
    int32_t kind;  /* work_kind */
    int32_t index; /* prefill: position in the queue; decode: first of four slices */
};

/** The schedule's header, as if it could be another one at every call. NOTE: nvcc 13.0 otherwise keeps its address
 * through a whole kernel, which for sm_80 is in local memory. */
static __device__ __forceinline__ pod_schedule_header *new_header(const pod_kernel_params &params) {
    return params.schedule.header + (ptx_smid() >> 31); /* + 0 */
}

static __device__ __forceinline__ int32_t num_decode_tickets(const pod_kernel_params &params) {
    return pod_core_ceil_div(params.schedule.header->num_slices, DECODE_SLICES_PER_CTA);
}

/** Whether ticket number `ticket` of an SM prefers prefill. Proportional: `prefills` of every prefills + decodes. */
static __device__ __forceinline__ bool prefers_prefill(int32_t policy, uint32_t ticket, int32_t prefills,
                                                       int32_t decodes) {
    if (policy == POD_POLICY_HALF) return ticket % 2 == 0;
    uint64_t all = (uint64_t)prefills + (uint64_t)decodes;
    uint64_t before = ((uint64_t)ticket * prefills + all - 1) / all;
    uint64_t after = ((uint64_t)(ticket + 1) * prefills + all - 1) / all;
    return after > before;
}

/** The next piece of work for this CTA; one thread calls it. */
static __device__ work_ticket take_ticket(const pod_kernel_params &params) {
    pod_schedule_header *header = params.schedule.header;
    int32_t prefills = pod_core_num_prefill_tickets(&params.shape, header), decodes = num_decode_tickets(params);
    work_ticket work = {WORK_NONE, 0};
    if (prefills + decodes == 0) return work;
    uint32_t ticket = atomicAdd(&params.schedule.sm_tickets[ptx_smid() % POD_MAX_SMS], 1);
    bool tries_prefill = prefers_prefill(params.policy, ticket, prefills, decodes);
    for (int attempt = 0; attempt < 2; attempt++, tries_prefill = !tries_prefill) {
        if (tries_prefill && prefills > 0) {
            work.index = (int32_t)atomicAdd(&header->prefill_ticket, 1);
            if (work.index < prefills) {
                work.kind = WORK_PREFILL;
                return work;
            }
        }
        if (!tries_prefill && decodes > 0) {
            work.index = (int32_t)atomicAdd(&header->decode_ticket, 1) * DECODE_SLICES_PER_CTA;
            if (work.index < header->num_slices) {
                work.kind = WORK_DECODE;
                return work;
            }
        }
    }
    return work;
}

/** The last CTA to leave puts the tickets back to zero for the next launch of the same plan. All threads call it. */
static __device__ __forceinline__ void leave(const pod_kernel_params &params) {
    pod_schedule_header *header = new_header(params);
    if (!__syncthreads_or(ptx_tid() == 0 && atomicAdd(&header->ctas_done, 1) == gridDim.x - 1)) return;
    for (int i = ptx_tid(); i < POD_MAX_SMS; i += blockDim.x) params.schedule.sm_tickets[i] = 0;
    if (ptx_tid() > 0) return;
    header->prefill_ticket = 0;
    header->decode_ticket = 0;
    header->ctas_done = 0;
}

#endif
