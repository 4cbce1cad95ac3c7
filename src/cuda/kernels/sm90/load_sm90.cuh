/* SPDX-License-Identifier: Apache-2.0 */
/* The loaders: four warps that find work and keep the rings and query tiles full.
 *
 * A KV tile is a number of boxes of params.box_tokens tokens that lie in one page each; a lane owns one box of one
 * half, looks its page up a tile ahead and issues its own copy. Boxes that no key of the request is in name page -1,
 * which the copy engine answers with zeros. */
#ifndef POD_SM90_LOAD_CUH
#define POD_SM90_LOAD_CUH

#include "../decode_line.cuh"
#include "shape_sm90.cuh"

enum { PREFILL_KV_LANES = 32 };

/** Where a box of tokens stands in the cache. */
struct box_place {
    int32_t page, slot;
};

template <class SHAPE> struct load_sm90 {
    typedef smem_sm90<SHAPE> smem_type;
    static constexpr int ROW_CHUNKS = SHAPE::HEAD_DIM / CHUNK_ELEMENTS;

    static __device__ __forceinline__ box_place locate_box(const pod_kernel_params &params, int32_t request,
                                                           int32_t kv_len, int32_t token) {
        box_place place = {-1, token};
        if (token >= kv_len) return place;
        place.page = request;
        if (params.page_table == nullptr) return place;
        int32_t index = params.page_shift >= 0 ? token >> params.page_shift : token / params.page_size;
        place.slot = token - index * params.page_size;
        place.page = __ldg(params.page_table + request * params.page_table_stride + index);
        return place;
    }

    /** This lane's box of every tile of TOKENS tokens. */
    template <int TOKENS> struct lane_box {
        int32_t token;  /* first one, within the tile */
        int32_t column; /* of the head */
        bool exists;
        __device__ __forceinline__ lane_box(const pod_kernel_params &params, int lane) {
            int boxes_shift = __ffs(TOKENS) - 1 - params.box_shift;
            token = (lane & ((1 << boxes_shift) - 1)) << params.box_shift;
            column = (lane >> boxes_shift) * HALF_COLUMNS;
            exists = column < SHAPE::HEAD_DIM;
        }
    };

    /** Fills one slot: waits until it is empty, then every lane copies its box. */
    template <int TOKENS>
    static __device__ __forceinline__ void load_slot(const lane_box<TOKENS> &box, box_place place, int32_t kv_head,
                                                     const pod_tensor_map &map, uint32_t slot_smem, uint32_t full,
                                                     uint32_t empty, uint32_t parity, uint64_t policy, int lane) {
        constexpr uint32_t HALF_BYTES = TOKENS * HALF_ROW_BYTES;
        ptx_mbarrier_wait(empty, parity ^ 1);
        if (lane == 0) ptx_mbarrier_arrive_expect(full, SHAPE::HALVES * HALF_BYTES);
        __syncwarp();
        if (!box.exists) return;
        uint32_t to = slot_smem + box.column / HALF_COLUMNS * HALF_BYTES + box.token * HALF_ROW_BYTES;
        ptx_tma_load_4d(to, &map, full, box.column, kv_head, place.slot, place.page, policy);
    }

    /** K and V tiles [0, num_tiles) behind `first_key` through a ring. */
    template <int TOKENS, int SLOTS>
    static __device__ __forceinline__ void
    load_tiles(const pod_kernel_params &params, const lane_box<TOKENS> &box, int32_t request, int32_t kv_len,
               int32_t kv_head, int32_t first_key, int32_t num_tiles, const uint64_t *full, const uint64_t *empty,
               const void *ring, ring_place<SLOTS> &at, uint64_t policy, int lane) {
        constexpr uint32_t SLOT_BYTES = SHAPE::HALVES * TOKENS * HALF_ROW_BYTES;
        int32_t token = first_key + box.token;
        box_place place = locate_box(params, request, kv_len, token);
        for (int32_t tile = 0; tile < num_tiles; tile++) {
            token += TOKENS;
            box_place next = {-1, 0};
            if (tile + 1 < num_tiles) next = locate_box(params, request, kv_len, token);
            load_slot<TOKENS>(box, place, kv_head, params.k_map, ptx_smem(ring) + at.slot * SLOT_BYTES,
                              barrier_at(full, at.slot), barrier_at(empty, at.slot), at.parity, policy, lane);
            at.advance();
            load_slot<TOKENS>(box, place, kv_head, params.v_map, ptx_smem(ring) + at.slot * SLOT_BYTES,
                              barrier_at(full, at.slot), barrier_at(empty, at.slot), at.parity, policy, lane);
            at.advance();
            place = next;
        }
    }

    /** Query rows [row_begin, row_begin + ROWS) of a KV head's group; rows that do not exist become zeros. */
    template <int ROWS>
    static __device__ __forceinline__ void load_rows(const pod_kernel_params &params, const pod_request &request,
                                                     int32_t kv_head, int32_t row_begin, int32_t num_rows,
                                                     const void *tile, uint32_t full, int lane) {
        int chunk = lane % ROW_CHUNKS;
        for (int row = lane / ROW_CHUNKS; row < ROWS; row += 32 / ROW_CHUNKS) {
            bool exists = row < num_rows;
            int64_t offset = q_offset(params, request, kv_head, row_begin + (exists ? row : 0));
            ptx_cp_async_16_or_zeros(ptx_smem(tile) + tile_chunk(row, chunk, ROWS * HALF_ROW_BYTES),
                                     (const uint16_t *)params.q + offset + chunk * CHUNK_ELEMENTS,
                                     exists ? CHUNK_BYTES : 0);
        }
        ptx_cp_async_commit();
        ptx_cp_async_wait<0>();
        ptx_fence_async_smem();
        ptx_mbarrier_arrive(full);
    }

    static __device__ prefill_work find_prefill(const pod_kernel_params &params, int32_t ticket) {
        prefill_work work;
        int32_t kv_heads = params.shape.kv_heads;
        work.entry = params.schedule.entries[ticket / kv_heads];
        work.kv_head = ticket % kv_heads;
        work.request = load_request(params, work.entry.request);
        work.num_rows =
            min((int32_t)SHAPE::PREFILL_ROWS, work.request.q_len * params.shape.group - work.entry.row_begin);
        work.first_key = work.entry.tile_begin * SHAPE::PREFILL_TOKENS;
        return work;
    }

    /** Warp 0. The first ticket of a CTA is its own number, the others are drawn. */
    static __device__ void prefill(const pod_kernel_params &params, smem_type &smem, int lane) {
        pod_schedule_header *header = params.schedule.header;
        int32_t num_tickets = header->num_prefill_entries * params.shape.kv_heads;
        int32_t ticket = blockIdx.x;
        uint64_t policy = ptx_policy_evict_last();
        lane_box<SHAPE::PREFILL_TOKENS> box(params, lane);
        ring_place<SHAPE::PREFILL_SLOTS> at = {0, 0};
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance()) {
            prefill_work work;
            work.kv_head = -1;
            bool exists = ticket < num_tickets;
            if (exists) work = find_prefill(params, ticket);
            ptx_mbarrier_wait(barrier_at(smem.prefill_empty, slot.slot), slot.parity ^ 1);
            if (lane == 0) {
                smem.prefill[slot.slot] = work;
                ptx_mbarrier_arrive(barrier_at(smem.prefill_full, slot.slot));
            }
            if (!exists) break;
            int32_t next = 0;
            if (lane == 0) next = (int32_t)(gridDim.x + atomicAdd(&header->prefill_ticket, 1));
            load_tiles<SHAPE::PREFILL_TOKENS, SHAPE::PREFILL_SLOTS>(
                params, box, work.entry.request, work.request.kv_len, work.kv_head, work.first_key,
                work.entry.num_tiles, smem.kv_full, smem.kv_empty, smem.kv, at, policy, lane);
            ticket = __shfl_sync(~0u, next, 0);
        }
    }

    static __device__ decode_work find_decode(const pod_kernel_params &params, int32_t position, int32_t slice,
                                              int32_t slice_end, int lane) {
        decode_work work;
        int32_t request = find_decode_request(params.schedule, position, lane);
        work.request = load_request(params, request);
        pod_core_decode_item_of(&params.shape, &params.tiling, &params.schedule, request, position, slice, slice_end,
                                &work.item);
        work.num_rows = work.request.q_len * params.shape.group;
        work.first_key = work.item.tile_begin * SHAPE::DECODE_TOKENS;
        work.unmasked_end = visible_keys(params, work.request, 0).end;
        work.unmasked_begin = visible_keys(params, work.request, work.request.q_len - 1).begin;
        return work;
    }

    /** Warp 1: slice after slice, item after item. */
    static __device__ void decode(const pod_kernel_params &params, smem_type &smem, int lane) {
        pod_schedule_header *header = params.schedule.header;
        int32_t num_slices = header->num_slices, slice = blockIdx.x, next = 0, position = 0, slice_end = 0;
        uint64_t policy = ptx_policy_evict_first();
        lane_box<SHAPE::DECODE_TOKENS> box(params, lane);
        ring_place<SHAPE::DECODE_SLOTS> at = {0, 0};
        bool begins = true;
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance()) {
            decode_work work;
            work.item.kv_head = -1;
            bool exists = slice < num_slices;
            if (exists) {
                if (begins) {
                    position = pod_core_slice_begin(header, slice);
                    slice_end = pod_core_slice_begin(header, slice + 1);
                    if (lane == 0) next = (int32_t)(gridDim.x + atomicAdd(&header->decode_ticket, 1));
                }
                work = find_decode(params, position, slice, slice_end, lane);
            }
            ptx_mbarrier_wait(barrier_at(smem.decode_empty, slot.slot), slot.parity ^ 1);
            if (lane == 0) {
                smem.decode[slot.slot] = work;
                ptx_mbarrier_arrive(barrier_at(smem.decode_full, slot.slot));
            }
            if (!exists) break;
            load_tiles<SHAPE::DECODE_TOKENS, SHAPE::DECODE_SLOTS>(
                params, box, work.item.request, work.request.kv_len, work.item.kv_head, work.first_key,
                work.item.num_tiles, smem.decode_kv_full, smem.decode_kv_empty, smem.decode_kv, at, policy, lane);
            position += work.item.num_tiles;
            begins = position >= slice_end;
            if (begins) slice = __shfl_sync(~0u, next, 0);
        }
    }

    /** Warp 2. */
    static __device__ void prefill_rows(const pod_kernel_params &params, smem_type &smem, int lane) {
        uint32_t parity = 0;
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance(), parity ^= 1) {
            ptx_mbarrier_wait(barrier_at(smem.prefill_full, slot.slot), slot.parity);
            const prefill_work &work = smem.prefill[slot.slot];
            if (work.kv_head < 0) break;
            ptx_mbarrier_wait(barrier_at(&smem.q_empty, 0), parity ^ 1);
            load_rows<SHAPE::PREFILL_ROWS>(params, work.request, work.kv_head, work.entry.row_begin, work.num_rows,
                                           smem.q, barrier_at(&smem.q_full, 0), lane);
            warp_arrive(barrier_at(smem.prefill_empty, slot.slot));
        }
    }

    /** Warp 3. A work slot is empty once its rows are: they need no barrier of their own. */
    static __device__ void decode_rows(const pod_kernel_params &params, smem_type &smem, int lane) {
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance()) {
            ptx_mbarrier_wait(barrier_at(smem.decode_full, slot.slot), slot.parity);
            const decode_work &work = smem.decode[slot.slot];
            if (work.item.kv_head < 0) break;
            load_rows<SHAPE::DECODE_ROWS>(params, work.request, work.item.kv_head, 0, work.num_rows,
                                          smem.decode_q[slot.slot], barrier_at(smem.decode_q_full, slot.slot), lane);
            warp_arrive(barrier_at(smem.decode_empty, slot.slot));
        }
    }

    /** The two warps that draw tickets leave; the last of the grid puts the tickets back for the next launch. */
    static __device__ void leave(const pod_kernel_params &params, int lane) {
        pod_schedule_header *header = params.schedule.header;
        if (lane != 0 || atomicAdd(&header->ctas_done, 1) != 2 * gridDim.x - 1) return;
        header->prefill_ticket = 0;
        header->decode_ticket = 0;
        header->ctas_done = 0;
    }
};

#endif
