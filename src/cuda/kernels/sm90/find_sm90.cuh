/* SPDX-License-Identifier: Apache-2.0 */
/* Finding work: tickets of the two queues become work slots. */
#ifndef POD_SM90_FIND_CUH
#define POD_SM90_FIND_CUH

#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/requests.cuh"
#include "cuda/kernels/sm90/pace_sm90.cuh"

template <class SHAPE> struct find_sm90 {
    typedef smem_sm90<SHAPE> smem_type;

    /** The prefill queue as registers hold it: with every ticket that is drawn, the header leaves the SM's cache. */
    struct prefill_queue {
        int32_t num_tickets, heads_per_ticket;
        __device__ __forceinline__ prefill_queue(const pod_kernel_params &params) {
            heads_per_ticket = params.schedule.header->heads_per_ticket;
            num_tickets = pod_core_num_prefill_tickets(&params.shape, params.schedule.header, heads_per_ticket);
        }
    };

    static __device__ __forceinline__ void find_prefill(const pod_kernel_params &params, const prefill_queue &queue,
                                                        int32_t ticket, prefill_work &work) {
        int32_t rank = ptx_cta_rank();
        work.item = pod_core_prefill_item(&params.shape, &params.schedule, ticket, queue.heads_per_ticket, rank);
        work.request = load_request(params, work.item.entry.request);
        bool is_narrow = work.item.entry.heads == POD_HEADS_BOTH;
        work.row_begin = work.item.entry.row_begin + (is_narrow ? 0 : rank * SHAPE::CTA_ROWS);
        work.first_row = place_row(params, work.row_begin);
        work.num_rows = min((int32_t)SHAPE::CTA_ROWS, work.request.q_len * params.shape.group - work.row_begin);
        work.first_key = work.item.entry.tile_begin * SHAPE::PREFILL_TOKENS;
        int32_t kv_begin = 0;
        if (params.shape.window_tokens > 0)
            kv_begin = visible_keys(params, work.request, place_row(params, work.item.entry.row_begin).token).begin;
        work.load = {work.item.entry.request,
                     work.request.kv_len,
                     work.item.kv_head,
                     work.first_key,
                     work.item.entry.num_tiles,
                     kv_begin,
                     0};
    }

    /** The ticket that the cluster's first CTA drew, in both CTAs. The second reads it before the first can come back
     * to the same place: no CTA is ahead of the other by more tiles than the ring has pairs. `number` counts them from
     * 0. */
    static __device__ __forceinline__ int32_t share_ticket(smem_type &smem, uint32_t number, int32_t ticket) {
        uint32_t place = number % TICKET_PLACES, full = barrier_at(smem.ticket_full, place);
        if (ptx_cta_rank() == 0) {
            ptx_st_smem_at(smem_address(&smem.ticket[place]), 1, ticket);
            ptx_mbarrier_release_at(full, 1);
            return ticket;
        }
        ptx_mbarrier_wait_cluster(full, number / TICKET_PLACES % 2);
        return smem.ticket[place];
    }

    /** Describes the work of a ticket, the `number`-th of this CTA, in its slot, or the end. */
    static __device__ __forceinline__ void describe_prefill(const pod_kernel_params &params, smem_type &smem,
                                                            const prefill_queue &queue, int32_t ticket, uint32_t number,
                                                            uint32_t first_tile) {
        prefill_work &work = smem.prefill[number % WORK_SLOTS];
        work.item.kv_head = -1;
        if (ticket < queue.num_tickets) find_prefill(params, queue, ticket, work);
        work.load.first_tile = first_tile;
        work.number = number;
    }

    /** The first ticket of a cluster is its own number, the others are drawn. */
    static __device__ __forceinline__ int32_t first_ticket() {
        return (int32_t)(blockIdx.x / CLUSTER_CTAS);
    }

    /** The first work, before there are barriers. One lane. */
    static __device__ __forceinline__ void first_prefill(const pod_kernel_params &params, smem_type &smem) {
        describe_prefill(params, smem, prefill_queue(params), first_ticket(), 0, 0);
    }

    /** Warp 3, whose first lane does what is to be done once. The next ticket is drawn when the loader comes to the
     * work's last tile: early enough to have the next tiles in time, and late enough for the longest work that is left
     * to go to the cluster that ends first. */
    static __device__ void prefill(const pod_kernel_params &params, smem_type &smem, int lane) {
        pod_schedule_header *header = params.schedule.header;
        const prefill_queue queue(params);
        int32_t ticket = first_ticket();
        uint32_t first_tile = 0;
        for (uint32_t number = 0;; number++) {
            uint32_t slot = number % WORK_SLOTS;
            prefill_work &work = smem.prefill[slot];
            ptx_mbarrier_wait(barrier_at(smem.prefill_empty, slot), number / WORK_SLOTS % 2 ^ 1);
            bool exists = false;
            if (lane == 0) {
                if (number > 0) {
                    ticket = share_ticket(smem, number - 1, ticket);
                    describe_prefill(params, smem, queue, ticket, number, first_tile);
                }
                exists = work.item.kv_head >= 0;
                ptx_mbarrier_arrive(barrier_at(smem.prefill_full, slot));
                if (number == 0) pace_sm90<SHAPE>::set(params, smem);
                if (exists) first_tile += work.item.entry.num_tiles;
                if (exists && ptx_cta_rank() == 0) {
                    ptx_mbarrier_wait(smem_address(&smem.prefill_ending), number % 2);
                    ticket = (int32_t)(gridDim.x / CLUSTER_CTAS + atomicAdd(&header->prefill_ticket, 1));
                }
            }
            if (!__shfl_sync(~0u, exists, 0)) break;
        }
    }

    /** Describes the item at the cursor. */
    static __device__ __forceinline__ void find_decode(const pod_kernel_params &params, pod_decode_place place,
                                                       int32_t request, const decode_cursor &cursor,
                                                       decode_work &work) {
        work.request = load_request(params, request);
        pod_core_decode_item_of(&params.shape, &params.tiling, &params.schedule, place, request, cursor.position,
                                cursor.slice, cursor.slice_end, &work.item);
        work.num_rows = work.request.q_len * params.shape.group;
        work.first_key = work.item.tile_begin * SHAPE::DECODE_TOKENS;
        work.load = {request,
                     work.request.kv_len,
                     work.item.kv_head,
                     work.first_key,
                     work.item.num_tiles,
                     visible_keys(params, work.request, 0).begin,
                     0};
        work.unmasked = unmasked_keys(params, work.request, 0, work.request.q_len - 1);
    }

    /** Describes the item that comes next, of this slice or of the slice drawn before, or the end. */
    static __device__ __forceinline__ void next_decode(const pod_kernel_params &params, decode_cursor &cursor,
                                                       decode_work &work, int lane) {
        pod_schedule_header *header = params.schedule.header;
        if (cursor.position >= cursor.slice_end) {
            int32_t turn = cursor.next_turn;
            __syncwarp();
            if (turn >= header->num_slices) {
                if (lane == 0) work.item.kv_head = -1;
                return;
            }
            if (lane == 0) {
                int32_t slice = pod_core_slice_at(&params.shape, header, turn);
                cursor.slice = slice;
                cursor.position = pod_core_slice_begin(header, slice);
                cursor.slice_end = pod_core_slice_begin(header, slice + 1);
                cursor.next_turn = (int32_t)(gridDim.x + atomicAdd(&header->decode_ticket, 1));
            }
            __syncwarp();
        }
        int32_t position = cursor.position;
        __syncwarp(); /* all have read it before lane 0 writes it */
        pod_decode_place place = pod_core_decode_place(&params.shape, header, position);
        int32_t request = find_decode_request(params.schedule, position - place.head_begin, lane);
        if (lane == 0) {
            find_decode(params, place, request, cursor, work);
            cursor.position = position + work.item.num_tiles;
        }
    }

    /** The first item, before there are barriers. Warp 1. */
    static __device__ __forceinline__ void first_decode(const pod_kernel_params &params, smem_type &smem, int lane) {
        if (lane == 0) smem.cursor = {0, 0, 0, (int32_t)blockIdx.x};
        __syncwarp();
        next_decode(params, smem.cursor, smem.decode[0], lane);
        __syncwarp();
    }

    /** The two lanes that draw tickets leave; the last of the grid puts the tickets back for the next launch. */
    static __device__ __forceinline__ void leave(const pod_kernel_params &params) {
        pod_schedule_header *header = params.schedule.header;
        if (atomicAdd(&header->ctas_done, 1) != 2 * gridDim.x - 1) return;
        header->prefill_ticket = 0;
        header->decode_ticket = 0;
        header->ctas_done = 0;
    }
};

#endif
