/* SPDX-License-Identifier: Apache-2.0 */
/* Decode on sm_90a: one warpgroup whose warps work alone on the tiles that they share.
 *
 * A warp takes eight query rows, a group, and its part of a tile's keys: a quarter if there are no more rows (GROUPS
 * 1), half if two warps share each of two groups, all if every warp has a group of its own (GROUPS 4). A tile has 64
 * keys of 128 elements or 128 of 64: what a step costs whatever it reads, barriers, votes and the trips through
 * shuffles, is paid for as many bytes. Operands are swapped, so that eight rows waste nothing:
 *
 *     S' = K Q'    16 keys x 8 rows per mma; Q stays in registers
 *     O' = V' P'   16 columns x 8 rows per mma; P' comes from S' by movmatrix
 *
 * mma.sync and not wgmma: with that the four warps would have to agree on maxima in every tile and hand P' over in
 * shared memory. Here they meet once per item, over the slot of the last tile. */
#ifndef POD_SM90_DECODE_CUH
#define POD_SM90_DECODE_CUH

#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/parts.cuh"
#include "cuda/kernels/sm90/element_sm90.cuh"
#include "cuda/kernels/sm90/pipeline_sm90.cuh"
#include "cuda/kernels/softmax_row.cuh"

template <class ELEMENT, class SHAPE> struct decode_sm90 {
    typedef smem_sm90<SHAPE> smem_type;
    typedef ring_place<SHAPE::RING_SLOTS> ring;
    static constexpr int HEAD_DIM = SHAPE::HEAD_DIM, TOKENS = SHAPE::DECODE_TOKENS;
    static constexpr int STEP_KEYS = 16, K_STEPS = HEAD_DIM / 16, O_TILES = HEAD_DIM / 16, BLOCKS = HEAD_DIM / 8;
    static_assert(SHAPE::DECODE_SLOT_BYTES >= WARPGROUP_WARPS * DECODE_WARP_ROWS * HEAD_DIM * sizeof(float),
                  "a slot holds every warp's output");

    const pod_kernel_params &params;
    smem_type &smem;

    /** A warp's eight rows: a lane has rows 2 (lane % 4) and + 1. */
    struct accumulators {
        float out[O_TILES][4]; /* of columns lane / 4 and + 8 of each 16 */
        float origin[2];
        float sum[2]; /* of this lane's keys only, until the end */
        bool is_far;  /* whether an origin of the warp is; see exponent() */
    };

    static __device__ __forceinline__ int own_warp() {
        return ptx_tid() / 32 % WARPGROUP_WARPS;
    }
    static __device__ __forceinline__ int own_lane() {
        return ptx_tid() % 32;
    }
    static __device__ __forceinline__ void sync() {
        ptx_bar_sync(BARRIER_DECODE, WARPGROUP_THREADS);
    }

    /** The rows as B operands: lane / 4 is the row, its columns 2 (lane % 4) and + 8 of each step. */
    __device__ __forceinline__ void load_q(const decode_work &work, uint32_t (&q)[K_STEPS][2], int first_row) {
        int row = first_row + own_lane() / 4;
        bool exists = row < work.num_rows;
        int64_t offset = q_offset(params, work.request, work.item.kv_head, exists ? row : 0);
        const uint32_t *words = (const uint32_t *)((const uint16_t *)params.q + offset) + own_lane() % 4;
#pragma unroll
        for (int step = 0; step < K_STEPS; step++) {
            q[step][0] = exists ? __ldg(words + step * 8) : 0;
            q[step][1] = exists ? __ldg(words + step * 8 + 4) : 0;
        }
    }

    /** Scores of STEPS * 16 keys, one or two, whose rows of a K tile begin at `keys_smem`. Two chains of
     * products hide half of their latency. */
    template <int STEPS>
    static __device__ __forceinline__ void scores(float (&s)[STEPS][4], const uint32_t (&q)[K_STEPS][2],
                                                  uint32_t keys_smem) {
        constexpr int STEPS_AT_ONCE = 2 / STEPS;
        int lane = own_lane();
        uint32_t k_lane = keys_smem + tile_chunk<typename SHAPE::k_rows>(lane % 16, lane / 16);
        float chains[2][4];
#pragma unroll
        for (int j = 0; j < 4; j++) chains[0][j] = chains[1][j] = 0.0f;
#pragma unroll
        for (int step = 0; step < K_STEPS; step += STEPS_AT_ONCE) {
            uint32_t k[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int own_step = step + i % STEPS_AT_ONCE, key = i / STEPS_AT_ONCE * STEP_KEYS;
                ptx_ldmatrix_x4(k[i], step_chunk(k_lane, own_step, SWIZZLE_BYTES) + key * SHAPE::k_rows::ROW_BYTES);
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int own_step = step + i % STEPS_AT_ONCE;
                ELEMENT::mma(chains[i], k[i], q[own_step][0], q[own_step][1]);
            }
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[0][j] = STEPS == 1 ? chains[0][j] + chains[1][j] : chains[0][j];
            s[STEPS - 1][j] = STEPS == 1 ? s[0][j] : chains[1][j];
        }
    }

    __device__ __forceinline__ void mask(const decode_work &work, float (&s)[4], int first_row, int32_t first_key) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            int32_t key = first_key + own_lane() / 4; /* read anew: one row after the other needs fewer registers */
            int row = first_row + own_lane() % 4 * 2 + j;
            pod_key_range range = visible_keys(params, work.request, place_small_row(params, row).token);
            if (key < range.begin || key >= range.end) s[j] = -INFINITY;
            if (key + 8 < range.begin || key + 8 >= range.end) s[2 + j] = -INFINITY;
        }
    }

    /** Raises the origins to the largest of the warp's scores, of which `max` are this lane's; output and sums follow.
     */
    static __device__ __forceinline__ void raise(const float (&max)[2], accumulators &acc, float scale) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            float row_max = fmaxf(max[j], __shfl_xor_sync(~0u, max[j], 4));
            row_max = fmaxf(row_max, __shfl_xor_sync(~0u, row_max, 8));
            row_max = fmaxf(row_max, __shfl_xor_sync(~0u, row_max, 16));
            float factor = raise_row(acc.origin[j], acc.sum[j], row_max * scale);
