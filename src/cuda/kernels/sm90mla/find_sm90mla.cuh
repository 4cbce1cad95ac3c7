/* SPDX-License-Identifier: Apache-2.0 */
/* Finding work: slices of the decode line, then tickets of the prefill queue, become work slots. By one warp. */
#ifndef POD_SM90MLA_FIND_CUH
#define POD_SM90MLA_FIND_CUH

#include "cuda/kernels/requests.cuh"
#include "cuda/kernels/sm90mla/pipeline_sm90mla.cuh"

/** Where this CTA is on the decode line; every lane knows. */
struct decode_cursor {
    int32_t slice, position, slice_end;
    int32_t next_turn;
};

struct find_sm90mla {
    /** What both queues' items have in common. */
    static __device__ __forceinline__ void describe(const pod_kernel_params &params, int32_t row_begin,
                                                    int32_t num_rows, int32_t first_key, mla_work &work) {
        row_place last_row = place_row(params, row_begin + num_rows - 1);
        work.first_row = place_row(params, row_begin);
        work.num_rows = num_rows;
        work.first_key = first_key;
        work.kv_begin = visible_keys(params, work.request, work.first_row.token).begin;
        work.unmasked = unmasked_keys(params, work.request, work.first_row.token, last_row.token);
    }

    static __device__ __forceinline__ void describe_decode(const pod_kernel_params &params, pod_decode_place place,
                                                           int32_t request, const decode_cursor &cursor,
                                                           mla_work &work) {
        work.is_decode = 1;
        work.request_idx = request;
        work.request = work.decode.request = load_request(params, request);
        pod_decode_item &item = work.decode.item;
        pod_core_decode_item_of(&params.shape, &params.tiling, &params.schedule, place, request, cursor.position,
                                cursor.slice, cursor.slice_end, &item);
        work.kv_head = item.kv_head;
        work.num_parts = item.num_parts;
        work.num_tiles = item.num_tiles;
        describe(params, 0, work.request.q_len * params.shape.group, item.tile_begin * params.tiling.decode_tile_tokens,
                 work);
    }

    static __device__ __forceinline__ void describe_prefill(const pod_kernel_params &params, int32_t ticket,
                                                            mla_work &work) {
        pod_prefill_item &item = work.prefill.item;
        item = pod_core_prefill_item(&params.shape, &params.schedule, ticket, 1, 0);
        work.is_decode = 0;
        work.request_idx = item.entry.request;
        work.request = work.prefill.request = load_request(params, item.entry.request);
        work.kv_head = item.kv_head;
        work.num_parts = item.entry.num_parts;
        work.num_tiles = item.entry.num_tiles;
        int32_t rows_left = work.request.q_len * params.shape.group - item.entry.row_begin;
        describe(params, item.entry.row_begin, min((int32_t)TILE_ROWS, rows_left),
                 item.entry.tile_begin * params.tiling.prefill_tile_tokens, work);
    }

    static __device__ __forceinline__ uint32_t draw(uint32_t *ticket, int lane) {
        uint32_t drawn = 0;
        if (lane == 0) drawn = atomicAdd(ticket, 1);
        return __shfl_sync(~0u, drawn, 0);
    }

    /** The decode item that comes next, of this slice or the next; false if there is none. */
    static __device__ __forceinline__ bool next_decode(const pod_kernel_params &params, decode_cursor &cursor,
                                                       mla_work &work, int lane) {
        pod_schedule_header *header = params.schedule.header;
        if (cursor.position >= cursor.slice_end) {
            if (cursor.next_turn >= header->num_slices) return false;
            cursor.slice = pod_core_slice_at(&params.shape, header, cursor.next_turn);
            cursor.position = pod_core_slice_begin(header, cursor.slice);
            cursor.slice_end = pod_core_slice_begin(header, cursor.slice + 1);
            int32_t drawn = header->num_slices; /* none, if every CTA has its own */
            if (drawn > (int32_t)gridDim.x) drawn = (int32_t)(gridDim.x + draw(&header->decode_ticket, lane));
            cursor.next_turn = drawn;
        }
        pod_decode_place place = pod_core_decode_place(&params.shape, header, cursor.position);
        int32_t request =
            find_decode_request(params.schedule, header->num_requests, cursor.position - place.head_begin, lane);
        if (lane == 0) describe_decode(params, place, request, cursor, work);
        cursor.position += __shfl_sync(~0u, lane == 0 ? work.num_tiles : 0, 0);
        return true;
    }

    /** Describes the next work, or the end. */
    static __device__ __forceinline__ void next(const pod_kernel_params &params, decode_cursor &cursor, mla_work &work,
                                                int lane) {
        if (next_decode(params, cursor, work, lane)) return;
        int32_t ticket = (int32_t)draw(&params.schedule.header->prefill_ticket, lane);
        if (lane > 0) return;
        work.kv_head = -1;
        if (ticket < pod_core_num_prefill_tickets(&params.shape, params.schedule.header, 1))
            describe_prefill(params, ticket, work);
    }

    /** The lane that drew tickets leaves; the last of the grid puts the tickets back for the next launch. */
    static __device__ __forceinline__ void leave(const pod_kernel_params &params) {
        pod_schedule_header *header = params.schedule.header;
        if (atomicAdd(&header->ctas_done, 1) != gridDim.x - 1) return;
        header->prefill_ticket = 0;
        header->decode_ticket = 0;
        header->ctas_done = 0;
    }
};

#endif
