/* SPDX-License-Identifier: Apache-2.0 */
/* The loaders: three warps that find work and keep the rings and prefill's query tile full.
 *
 * A KV tile is a number of boxes of params.box_tokens tokens that lie in one page each; a lane owns one box of one
 * half, looks its page up a tile ahead and issues its own copy. Boxes that no key of the request is in name page -1,
 * which the copy engine answers with zeros. */
#ifndef POD_SM90_LOAD_CUH
#define POD_SM90_LOAD_CUH

#include "../decode_line.cuh"
#include "shape_sm90.cuh"

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

    /** Fills one slot: waits until it is empty, then every lane copies its box. SHARES: into both CTAs, each loader one
     * half of the tile's tokens; `box` is then one of that half. */
    template <int TOKENS, bool SHARES, class BOX>
    static __device__ __forceinline__ void load_slot(const BOX &box, box_place place, int32_t kv_head,
                                                     const pod_tensor_map &map, uint32_t slot_smem, uint32_t full,
                                                     uint32_t empty, uint32_t parity, int lane) {
        constexpr uint32_t HALF_BYTES = TOKENS * HALF_ROW_BYTES;
        ptx_mbarrier_wait(empty, parity ^ 1);
        if (lane == 0) ptx_mbarrier_arrive_expect(full, SHAPE::HALVES * HALF_BYTES);
        __syncwarp();
        if (!box.exists) return;
        uint32_t to = slot_smem + box.column / HALF_COLUMNS * HALF_BYTES + box.token * HALF_ROW_BYTES;
        if (SHARES) {
            ptx_tma_load_4d_to((1 << CLUSTER_CTAS) - 1, to, &map, full, box.column, kv_head, place.slot, place.page,
                               ptx_policy_evict_last());
        } else {
            ptx_tma_load_4d(to, &map, full, box.column, kv_head, place.slot, place.page, ptx_policy_evict_first());
        }
    }

    /** Prefill waits for decode where it is ahead by more than its share: then decode is the longer side, and prefill
     * has all of its time. At once the two get more into each other's way than spread over it. */
    static __device__ __forceinline__ void keep_pace(const smem_type &smem, uint32_t tiles_loaded) {
        const volatile load_pace &pace = smem.pace;
        while ((float)tiles_loaded > pace.prefill_per_decode * (float)pace.decode_tiles + PACE_LEAD_TILES) {
            __nanosleep(PACE_SLEEP_NS);
        }
        __syncwarp();
    }

    /** Lane 0 of the prefill loader. */
    static __device__ __forceinline__ void set_pace(const pod_kernel_params &params, smem_type &smem) {
        const pod_schedule_header *header = params.schedule.header;
        float prefill_tiles = (float)header->num_prefill_tiles * CLUSTER_CTAS;
        smem.pace.prefill_per_decode = PACE_LEAD * prefill_tiles / (float)max(header->num_decode_tiles, 1);
    }

    /** The tiles of a piece of work through a ring: K(0) V(0) K(1) V(1) … The work is read anew for every tile, which
     * costs less than registers that live that long. */
    template <int TOKENS, bool SHARES, int SLOTS>
    static __device__ __forceinline__ void load_tiles(const pod_kernel_params &params, const load_work &work,
                                                      const uint64_t *full, const uint64_t *empty, const void *ring,
                                                      ring_place<SLOTS> &at, smem_type &smem, int lane) {
        constexpr uint32_t SLOT_BYTES = SHAPE::HALVES * TOKENS * HALF_ROW_BYTES;
        constexpr int OWN_TOKENS = SHARES ? SHAPE::LOADER_TOKENS : TOKENS;
        lane_box<OWN_TOKENS> box(params, lane);
        if (SHARES) box.token += ptx_cta_rank() * OWN_TOKENS;
        int32_t token = work.first_key + box.token;
        box_place place = locate_box(params, work.request_idx, work.kv_len, token);
        for (int32_t tile = 0; tile < work.num_tiles; tile++) {
            if (SHARES)
                keep_pace(smem, work.first_tile + tile);
            else if (lane == 0)
                *(volatile int32_t *)&smem.pace.decode_tiles += 1;
            token += TOKENS;
            box_place next = {-1, 0};
            if (tile + 1 < work.num_tiles) next = locate_box(params, work.request_idx, work.kv_len, token);
            load_slot<TOKENS, SHARES>(box, place, work.kv_head, params.k_map, ptx_smem(ring) + at.slot * SLOT_BYTES,
                                      barrier_at(full, at.slot), barrier_at(empty, at.slot), at.parity, lane);
            at.advance();
            load_slot<TOKENS, SHARES>(box, place, work.kv_head, params.v_map, ptx_smem(ring) + at.slot * SLOT_BYTES,
                                      barrier_at(full, at.slot), barrier_at(empty, at.slot), at.parity, lane);
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

    static __device__ __forceinline__ void find_prefill(const pod_kernel_params &params, int32_t ticket,
                                                        prefill_work &work) {
        int32_t kv_heads = params.shape.kv_heads;
        work.entry = params.schedule.entries[ticket / kv_heads];
        work.kv_head = ticket % kv_heads;
        work.request = load_request(params, work.entry.request);
        work.row_begin = work.entry.row_begin + ptx_cta_rank() * SHAPE::CTA_ROWS;
        work.num_rows = min((int32_t)SHAPE::CTA_ROWS, work.request.q_len * params.shape.group - work.row_begin);
        work.first_key = work.entry.tile_begin * SHAPE::PREFILL_TOKENS;
        work.load = {work.entry.request, work.request.kv_len, work.kv_head, work.first_key, work.entry.num_tiles, 0};
    }

    /** Hands a ticket to the other CTA, which reads it before this one can come back to the same slot: the tiles of
     * every work need both loaders. */
    static __device__ __forceinline__ void pass_ticket(smem_type &smem, uint32_t slot, int32_t ticket) {
        ptx_st_smem_at(ptx_smem(&smem.ticket[slot]), 1, ticket);
        ptx_mbarrier_release_at(barrier_at(smem.ticket_full, slot), 1);
    }

    /** Warp 0. The first ticket of a cluster is its own number, the others are drawn. */
    static __device__ void prefill(const pod_kernel_params &params, smem_type &smem, int lane) {
        pod_schedule_header *header = params.schedule.header;
        int32_t ticket = blockIdx.x / CLUSTER_CTAS;
        ring_place<SHAPE::PREFILL_SLOTS> at = {0, 0};
        uint32_t first_tile = 0;
        if (lane == 0) set_pace(params, smem);
        __syncwarp();
        for (uint32_t number = 0;; number++) {
            uint32_t slot = number % WORK_SLOTS, parity = number / WORK_SLOTS % 2;
            prefill_work &work = smem.prefill[slot];
            ptx_mbarrier_wait(barrier_at(smem.prefill_empty, slot), parity ^ 1);
            if (ptx_cta_rank() == 0) {
                if (lane == 0) pass_ticket(smem, slot, ticket);
            } else {
                ptx_mbarrier_wait_cluster(barrier_at(smem.ticket_full, slot), parity);
                ticket = smem.ticket[slot];
            }
            bool exists = ticket < header->num_prefill_entries * params.shape.kv_heads;
            if (lane == 0) {
                work.kv_head = -1;
                if (exists) find_prefill(params, ticket, work);
                work.load.first_tile = first_tile;
                work.number = number;
                ptx_mbarrier_arrive(barrier_at(smem.prefill_full, slot));
                if (exists && ptx_cta_rank() == 0) {
                    ticket = (int32_t)(gridDim.x / CLUSTER_CTAS + atomicAdd(&header->prefill_ticket, 1));
                }
            }
            __syncwarp();
            if (!exists) break;
            load_tiles<SHAPE::PREFILL_TOKENS, true, SHAPE::PREFILL_SLOTS>(params, work.load, smem.kv_full,
                                                                          smem.kv_empty, smem.kv, at, smem, lane);
            first_tile += work.entry.num_tiles;
            ticket = __shfl_sync(~0u, ticket, 0);
        }
    }

    static __device__ __forceinline__ void find_decode(const pod_kernel_params &params, int32_t request,
                                                       int32_t position, int32_t slice, int32_t slice_end,
                                                       decode_work &work) {
        work.request = load_request(params, request);
        pod_core_decode_item_of(&params.shape, &params.tiling, &params.schedule, request, position, slice, slice_end,
                                &work.item);
        work.num_rows = work.request.q_len * params.shape.group;
        work.first_key = work.item.tile_begin * SHAPE::DECODE_TOKENS;
        work.load = {request, work.request.kv_len, work.item.kv_head, work.first_key, work.item.num_tiles, 0};
        work.unmasked_end = visible_keys(params, work.request, 0).end;
        work.unmasked_begin = visible_keys(params, work.request, work.request.q_len - 1).begin;
    }

    /** The item that comes next: of this slice, or of the slice drawn before. False: there is none. */
    static __device__ __forceinline__ bool next_decode(const pod_kernel_params &params, decode_cursor &cursor,
                                                       decode_work &work, int lane) {
        pod_schedule_header *header = params.schedule.header;
        if (cursor.position >= cursor.slice_end) {
            int32_t slice = cursor.next_slice;
            __syncwarp();
            if (slice >= header->num_slices) return false;
            if (lane == 0) {
                cursor.slice = slice;
                cursor.position = pod_core_slice_begin(header, slice);
                cursor.slice_end = pod_core_slice_begin(header, slice + 1);
                cursor.next_slice = (int32_t)(gridDim.x + atomicAdd(&header->decode_ticket, 1));
            }
            __syncwarp();
        }
        int32_t position = cursor.position;
        __syncwarp(); /* all have read it before lane 0 writes it */
        int32_t request = find_decode_request(params.schedule, position, lane);
        if (lane == 0) {
            find_decode(params, request, position, cursor.slice, cursor.slice_end, work);
            cursor.position = position + work.item.num_tiles;
        }
        return true;
    }

    /** Warp 1: slice after slice, item after item. */
    static __device__ void decode(const pod_kernel_params &params, smem_type &smem, int lane) {
        ring_place<SHAPE::DECODE_SLOTS> at = {0, 0};
        if (lane == 0) smem.cursor = {0, 0, 0, (int32_t)blockIdx.x};
        __syncwarp();
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance()) {
            decode_work &work = smem.decode[slot.slot];
            ptx_mbarrier_wait(barrier_at(smem.decode_empty, slot.slot), slot.parity ^ 1);
            bool exists = next_decode(params, smem.cursor, work, lane);
            if (lane == 0) {
                if (!exists) work.item.kv_head = -1;
                ptx_mbarrier_arrive(barrier_at(smem.decode_full, slot.slot));
            }
            __syncwarp();
            if (!exists) {
                *(volatile int32_t *)&smem.pace.decode_tiles = INT32_MAX; /* nobody waits for it any more */
                break;
            }
            load_tiles<SHAPE::DECODE_TOKENS, false, SHAPE::DECODE_SLOTS>(
                params, work.load, smem.decode_kv_full, smem.decode_kv_empty, smem.decode_kv, at, smem, lane);
        }
    }

    static __device__ __forceinline__ tile_range find_plain(const pod_kernel_params &params, const prefill_work &work,
                                                            int warpgroup) {
        constexpr int ROWS = SHAPE::CTA_ROWS / PREFILL_WARPGROUPS;
        int32_t first_row = work.row_begin + warpgroup * ROWS;
        int32_t last_row = work.row_begin + min(work.num_rows, (warpgroup + 1) * ROWS) - 1;
        int32_t begin = visible_keys(params, work.request, last_row / params.shape.group).begin - work.first_key;
        int32_t end = visible_keys(params, work.request, first_row / params.shape.group).end - work.first_key;
        tile_range plain = {max(1, pod_core_ceil_div(max(begin, 0), SHAPE::PREFILL_TOKENS)),
                            min(max(end, 0) / SHAPE::PREFILL_TOKENS, work.entry.num_tiles - 1)};
        if (params.softcap_log2 > 0.0f) plain.end = plain.begin;
        return plain;
    }

    /** Warp 2. */
    static __device__ void prefill_rows(const pod_kernel_params &params, smem_type &smem, int lane) {
        for (uint32_t number = 0;; number++) {
            uint32_t slot = number % WORK_SLOTS;
            ptx_mbarrier_wait(barrier_at(smem.prefill_full, slot), number / WORK_SLOTS % 2);
            prefill_work &work = smem.prefill[slot];
            if (work.kv_head < 0) break;
            if (lane < PREFILL_WARPGROUPS) work.plain[lane] = find_plain(params, work, lane);
            ptx_mbarrier_wait(barrier_at(&smem.q_empty, 0), number % 2 ^ 1);
            load_rows<SHAPE::CTA_ROWS>(params, work.request, work.kv_head, work.row_begin, work.num_rows, smem.q,
                                       barrier_at(&smem.q_full, 0), lane);
            warp_arrive(barrier_at(smem.prefill_empty, slot));
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
