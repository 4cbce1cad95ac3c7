/* SPDX-License-Identifier: Apache-2.0 */
/* Finding work. SM-aware CTA scheduling: a CTA first asks on which SM it runs, takes that SM's next ticket, and only
 * then binds itself to prefill or decode, so that every SM holds both for as long as there are both. */
#ifndef POD_SM80_FIND_CUH
#define POD_SM80_FIND_CUH

#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/ptx/ptx_sm80.cuh"
#include "cuda/kernels/requests.cuh"
#include "cuda/kernels/sm80/pipeline_sm80.cuh"
#include "cuda/kernels/sm80/runs_sm80.cuh"

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
    int32_t prefills = pod_core_num_prefill_tickets(&params.shape, header, 1), decodes = num_decode_tickets(params);
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

/** The work of ticket `index` of the prefill queue. */
template <int ROWS, int TILE_TOKENS, int KV_BYTES, bool ALL_MASKS>
static __device__ prefill_work find_prefill(const pod_kernel_params &params, int32_t index) {
    int32_t group = params.shape.group;
    prefill_work work;
    work.item = pod_core_prefill_item(&params.shape, &params.schedule, index, 1, 0);
    work.request = load_request(params, work.item.entry.request);
    work.num_rows = min(ROWS, work.request.q_len * group - work.item.entry.row_begin);
    work.first_key = work.item.entry.tile_begin * TILE_TOKENS;
    int32_t last_row = work.item.entry.row_begin + work.num_rows - 1;
    work.zero = work.has_lost = 0;
    int32_t first_token = place_row(params, work.item.entry.row_begin).token;
    pod_key_range unmasked = unmasked_keys(params, work.request, first_token, place_row(params, last_row).token);
    if constexpr (ALL_MASKS) unmasked.end = min(unmasked.end, tree_begin(params, work.request));
    tile_range tiles = unmasked_tiles(unmasked, work.first_key, TILE_TOKENS);
    work.unseen_keys = max(0, visible_keys(params, work.request, first_token).begin - work.first_key);
    work.num_keys = max(0, work.request.kv_len - work.first_key);
    work.run_shift = run_shift(params, work.request.kv_len);
    work.range.num_tiles = work.item.entry.num_tiles;
    work.range.window_tiles = (WINDOW_RUNS << work.run_shift) / TILE_TOKENS;
    work.range.unmasked_begin = tiles.begin;
    work.range.unmasked_end = tiles.end;
    int32_t num_run_tiles = work.run_shift > 0 ? min(work.item.entry.num_tiles, work.num_keys / TILE_TOKENS) : 0;
    work.sources[0] = {head_of<KV_BYTES>(params.k, work.item.kv_head, params.k_head_stride),
                       to_chunks<KV_BYTES>(params.k_token_stride), num_run_tiles};
    work.sources[1] = {head_of<KV_BYTES>(params.v, work.item.kv_head, params.v_head_stride),
                       to_chunks<KV_BYTES>(params.v_token_stride), num_run_tiles};
    return work;
}

/** The item of `slice` that begins at `position` on the decode line. Stages before a window are left out. */
template <int STAGE_TOKENS, int KV_BYTES, bool ALL_MASKS>
static __device__ decode_work find_decode(const pod_kernel_params &params, int32_t position, int32_t slice,
                                          int32_t slice_end, int lane) {
    decode_work work;
    pod_schedule schedule = params.schedule;
    schedule.header = new_header(params);
    pod_decode_place place = pod_core_decode_place(&params.shape, schedule.header, position);
    int32_t request = find_decode_request(schedule, schedule.header->num_requests, position - place.head_begin, lane);
    work.request = load_request(params, request);
    pod_core_decode_item_of(&params.shape, &params.tiling, &schedule, place, request, position, slice, slice_end,
                            &work.item);
    work.num_rows = work.request.q_len * params.shape.group;
    int32_t first_tile_key = work.item.tile_begin * DECODE_TILE_TOKENS;
    int32_t first_seen = visible_keys(params, work.request, 0).begin;
    work.first_key = max(first_tile_key, first_seen / STAGE_TOKENS * STAGE_TOKENS);
    work.end_key = min(first_tile_key + work.item.num_tiles * DECODE_TILE_TOKENS, work.request.kv_len);
    work.unseen_keys = max(0, first_seen - work.first_key);
    work.unmasked = unmasked_keys(params, work.request, 0, work.request.q_len - 1);
    if constexpr (ALL_MASKS) work.unmasked.end = min(work.unmasked.end, tree_begin(params, work.request));
    work.has_lost = 0;
    work.heads[0] = head_of<KV_BYTES>(params.k, work.item.kv_head, params.k_head_stride);
    work.heads[1] = head_of<KV_BYTES>(params.v, work.item.kv_head, params.v_head_stride);
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
