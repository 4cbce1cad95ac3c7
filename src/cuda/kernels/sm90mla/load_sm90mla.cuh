/* SPDX-License-Identifier: Apache-2.0 */
/* The loaders: a warpgroup that copies query rows and keys, 16 bytes a lane and copy. Each warp has sixteen rows of
 * every tile, and each lane looks one of them up, a tile ahead. Rows that no query needs become zeros, so that it does
 * not matter what the cache holds there: pages of any size, and no value to clear. */
#ifndef POD_SM90MLA_LOAD_CUH
#define POD_SM90MLA_LOAD_CUH

#include "cuda/kernels/sm90mla/find_sm90mla.cuh"

/** Where a key, or a box of keys, is in the cache; page -1: nowhere. */
struct key_place {
    int32_t page, slot;
};

template <class SHAPE> struct load_sm90mla {
    typedef smem_sm90mla<SHAPE> smem_type;
    static constexpr int64_t NOWHERE = -1; /* the offset of a row of zeros */

    const pod_kernel_params &params;
    smem_type &smem;

    /** The row of a tile that this lane looks up; lanes repeat those of a warp's. */
    template <class TILE> static __device__ __forceinline__ int own_row() {
        constexpr int WARP_ROWS = TILE::ROWS / WARPGROUP_WARPS;
        return ptx_tid() / 32 * WARP_ROWS + ptx_tid() % WARP_ROWS;
    }

    /** Copies a part of the warp's rows, whose offsets in the tensor are the lanes'. */
    template <class TILE, int PART>
    static __device__ __forceinline__ void copy_part(const void *tensor, int64_t own_offset, uint32_t tile_smem) {
        constexpr int WARP_ROWS = TILE::ROWS / WARPGROUP_WARPS;
        constexpr int FIRST_CHUNK = SHAPE::template part<PART>::BEGIN * PIECE_CHUNKS;
        constexpr int CHUNKS = SHAPE::template part<PART>::COUNT * PIECE_CHUNKS, ROWS_AT_ONCE = 32 / CHUNKS;
        static_assert(32 % CHUNKS == 0, "whole rows at a time");
        int lane = ptx_tid() % 32, chunk = FIRST_CHUNK + lane % CHUNKS;
#pragma unroll 1
        for (int i = lane / CHUNKS; i < WARP_ROWS; i += ROWS_AT_ONCE) {
            uint32_t low = __shfl_sync(~0u, (uint32_t)own_offset, i);
            int32_t high = __shfl_sync(~0u, (int32_t)(own_offset >> 32), i);
            int64_t offset = (int64_t)high << 32 | low;
            bool exists = high >= 0;
            const uint16_t *from = (const uint16_t *)tensor + (exists ? offset + chunk * CHUNK_ELEMENTS : 0);
            ptx_cp_async_16_or_zeros(tile_smem + tile_chunk<TILE>(ptx_tid() / 32 * WARP_ROWS + i, chunk), from,
                                     exists ? CHUNK_BYTES : 0);
        }
    }

    __device__ __forceinline__ void load_q(const mla_work &work, uint32_t number) {
        typedef tile_sm90mla<SHAPE, TILE_ROWS> tile;
        uint32_t q_smem = smem_address(smem.q);
        int row = own_row<tile>();
        row_place place = place_small_row(params, work.first_row.head + row);
        int64_t offset = (work.request.q_begin + work.first_row.token + place.token) * params.q_token_stride +
                         (work.kv_head * params.shape.group + place.head) * params.q_head_stride;
        if (row >= work.num_rows) offset = NOWHERE;
        ptx_mbarrier_wait(smem_address(&smem.q_empty), number % 2 ^ 1);
        copy_part<tile, PART_REST>(params.q, offset, q_smem);
        copy_part<tile, PART_LEFT>(params.q, offset, q_smem);
        copy_part<tile, PART_RIGHT>(params.q, offset, q_smem);
        ptx_cp_async_arrive(smem_address(&smem.q_full));
    }

    /** Whether queries see every key of a tile, so that boxes of the copy engine bring it. */
    template <class TILE> __device__ __forceinline__ bool is_whole(const mla_work &work, int32_t tile) {
        int32_t key = work.first_key + tile * TILE::ROWS;
        return params.box_tokens > 0 && key >= work.kv_begin && key + TILE::ROWS <= work.request.kv_len;
    }

    /** Of a tile's boxes, several of each piece's keys, each lane of the first warp has one. */
    template <class TILE> __device__ __forceinline__ int boxes_shift() {
        return __ffs(TILE::ROWS) - 1 - params.box_shift;
    }
    template <class TILE> __device__ __forceinline__ int own_box_row() {
        return (ptx_tid() & ((1 << boxes_shift<TILE>()) - 1)) << params.box_shift;
    }

    /** Where this lane's box of a tile, or its key, is in the cache. */
    template <class TILE> __device__ __forceinline__ key_place locate(const mla_work &work, int32_t tile) {
        bool has_box = is_whole<TILE>(work, tile);
        int32_t key = work.first_key + tile * TILE::ROWS + (has_box ? own_box_row<TILE>() : own_row<TILE>());
        if (key < work.kv_begin || key >= work.request.kv_len || tile >= work.num_tiles) return {-1, 0};
        if (has_box && ptx_tid() >= 32) return {-1, 0};
        pod_key_slot at = key_slot(params, key);
        return {load_page(params, work.request_idx, at.page_idx), at.slot};
    }

    /** One part of tile `n` of all works of its kind. */
    template <class TILE, int PART>
    __device__ __forceinline__ void load_part(const mla_work &work, const ring_barriers<TILE::SLOTS> &ring,
                                              key_place place, bool is_whole, uint32_t n) {
        uint32_t tile_smem = smem_address(smem.k) + n % TILE::SLOTS * TILE::BYTES;
        uint32_t full = part_barrier(ring.full, n, PART);
        ptx_mbarrier_wait(part_barrier(ring.empty, n, PART), ring_parity(ring, n) ^ 1);
        if (!is_whole) {
            pod_cache_strides strides = k_strides(params);
            int64_t offset = pod_core_cache_offset(&strides, place.page, place.slot, work.kv_head);
            copy_part<TILE, PART>(params.k, place.page < 0 ? NOWHERE : offset, tile_smem);
            ptx_cp_async_arrive(full);
            return;
        }
        typedef typename SHAPE::template part<PART> part;
        if (ptx_tid() == 0)
            ptx_mbarrier_arrive_expect(full, part::COUNT * TILE::PIECE_BYTES);
        else
            ptx_mbarrier_arrive(full);
        if (ptx_tid() >= 32) return;
        __syncwarp();
        int piece = ptx_tid() >> boxes_shift<TILE>();
        if (piece >= part::COUNT) return;
        piece += part::BEGIN;
        const int32_t at[5] = {piece * PIECE_COLUMNS, place.slot, work.kv_head, place.page, 0};
        ptx_tma_load_5d(tile_smem + piece * TILE::PIECE_BYTES + own_box_row<TILE>() * PIECE_ROW_BYTES, &params.k_map,
                        full, at, work.is_decode ? ptx_policy_evict_first() : ptx_policy_evict_last());
    }

    /** All tiles; the first is the `n`-th of its kind, which counts on. */
    template <class TILE>
    __device__ __forceinline__ void load_tiles(const mla_work &work, const ring_barriers<TILE::SLOTS> &ring,
                                               uint32_t &n) {
        key_place place = locate<TILE>(work, 0);
        for (int32_t tile = 0; tile < work.num_tiles; tile++, n++) {
            key_place next = locate<TILE>(work, tile + 1);
            bool whole = is_whole<TILE>(work, tile);
            load_part<TILE, PART_REST>(work, ring, place, whole, n);
            load_part<TILE, PART_LEFT>(work, ring, place, whole, n);
            load_part<TILE, PART_RIGHT>(work, ring, place, whole, n);
            place = next;
        }
    }

    /** The other kind's tiles have other slots: they come once all of the work before is done with. */
    __device__ __forceinline__ void change_kind(uint32_t number) {
        ptx_mbarrier_wait(barrier_at(smem.work_empty, (number - 1) % WORK_SLOTS), (number - 1) / WORK_SLOTS % 2);
    }

    __device__ void produce() {
        typedef tile_sm90mla<SHAPE, SHAPE::DECODE_KEYS> decode_tile;
        typedef tile_sm90mla<SHAPE, SHAPE::PREFILL_KEYS> prefill_tile;
        decode_cursor cursor = {0, 0, 0, (int32_t)blockIdx.x};
        bool finds = warp_uniform(ptx_tid() / 32) == 0, was_decode = true;
        int lane = ptx_tid() % 32;
        uint32_t decode_n = 0, prefill_n = 0;
        for (uint32_t number = 0;; number++) {
            uint32_t slot = number % WORK_SLOTS, parity = number / WORK_SLOTS % 2;
            mla_work &work = smem.work[slot];
            if (finds) {
                ptx_mbarrier_wait(barrier_at(smem.work_empty, slot), parity ^ 1);
                find_sm90mla::next(params, cursor, work, lane);
                warp_arrive(barrier_at(smem.work_full, slot));
            }
            ptx_mbarrier_wait(barrier_at(smem.work_full, slot), parity);
            if (work.kv_head < 0) break;
            load_q(work, number);
            if (work.is_decode) {
                load_tiles<decode_tile>(work, smem.decode_ring, decode_n);
            } else {
                if (was_decode && number > 0) change_kind(number);
                was_decode = false;
                load_tiles<prefill_tile>(work, smem.prefill_ring, prefill_n);
            }
            ptx_mbarrier_arrive(barrier_at(smem.work_empty, slot));
        }
        if (finds && lane == 0) find_sm90mla::leave(params);
        __syncwarp();
    }
};

#endif