#pragma unroll
            for (int m = 0; m < O_TILES; m++) {
                acc.out[m][j] *= factor;
                acc.out[m][2 + j] *= factor;
            }
        }
        acc.is_far = __any_sync(~0u, is_far(acc.origin[0]) || is_far(acc.origin[1]));
    }

    /** Scores become probabilities, as B operands. */
    template <int STEPS>
    static __device__ __forceinline__ void softmax(const float (&s)[STEPS][4], accumulators &acc,
                                                   uint32_t (&p)[STEPS][2], float scale) {
        float max[2];
        bool rises = false;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            max[j] = fmaxf(s[0][j], s[0][2 + j]);
#pragma unroll
            for (int i = 1; i < STEPS; i++) max[j] = fmaxf(max[j], fmaxf(s[i][j], s[i][2 + j]));
            rises |= fmaf(max[j], scale, -acc.origin[j]) > POD_RESCALE_LOG2;
        }
        float x[STEPS][4];
        if (__any_sync(~0u, rises || acc.is_far)) raise(max, acc, scale);
#pragma unroll
        for (int i = 0; i < STEPS * 4; i++) x[i / 4][i % 4] = fmaf(s[i / 4][i % 4], scale, -acc.origin[i % 2]);
        if (acc.is_far) {
#pragma unroll
            for (int i = 0; i < STEPS * 4; i++) x[i / 4][i % 4] = exponent(s[i / 4][i % 4], scale, acc.origin[i % 2]);
        }
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            float e[4];
#pragma unroll
            for (int j = 0; j < 4; j++) e[j] = ptx_ex2(x[i][j]);
            acc.sum[0] += e[0] + e[2];
            acc.sum[1] += e[1] + e[3];
            p[i][0] = ptx_movmatrix_trans(ELEMENT::pack(e[0], e[1]));
            p[i][1] = ptx_movmatrix_trans(ELEMENT::pack(e[2], e[3]));
        }
    }

    /** What a warp computes at a time: eight rows against keys whose rows of a K tile begin at `keys_smem`. */
    struct step_place {
        uint32_t keys_smem;
        int32_t first_row, first_key;
    };

    /** Probabilities of STEPS * 16 keys. */
    template <int STEPS>
    __device__ __forceinline__ void probabilities(const decode_work &work, const uint32_t (&q)[K_STEPS][2],
                                                  accumulators &acc, uint32_t (&p)[STEPS][2], step_place at) {
        float s[STEPS][4];
        scores<STEPS>(s, q, at.keys_smem);
        if (params.softcap_log2 > 0.0f) {
#pragma unroll
            for (int i = 0; i < STEPS * 4; i++) s[i / 4][i % 4] = softcap_score(params, s[i / 4][i % 4]);
        }
        if (at.first_key + STEPS * STEP_KEYS > work.unmasked.end || at.first_key < work.unmasked.begin) {
#pragma unroll
            for (int i = 0; i < STEPS; i++) mask(work, s[i], at.first_row, at.first_key + i * STEP_KEYS);
        }
        softmax<STEPS>(s, acc, p, params.score_scale);
    }

    static __device__ __forceinline__ void accumulate(accumulators &acc, const uint32_t (&p)[2], uint32_t keys_smem) {
        int lane = own_lane();
        uint32_t v_lane = keys_smem + tile_chunk<typename SHAPE::k_rows>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
        for (int m = 0; m < O_TILES; m++) {
            uint32_t v[4];
            ptx_ldmatrix_x4_trans(v, step_chunk(v_lane, m, SWIZZLE_BYTES));
            ELEMENT::mma(acc.out[m], v, p[0], p[1]);
        }
    }

    /** Values that no row sees, before the window and after the request's end, are whatever the cache holds there, also
     * NaN: all but those of the tile's keys from `begin` up to `end` become zeros. The warps meet first: what they read
     * in this place in earlier rounds is told by barriers that tools do not follow. */
    static __device__ void clear_values(uint32_t v_smem, int32_t begin, int32_t end) {
        constexpr int ROW_CHUNKS = HEAD_DIM / CHUNK_ELEMENTS;
        int t = ptx_tid() % WARPGROUP_THREADS;
        sync();
        for (int row = t / ROW_CHUNKS; row < TOKENS; row += WARPGROUP_THREADS / ROW_CHUNKS) {
            if (row < begin || row >= end)
                ptx_st_smem_zeros(v_smem + tile_chunk<typename SHAPE::k_rows>(row, t % ROW_CHUNKS));
        }
        sync();
    }

    /** Waits for the V tile at `at`, whose first key is `first_key`, and clears what no row sees. */
    __device__ __forceinline__ void wait_values(const decode_work &work, const ring &at, int32_t first_key) {
        ptx_mbarrier_wait(barrier_at(smem.decode_kv_full.at, at.slot), at.parity);
        int32_t begin = work.load.kv_begin - first_key, end = work.request.kv_len - first_key;
        if (begin > 0 || end < TOKENS) {
            clear_values(smem_address(decode_ring(smem)) + at.slot * SHAPE::DECODE_SLOT_BYTES, begin, end);
        }
    }

    /** All tiles of the work. `at` stays at the last tile's V, which is not released. */
    template <int GROUPS> __device__ __forceinline__ void run(const decode_work &work, ring &at, accumulators &acc) {
        constexpr int WARPS_PER_GROUP = WARPGROUP_WARPS / GROUPS, STEPS = TOKENS / STEP_KEYS / WARPS_PER_GROUP;
        constexpr int STEPS_AT_ONCE = STEPS == 1 ? 1 : 2;
        int first_row = own_warp() / WARPS_PER_GROUP * DECODE_WARP_ROWS;
        int own_keys = own_warp() % WARPS_PER_GROUP * STEP_KEYS * STEPS;
        uint32_t q[K_STEPS][2], slots_smem = smem_address(decode_ring(smem)) + own_keys * SHAPE::k_rows::ROW_BYTES;
        load_q(work, q, first_row);
        acc.origin[0] = acc.origin[1] = NO_KEY_YET;
        acc.sum[0] = acc.sum[1] = 0.0f;
        acc.is_far = false;
#pragma unroll
        for (int m = 0; m < O_TILES; m++) acc.out[m][0] = acc.out[m][1] = acc.out[m][2] = acc.out[m][3] = 0.0f;
        int32_t tiles_left = work.item.num_tiles, first_key = work.first_key;
#pragma unroll 1
        for (;;) {
            ptx_mbarrier_wait(barrier_at(smem.decode_kv_full.at, at.slot), at.parity);
            uint32_t k_smem = slots_smem + at.slot * SHAPE::DECODE_SLOT_BYTES;
            uint32_t k_empty = barrier_at(smem.decode_kv_empty.at, at.slot);
            at.slot++;
            uint32_t v_smem = slots_smem + at.slot * SHAPE::DECODE_SLOT_BYTES;
            /* Probabilities are added up before the next ones are made: those may raise the maxima. */
#pragma unroll 1
            for (int i = 0; i < STEPS; i += STEPS_AT_ONCE) {
                uint32_t p[STEPS_AT_ONCE][2];
                probabilities<STEPS_AT_ONCE>(work, q, acc, p,
                                             {k_smem + i * STEP_KEYS * SHAPE::k_rows::ROW_BYTES, first_row,
                                              first_key + own_keys + i * STEP_KEYS});
                /* after the vote on the scores: all of K has then been read */
                if (i + STEPS_AT_ONCE == STEPS) warp_arrive(k_empty);
                if (i == 0) wait_values(work, at, first_key);
#pragma unroll
                for (int j = 0; j < STEPS_AT_ONCE; j++) {
                    accumulate(acc, p[j], v_smem + (i + j) * STEP_KEYS * SHAPE::k_rows::ROW_BYTES);
                }
            }
            if (--tiles_left == 0) break;
            warp_arrive(barrier_at(smem.decode_kv_empty.at, at.slot));
            at.advance();
            first_key += TOKENS;
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            float sum = acc.sum[j];
            sum += __shfl_xor_sync(~0u, sum, 4);
            sum += __shfl_xor_sync(~0u, sum, 8);
            acc.sum[j] = sum + __shfl_xor_sync(~0u, sum, 16);
            acc.origin[j] = partial_max(acc.origin[j]);
        }
    }

    /** Where a warp's output is in the slot: blocks of eight columns, placed so that rows meet different banks. */
    static __device__ __forceinline__ int block_offset(int warp, int row, int block) {
        return ((warp * DECODE_WARP_ROWS + row) * BLOCKS + (block ^ row / 2)) * 8;
    }

    /** Puts the warp's rows into the last tile's slot. */
    __device__ __forceinline__ void write_slot(float *slot, const accumulators &acc) {
        int lane = own_lane(), warp = own_warp();
        sync(); /* all are done with the tile */
#pragma unroll
        for (int j = 0; j < 2; j++) {
            int row = lane % 4 * 2 + j;
            if (lane < 4) smem.decode_sums[warp][row] = make_float2(acc.origin[j], acc.sum[j]);
#pragma unroll
            for (int m = 0; m < O_TILES; m++) {
                slot[block_offset(warp, row, 2 * m) + lane / 4] = acc.out[m][j];
                slot[block_offset(warp, row, 2 * m + 1) + lane / 4] = acc.out[m][2 + j];
            }
        }
        sync();
    }

    /** Eight neighbouring columns of a row, joined over the warps that share it. */
    template <int GROUPS>
    __device__ __forceinline__ void join_warps(const float *slot, int row, int block, float (&out)[8], float2 &sum) {
        constexpr int WARPS_PER_GROUP = WARPGROUP_WARPS / GROUPS;
        int first_warp = row / DECODE_WARP_ROWS * WARPS_PER_GROUP, warp_row = row % DECODE_WARP_ROWS;
        sum = make_float2(-INFINITY, 0.0f);
#pragma unroll
        for (int c = 0; c < 8; c++) out[c] = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS_PER_GROUP; w++) {
            float2 part = smem.decode_sums[first_warp + w][warp_row];
            pod_merge_factors factors = pod_merge_part(&sum.x, &sum.y, part.x, part.y);
            const float *from = slot + block_offset(first_warp + w, warp_row, block);
#pragma unroll
            for (int c = 0; c < 8; c++) out[c] = out[c] * factors.row + from[c] * factors.part;
        }
    }

    /** Ends an item whose warps' results are in the slot: writes its rows, or keeps them as a part. */
    template <int GROUPS> __device__ __forceinline__ void write_rows(const decode_work &work, const float *slot) {
        bool is_split = work.item.num_parts > 1;
        int64_t partial_row = (int64_t)pod_core_decode_slot(&work.item, work.item.part) * params.tiling.decode_rows;
        int32_t t = ptx_tid() % WARPGROUP_THREADS, block = t % BLOCKS;
        for (int row = t / BLOCKS; row < work.num_rows; row += WARPGROUP_THREADS / BLOCKS) {
            float out[8];
            float2 sum;
            join_warps<GROUPS>(slot, row, block, out, sum);
            if (!is_split) {
                row_place place = place_row(params, row);
                float factor = finish_row(params, work.request, work.item.kv_head, place, sum, block == 0);
                uint16_t *to = (uint16_t *)params.out + out_offset(params, work.request, work.item.kv_head, place);
                *(uint4 *)(to + block * 8) = make_uint4(
                    ELEMENT::pack(out[0] * factor, out[1] * factor), ELEMENT::pack(out[2] * factor, out[3] * factor),
                    ELEMENT::pack(out[4] * factor, out[5] * factor), ELEMENT::pack(out[6] * factor, out[7] * factor));
            } else {
                float4 *to =
                    (float4 *)(params.schedule.decode_partial_out + (partial_row + row) * HEAD_DIM + block * 8);
                to[0] = make_float4(out[0], out[1], out[2], out[3]);
                to[1] = make_float4(out[4], out[5], out[6], out[7]);
                if (block == 0) ((float2 *)params.schedule.decode_partial_sum)[partial_row + row] = sum;
            }
        }
    }

    /** Joins the parts of a split item and writes its rows: a warp has ROWS of them at a time. */
    template <int ROWS> __device__ __forceinline__ void merge_rows(const decode_work &work) {
        typedef merge_shape<HEAD_DIM, WARPGROUP_THREADS, ROWS, 8 / ROWS> shape;
        merge_parts<ELEMENT, shape>(params, work, params.tiling.decode_rows, 0, work.num_rows,
                                    ptx_tid() % WARPGROUP_THREADS);
    }
    __device__ void merge(const decode_work &work) {
        if (work.num_rows <= WARPGROUP_WARPS)
            merge_rows<1>(work);
        else
            merge_rows<2>(work);
    }

    template <int GROUPS> __device__ __forceinline__ void work_on(const decode_work &work, ring &at) {
        accumulators acc;
        run<GROUPS>(work, at, acc);
        float *slot = (float *)(decode_ring(smem) + at.slot * SHAPE::DECODE_SLOT_BYTES);
        write_slot(slot, acc);
        write_rows<GROUPS>(work, slot);
        ptx_fence_async_smem(); /* the next copy into the slot comes after what was written there */
        warp_arrive(barrier_at(smem.decode_kv_empty.at, at.slot));
        at.advance();
        if (work.item.num_parts == 1) return;
        part_counter counter = {&params.schedule.slice_counters[work.item.first_slice], 0, ~0u};
        part_warps threads = {BARRIER_DECODE, &smem.is_last[PREFILL_WARPGROUPS]};
        if (count_part(threads, counter, work.item.num_parts)) merge(work);
    }

    __device__ void consume() {
        const uint32_t first_slot = warp_uniform(first_decode_slot(smem));
        ring at = {first_slot, 0, first_slot};
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance()) {
            ptx_mbarrier_wait(barrier_at(smem.decode_full, slot.slot), slot.parity);
            const decode_work &work = smem.decode[slot.slot];
            if (work.item.kv_head < 0) break;
            if (work.num_rows <= DECODE_WARP_ROWS)
                work_on<1>(work, at);
            else if (SHAPE::DECODE_ROWS <= 2 * DECODE_WARP_ROWS || work.num_rows <= 2 * DECODE_WARP_ROWS)
                work_on<2>(work, at);
            else
                work_on<4>(work, at);
            threads_arrive(barrier_at(smem.decode_empty, slot.slot));
        }
    }
};

#endif
