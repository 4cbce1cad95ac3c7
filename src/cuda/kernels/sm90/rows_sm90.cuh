/* SPDX-License-Identifier: Apache-2.0 */
/* Prefill's query rows: a tile of 64 for each warpgroup, copied as soon as the work before needs its place no more. */
#ifndef POD_SM90_ROWS_CUH
#define POD_SM90_ROWS_CUH

#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/sm90/pipeline_sm90.cuh"

template <class SHAPE> struct rows_sm90 {
    typedef smem_sm90<SHAPE> smem_type;
    static constexpr int ROWS = PREFILL_WARPGROUP_ROWS, ROW_CHUNKS = SHAPE::k_rows::CHUNKS;
    static constexpr int V_CHUNKS = SHAPE::v_rows::CHUNKS;

    /** The tiles of which no row of a warpgroup masks a key, and before which every row has seen one: without an origin
     * a plain tile's scores are lost. So the tile of the window's last beginning counts as masked also where it is seen
     * from its first key on; and all 64 rows are asked, since those that do not exist have origins too. */
    static __device__ __forceinline__ tile_range find_unmasked(const pod_kernel_params &params,
                                                               const prefill_work &work, int warpgroup) {
        int32_t first_row = work.row_begin + warpgroup * ROWS;
        pod_key_range unmasked = unmasked_keys(params, work.request, place_row(params, first_row).token,
                                               place_row(params, first_row + ROWS - 1).token);
        tile_range tiles = unmasked_tiles(unmasked, work.first_key, SHAPE::PREFILL_TOKENS);
        if (unmasked.begin > work.first_key)
            tiles.begin = (unmasked.begin - work.first_key) / SHAPE::PREFILL_TOKENS + 1;
        return tiles;
    }

    /** Rows from `row_begin` on, of which `num_rows` exist; the others become zeros. Every lane copies. */
    static __device__ __forceinline__ void copy_rows(const pod_kernel_params &params, const prefill_work &work,
                                                     int32_t row_begin, int32_t num_rows, uint32_t tile_smem,
                                                     int lane) {
        constexpr int ROWS_AT_ONCE = 32 / ROW_CHUNKS;
        int chunk = lane % ROW_CHUNKS, row = lane / ROW_CHUNKS;
        if (row >= ROWS_AT_ONCE) row = ROWS; /* lanes that are too few for one more have none */
        int head = place_row(params, row_begin + row).head;
        const uint16_t *from = (const uint16_t *)params.q +
                               q_offset(params, work.request, work.item.kv_head, row_begin + row) +
                               chunk * CHUNK_ELEMENTS;
        row_place step = place_row(params, ROWS_AT_ONCE);
        int64_t step_elements = step.token * params.q_token_stride + step.head * params.q_head_stride;
        int64_t next_token = params.q_token_stride - params.shape.group * params.q_head_stride;
        /* Of decodes nearly all rows are missing. */
        int copied_end = SHAPE::DECODES ? ROWS : min(num_rows, ROWS);
        for (; row < copied_end; row += ROWS_AT_ONCE) {
            bool exists = row < num_rows;
            ptx_cp_async_16_or_zeros(tile_smem + q_chunk<SHAPE>(row, chunk), exists ? from : params.q,
                                     exists ? CHUNK_BYTES : 0);
            head += step.head;
            bool is_next = head >= params.shape.group;
            from += step_elements + (is_next ? next_token : 0);
            if (is_next) head -= params.shape.group;
        }
        if (!SHAPE::DECODES) {
            for (; row < ROWS; row += ROWS_AT_ONCE) ptx_st_smem_zeros(tile_smem + q_chunk<SHAPE>(row, chunk));
        }
        ptx_cp_async_commit();
        ptx_cp_async_wait<0>();
        ptx_fence_async_smem();
    }

    /** The same for a tile whose rows all exist and are whole tokens. One lane. */
    static __device__ __forceinline__ void copy_tile(const pod_kernel_params &params, const prefill_work &work,
                                                     int32_t row_begin, uint32_t tile_smem, uint32_t full) {
        int32_t group = params.shape.group;
        ptx_mbarrier_arrive_expect(full, SHAPE::HALVES * SHAPE::Q_HALF_BYTES);
#pragma unroll
        for (int half = 0; half < SHAPE::HALVES; half++) {
            ptx_tma_load_3d(tile_smem + half * SHAPE::Q_HALF_BYTES, &params.q_map, full, half * HALF_COLUMNS,
                            work.item.kv_head * group, work.request.q_begin + row_begin / group);
        }
    }

    static __device__ __forceinline__ void load(const pod_kernel_params &params, smem_type &smem,
                                                const prefill_work &work, int warpgroup, int lane) {
        int32_t row_begin = work.row_begin + warpgroup * ROWS, num_rows = work.num_rows - warpgroup * ROWS;
        uint32_t tile_smem = smem_address(smem.q) + warpgroup * (SHAPE::HALVES * SHAPE::Q_HALF_BYTES);
        uint32_t full = barrier_at(smem.q_full, warpgroup);
        if (num_rows >= ROWS && params.has_q_map) {
            if (lane == 0) copy_tile(params, work, row_begin, tile_smem, full);
            return;
        }
        if (num_rows > 0) copy_rows(params, work, row_begin, num_rows, tile_smem, lane);
        if (lane == 0) ptx_mbarrier_arrive(full);
    }

    /** Values of hidden keys are whatever the cache holds there, also NaN: they become zeros before the tile is said to
     * be there. `parities` has a bit for each pair of the ring, of the phase that such a tile in it ends. */
    static __device__ __forceinline__ void clear_first_values(const pod_kernel_params &params, smem_type &smem,
                                                              const prefill_work &work, uint32_t &parities, int lane) {
        pod_key_range hidden = hidden_keys(params, work.load);
        uint32_t n = work.load.first_tile, v_smem = values_smem(smem, smem.is_lent, n);
        uint32_t pair = n % SHAPE::PREFILL_PAIRS;
        ptx_mbarrier_wait(barrier_at(smem.first_values_full, pair), parities >> pair & 1);
        parities ^= 1u << pair;
        for (int32_t key = hidden.begin + lane / V_CHUNKS; key < hidden.end; key += 32 / V_CHUNKS) {
            ptx_st_smem_zeros(v_smem + tile_chunk<typename SHAPE::v_rows>(key, lane % V_CHUNKS));
        }
        ptx_fence_async_smem();
        warp_arrive(barrier_at(smem.kv_full, pair * 2 + 1));
    }

    /** Warp 2. */
    static __device__ void prefill(const pod_kernel_params &params, smem_type &smem, int lane) {
        uint32_t parities = 0;
        for (uint32_t number = 0;; number++) {
            uint32_t slot = number % WORK_SLOTS;
            ptx_mbarrier_wait(barrier_at(smem.prefill_full, slot), number / WORK_SLOTS % 2);
            prefill_work &work = smem.prefill[slot];
            if (work.item.kv_head < 0) break;
            if (lane < PREFILL_WARPGROUPS) work.unmasked[lane] = find_unmasked(params, work, lane);
#pragma unroll 1
            for (int warpgroup = 0; warpgroup < PREFILL_WARPGROUPS; warpgroup++) {
                ptx_mbarrier_wait(barrier_at(smem.q_empty, warpgroup), number % 2 ^ 1);
                load(params, smem, work, warpgroup, lane);
                threads_arrive(barrier_at(smem.q_full, warpgroup)); /* each for its rows and `unmasked` */
            }
            if (has_hidden_keys(params, work.load)) clear_first_values(params, smem, work, parities, lane);
            threads_arrive(barrier_at(smem.prefill_empty, slot));
        }
    }
};

#endif
