/* SPDX-License-Identifier: Apache-2.0 */
/* The loaders: a warpgroup that copies query rows and keys, 16 bytes a lane and copy. Each warp has sixteen rows of
 * every tile, and each lane looks one of them up, a tile ahead. Rows that no query needs become zeros, so that it does
 * not matter what the cache holds there: pages of any size, and no value to clear. */
#ifndef POD_SM90MLA_LOAD_CUH
#define POD_SM90MLA_LOAD_CUH

#include "cuda/kernels/sm90mla/find_sm90mla.cuh"

template <class SHAPE> struct load_sm90mla {
    typedef smem_sm90mla<SHAPE> smem_type;
    static constexpr int WARP_ROWS = TILE_ROWS / WARPGROUP_WARPS;
    static constexpr int64_t NOWHERE = -1; /* the offset of a row of zeros */

    const pod_kernel_params &params;
    smem_type &smem;

    static __device__ __forceinline__ int own_row() {
        return ptx_tid() / 32 * WARP_ROWS + ptx_tid() % WARP_ROWS;
    }

    /** Copies a part of the warp's rows, whose offsets in the tensor are the lanes'. */
    template <int PART>
    static __device__ __forceinline__ void copy_part(const void *tensor, int64_t own_offset, uint32_t tile_smem) {
        constexpr int FIRST_CHUNK = SHAPE::template part<PART>::BEGIN * PIECE_CHUNKS;
        constexpr int CHUNKS = SHAPE::template part<PART>::COUNT * PIECE_CHUNKS, ROWS_AT_ONCE = 32 / CHUNKS;
        static_assert(32 % CHUNKS == 0, "whole rows at a time");
        int lane = ptx_tid() % 32, chunk = FIRST_CHUNK + lane % CHUNKS;
#pragma unroll 4
        for (int i = lane / CHUNKS; i < WARP_ROWS; i += ROWS_AT_ONCE) {
            uint32_t low = __shfl_sync(~0u, (uint32_t)own_offset, i);
            int32_t high = __shfl_sync(~0u, (int32_t)(own_offset >> 32), i);
            int64_t offset = (int64_t)high << 32 | low;
            bool exists = high >= 0;
            const uint16_t *from = (const uint16_t *)tensor + (exists ? offset + chunk * CHUNK_ELEMENTS : 0);
            ptx_cp_async_16_or_zeros(tile_smem + tile_chunk(ptx_tid() / 32 * WARP_ROWS + i, chunk), from,
                                     exists ? CHUNK_BYTES : 0);
        }
    }

    __device__ __forceinline__ void load_q(const mla_work &work, uint32_t number) {
        uint32_t q_smem = smem_address(smem.q);
        row_place place = place_small_row(params, work.first_row.head + own_row());
        int64_t offset = (work.request.q_begin + work.first_row.token + place.token) * params.q_token_stride +
                         (work.kv_head * params.shape.group + place.head) * params.q_head_stride;
        if (own_row() >= work.num_rows) offset = NOWHERE;
        ptx_mbarrier_wait(smem_address(&smem.q_empty), number % 2 ^ 1);
        copy_part<PART_REST>(params.q, offset, q_smem);
        copy_part<PART_LEFT>(params.q, offset, q_smem);
        copy_part<PART_RIGHT>(params.q, offset, q_smem);
        ptx_cp_async_arrive(smem_address(&smem.q_full));
    }

    /** Where this lane's key of a tile is in the cache. */
    __device__ __forceinline__ int64_t locate(const mla_work &work, int32_t tile) {
        int32_t key = work.first_key + tile * TILE_ROWS + own_row();
        if (key < work.kv_begin || key >= work.request.kv_len || tile >= work.num_tiles) return NOWHERE;
        pod_cache_strides strides = k_strides(params);
        pod_key_slot at = key_slot(params, key);
        return pod_core_cache_offset(&strides, load_page(params, work.request_idx, at.page_idx), at.slot, work.kv_head);
    }

    /** One part of tile `n` of all works. */
    template <int PART> __device__ __forceinline__ void load_part(int64_t offset, uint32_t n) {
        ptx_mbarrier_wait(part_barrier<SHAPE>(smem.k_empty, n, PART), ring_parity<SHAPE>(n) ^ 1);
        copy_part<PART>(params.k, offset, smem_address(smem.k) + n % SHAPE::SLOTS * SHAPE::TILE_BYTES);
        ptx_cp_async_arrive(part_barrier<SHAPE>(smem.k_full, n, PART));
    }

    __device__ __forceinline__ void load_tiles(const mla_work &work, uint32_t first_tile) {
        int64_t offset = locate(work, 0);
        for (int32_t tile = 0; tile < work.num_tiles; tile++) {
            int64_t next = locate(work, tile + 1);
            load_part<PART_REST>(offset, first_tile + tile);
            load_part<PART_LEFT>(offset, first_tile + tile);
            load_part<PART_RIGHT>(offset, first_tile + tile);
            offset = next;
        }
    }

    __device__ void produce() {
        decode_cursor cursor = {0, 0, 0, (int32_t)blockIdx.x};
        bool finds = warp_uniform(ptx_tid() / 32) == 0;
        int lane = ptx_tid() % 32;
        uint32_t first_tile = 0;
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
            load_tiles(work, first_tile);
            first_tile += work.num_tiles;
            ptx_mbarrier_arrive(barrier_at(smem.work_empty, slot));
        }
        if (finds && lane == 0) find_sm90mla::leave(params);
        __syncwarp();
    }
};

#endif
