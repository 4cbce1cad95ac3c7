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

    /** The decode line as registers hold it, and its slices: pod_core_slice_at(), pod_core_slice_begin() and
     * pod_core_slice_of(), with one division of integers for all of them. There are few slices, so that the other
     * quotients are of numbers below 2^16. */
    struct decode_line {
        int32_t num_tiles, num_slices, num_requests, kv_heads, each, rest;
        __device__ __forceinline__ decode_line(const pod_kernel_params &params) {
            const pod_schedule_header *header = params.schedule.header;
            num_tiles = header->num_decode_tiles;
            num_slices = header->num_slices;
            num_requests = header->num_requests;
            kv_heads = params.shape.kv_heads;
            each = num_slices > 0 ? num_tiles / num_slices : 0;
            rest = num_tiles - each * num_slices;
        }
        __device__ __forceinline__ int32_t slice_at(int32_t turn) const {
            int32_t of_head = small_quotient(num_slices, kv_heads);
            if (of_head * kv_heads != num_slices) return turn;
            int32_t place = small_quotient(turn, kv_heads);
            return (turn - place * kv_heads) * of_head + place;
        }
        __device__ __forceinline__ int32_t begin(int32_t slice) const {
            return each * slice + small_quotient(rest * slice, num_slices);
        }
        __device__ __forceinline__ int32_t slice_of(int32_t tile) const {
            int32_t slice = (int32_t)__fdividef((float)tile * (float)num_slices, (float)num_tiles);
            while (begin(slice) > tile) slice--;
            while (begin(slice + 1) <= tile) slice++;
            return slice;
        }
    };

    /** Describes the item at the cursor. The warp computes it, two lanes the slices that it begins and ends in. */
    static __device__ __forceinline__ void find_decode(const pod_kernel_params &params, const decode_line &line,
                                                       pod_decode_place place, int32_t request_idx,
                                                       const decode_cursor &cursor, decode_work &work, int lane) {
        pod_request request = load_request(params, request_idx);
        int32_t begin = place.head_begin + params.schedule.decode_begin[request_idx];
        int32_t end = place.head_begin + params.schedule.decode_begin[request_idx + 1];
        int32_t slice = line.slice_of(lane == 0 ? begin : end - 1);
        int32_t first_slice = __shfl_sync(~0u, slice, 0), last_slice = __shfl_sync(~0u, slice, 1);
        if (lane != 0) return;
        pod_key_range unmasked = unmasked_keys(params, request, 0, request.q_len - 1);
        int32_t kv_begin = visible_keys(params, request, 0).begin;
        int32_t tile_begin = kv_begin / SHAPE::DECODE_TOKENS + cursor.position - begin;
        work.request = request;
        work.item = {request_idx,
                     place.kv_head,
                     tile_begin,
                     min(end, cursor.slice_end) - cursor.position,
                     first_slice,
                     last_slice - first_slice + 1,
                     cursor.slice - first_slice};
        work.num_rows = request.q_len * params.shape.group;
        work.first_key = tile_begin * SHAPE::DECODE_TOKENS;
        work.load = {request_idx, request.kv_len, place.kv_head, work.first_key, work.item.num_tiles, kv_begin, 0};
        work.unmasked = unmasked;
    }

    /** Describes the item that comes next, of this slice or of the slice drawn before, or the end. */
    static __device__ __forceinline__ void next_decode(const pod_kernel_params &params, decode_cursor &cursor,
                                                       decode_work &work, int lane) {
        const decode_line line(params);
        int32_t turn = cursor.next_turn;
        uint32_t drawn = 0; /* under way until the item is described */
        __syncwarp();
        if (cursor.position >= cursor.slice_end) {
            if (turn >= line.num_slices) {
                if (lane == 0) work.item.kv_head = -1;
                return;
            }
            int32_t slice = line.slice_at(turn);
            __syncwarp();
            if (lane == 0) {
                cursor.slice = slice;
                cursor.position = line.begin(slice);
                cursor.slice_end = line.begin(slice + 1);
            }
            turn = (int32_t)gridDim.x;
            if (lane == 0 && line.num_slices > turn) drawn = atomicAdd(&params.schedule.header->decode_ticket, 1);
            __syncwarp();
        }
        int32_t position = cursor.position;
        pod_decode_place place = pod_core_decode_place(&params.shape, params.schedule.header, position);
        int32_t request = find_decode_request(params.schedule, line.num_requests, position - place.head_begin, lane);
        find_decode(params, line, place, request, cursor, work, lane);
        __syncwarp(); /* all have read it before lane 0 writes it */
        if (lane == 0) {
            cursor.position = position + work.item.num_tiles;
            cursor.next_turn = turn + (int32_t)drawn;
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
