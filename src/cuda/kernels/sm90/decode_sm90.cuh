/* SPDX-License-Identifier: Apache-2.0 */
/* Decode on sm_90a: one warpgroup, operands swapped. 64 cached keys are the M of the product, the group's query rows
 * its N, so that a decode of eight rows costs an eighth of a padded tile.
 *
 *     S' = K Q'    64 keys x rows; a warp holds 16 keys of every row
 *     P'           written to shared memory as [row][key]
 *     O' = V' P'   HEAD_DIM columns x rows
 *
 * All four warps must use the same maximum of a row. They agree on a new one only when a score exceeds the old one by
 * more than RESCALE_LOG2; whether that happened is asked in the same barrier that P' needs anyway. */
#ifndef POD_SM90_DECODE_CUH
#define POD_SM90_DECODE_CUH

#include "../merge_parts.cuh"
#include "element_sm90.cuh"
#include "prefill_sm90.cuh"
#include "shape_sm90.cuh"

template <class ELEMENT, class SHAPE> struct decode_sm90 {
    typedef smem_sm90<SHAPE> smem_type;
    typedef ring_place<SHAPE::DECODE_SLOTS> ring;
    static constexpr int HEAD_DIM = SHAPE::HEAD_DIM, TOKENS = SHAPE::DECODE_TOKENS, HALVES = SHAPE::HALVES;

    /** Scores and output of N_TILES * 8 rows; a thread has columns 2 (lane % 4) and + 1 of each eight. */
    template <int N_TILES> struct accumulators {
        float out[HALVES][N_TILES * 4]; /* of head columns 16 warp + lane / 4 and + 8 of each half */
        float max[N_TILES][2];          /* in score units; -inf: no key was seen */
        float sum[N_TILES][2];          /* of this thread's keys only, until the end */
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

    template <int N_TILES>
    static __device__ __forceinline__ void scores(float (&s)[N_TILES * 4], uint32_t q_smem, uint32_t k_smem) {
        uint64_t q = wgmma_operand(q_smem, CHUNK_BYTES, SWIZZLE_BYTES);
        uint64_t k = wgmma_operand(k_smem, CHUNK_BYTES, SWIZZLE_BYTES);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < HEAD_DIM / 16; step++) {
            uint32_t column_bytes = step % 4 * 32;
            ELEMENT::ss(s, wgmma_advance(k, step / 4 * SHAPE::DECODE_HALF_BYTES + column_bytes),
                        wgmma_advance(q, step / 4 * SHAPE::DECODE_Q_HALF_BYTES + column_bytes), step > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        wgmma_touch(s);
    }

    template <int N_TILES>
    static __device__ __forceinline__ void accumulate(accumulators<N_TILES> &acc, uint32_t p_smem, uint32_t v_smem) {
        uint64_t p = wgmma_operand(p_smem, CHUNK_BYTES, SWIZZLE_BYTES);
        uint64_t v = wgmma_operand(v_smem, SHAPE::DECODE_HALF_BYTES, SWIZZLE_BYTES);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < TOKENS / 16; step++) {
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
                ELEMENT::ss_ta(acc.out[half],
                               wgmma_advance(v, half * SHAPE::DECODE_HALF_BYTES + step * 16 * HALF_ROW_BYTES),
                               wgmma_advance(p, step * 32), true);
            }
        }
        wgmma_commit();
        wgmma_wait<0>();
#pragma unroll
        for (int half = 0; half < HALVES; half++) wgmma_touch(acc.out[half]);
    }

    template <int N_TILES>
    static __device__ void mask(const pod_kernel_params &params, const decode_work &work, float (&s)[N_TILES * 4],
                                int32_t first_key) {
        int32_t key = first_key + own_warp() * 16 + own_lane() / 4;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + own_lane() % 4 * 2 + j;
                key_range range = visible_keys(params, work.request, row / params.shape.group);
                if (key < range.begin || key >= range.end) s[n * 4 + j] = -INFINITY;
                if (key + 8 < range.begin || key + 8 >= range.end) s[n * 4 + 2 + j] = -INFINITY;
            }
        }
    }

    /** Whether a score is so much above its row's maximum that this must be raised. */
    template <int N_TILES>
    static __device__ __forceinline__ bool rises(const float (&s)[N_TILES * 4], const accumulators<N_TILES> &acc,
                                                 float slack) {
        bool any = false;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) any |= fmaxf(s[n * 4 + j], s[n * 4 + 2 + j]) > acc.max[n][j] + slack;
        }
        return any;
    }

    /** The warps agree on new maxima; output and sums follow. */
    template <int N_TILES>
    static __device__ __forceinline__ void raise_max(smem_type &smem, const float (&s)[N_TILES * 4],
                                                     accumulators<N_TILES> &acc, float scale) {
        int lane = own_lane();
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float max = fmaxf(s[n * 4 + j], s[n * 4 + 2 + j]);
                max = fmaxf(max, __shfl_xor_sync(~0u, max, 4));
                max = fmaxf(max, __shfl_xor_sync(~0u, max, 8));
                max = fmaxf(max, __shfl_xor_sync(~0u, max, 16));
                if (lane < 4) smem.decode_reduce[own_warp()][n * 8 + lane * 2 + j] = max;
            }
        }
        sync();
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float max = acc.max[n][j];
#pragma unroll
                for (int warp = 0; warp < WARPGROUP_WARPS; warp++) {
                    max = fmaxf(max, smem.decode_reduce[warp][n * 8 + lane % 4 * 2 + j]);
                }
                float factor = acc.max[n][j] == -INFINITY ? 0.0f : ptx_ex2((acc.max[n][j] - max) * scale);
                acc.max[n][j] = max;
                acc.sum[n][j] *= factor;
#pragma unroll
                for (int half = 0; half < HALVES; half++) {
                    acc.out[half][n * 4 + j] *= factor;
                    acc.out[half][n * 4 + 2 + j] *= factor;
                }
            }
        }
    }

    /** Scores become probabilities, in shared memory. Returns what they add to the sums. */
    template <int N_TILES>
    static __device__ __forceinline__ void write_probabilities(const float (&s)[N_TILES * 4],
                                                               const accumulators<N_TILES> &acc, uint32_t p_smem,
                                                               float (&sum)[N_TILES][2], float scale) {
        int lane = own_lane(), chunk = own_warp() * 2 + lane / 8 % 2;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            float p[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float max = acc.max[n][i % 2], origin = max == -INFINITY ? 0.0f : max * scale;
                p[i] = ptx_ex2(fmaf(s[n * 4 + i], scale, -origin));
            }
            sum[n][0] = p[0] + p[2];
            sum[n][1] = p[1] + p[3];
            ptx_stmatrix_x2_trans(p_smem + swizzle_chunk<HALF_ROW_BYTES>(n * 8 + lane % 8, chunk),
                                  ELEMENT::pack(p[0], p[1]), ELEMENT::pack(p[2], p[3]));
        }
        ptx_fence_async_smem();
    }

    /** Values behind the request's end are whatever the cache holds there, also NaN: they become zeros. */
    static __device__ void clear_values(uint32_t v_smem, int32_t num_keys) {
        constexpr int ROW_CHUNKS = HEAD_DIM / CHUNK_ELEMENTS;
        int t = ptx_tid() % WARPGROUP_THREADS;
        for (int row = num_keys + t / ROW_CHUNKS; row < TOKENS; row += WARPGROUP_THREADS / ROW_CHUNKS) {
            uint32_t to = v_smem + tile_chunk(row, t % ROW_CHUNKS, SHAPE::DECODE_HALF_BYTES);
            asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
        }
        ptx_fence_async_smem();
        sync();
    }

    template <int N_TILES>
    static __device__ __forceinline__ void run(const pod_kernel_params &params, smem_type &smem,
                                               const decode_work &work, uint32_t q_smem, ring &at,
                                               accumulators<N_TILES> &acc) {
        bool has_softcap = params.softcap_log2 > 0.0f;
        float scale = has_softcap ? 1.0f : params.scale_log2, slack = RESCALE_LOG2 / scale;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            acc.max[n][0] = acc.max[n][1] = -INFINITY;
            acc.sum[n][0] = acc.sum[n][1] = 0.0f;
        }
#pragma unroll
        for (int half = 0; half < HALVES; half++) {
#pragma unroll
            for (int i = 0; i < N_TILES * 4; i++) acc.out[half][i] = 0.0f;
        }
#pragma unroll 1
        for (int32_t tile = 0; tile < work.item.num_tiles; tile++) {
            float s[N_TILES * 4], sum[N_TILES][2];
            int32_t first_key = work.first_key + tile * TOKENS;
            /* P' of the tile before may still be read by a slower warp. */
            uint32_t p_smem = ptx_smem(smem.decode_p) + tile % 2 * SHAPE::DECODE_P_BYTES;
            ptx_mbarrier_wait(barrier_at(smem.decode_kv_full, at.slot), at.parity);
            scores<N_TILES>(s, q_smem, ptx_smem(smem.decode_kv) + at.slot * SHAPE::DECODE_SLOT_BYTES);
            warp_arrive(barrier_at(smem.decode_kv_empty, at.slot));
            at.advance();
            if (has_softcap) {
#pragma unroll
                for (int i = 0; i < N_TILES * 4; i++) s[i] = softcap_score(params, s[i]);
            }
            if (first_key + TOKENS > work.unmasked_end || first_key < work.unmasked_begin) {
                mask<N_TILES>(params, work, s, first_key);
            }
            write_probabilities<N_TILES>(s, acc, p_smem, sum, scale);
            if (ptx_bar_any(BARRIER_DECODE, WARPGROUP_THREADS, rises<N_TILES>(s, acc, slack))) {
                raise_max<N_TILES>(smem, s, acc, scale);
                write_probabilities<N_TILES>(s, acc, p_smem, sum, scale);
                sync();
            }
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
                acc.sum[n][0] += sum[n][0];
                acc.sum[n][1] += sum[n][1];
            }
            ptx_mbarrier_wait(barrier_at(smem.decode_kv_full, at.slot), at.parity);
            uint32_t v_smem = ptx_smem(smem.decode_kv) + at.slot * SHAPE::DECODE_SLOT_BYTES;
            int32_t num_keys = work.request.kv_len - first_key;
            if (num_keys < TOKENS) clear_values(v_smem, max(0, num_keys));
            accumulate<N_TILES>(acc, p_smem, v_smem);
            warp_arrive(barrier_at(smem.decode_kv_empty, at.slot));
            at.advance();
        }
        join_sums<N_TILES>(smem, acc, scale);
    }

    /** Sums over all lanes and warps; maxima in log2 units. */
    template <int N_TILES>
    static __device__ __forceinline__ void join_sums(smem_type &smem, accumulators<N_TILES> &acc, float scale) {
        int lane = own_lane();
        sync(); /* all have read the maxima that may stand there */
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float sum = acc.sum[n][j];
                sum += __shfl_xor_sync(~0u, sum, 4);
                sum += __shfl_xor_sync(~0u, sum, 8);
                sum += __shfl_xor_sync(~0u, sum, 16);
                if (lane < 4) smem.decode_reduce[own_warp()][n * 8 + lane * 2 + j] = sum;
                acc.max[n][j] *= scale; /* scale > 0 is the host's promise */
            }
        }
        sync();
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const float(*sums)[SHAPE::DECODE_ROWS] = smem.decode_reduce;
                int row = n * 8 + lane % 4 * 2 + j;
                acc.sum[n][j] = (sums[0][row] + sums[1][row]) + (sums[2][row] + sums[3][row]);
            }
        }
        sync(); /* all have read the sums before the next item's maxima stand there */
    }

    template <int N_TILES>
    static __device__ void write_out(const pod_kernel_params &params, const decode_work &work,
                                     const accumulators<N_TILES> &acc) {
        int lane = own_lane();
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            float factor[2] = {0.0f, 0.0f};
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + lane % 4 * 2 + j;
                if (row >= work.num_rows) continue;
                factor[j] = finish_row(params, work.request, work.item.kv_head, row, acc.max[n][j], acc.sum[n][j],
                                       own_warp() == 0 && lane < 4);
            }
            int row = n * 8 + lane / 4; /* after the transposition a lane holds neighbouring columns of one row */
            bool exists = row < work.num_rows;
            int64_t offset = out_offset(params, work.request, work.item.kv_head, exists ? row : 0);
            uint32_t *words = (uint32_t *)((uint16_t *)params.out + offset) + own_warp() * 8 + lane % 4;
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
                const float *o = &acc.out[half][n * 4];
                uint32_t low = ptx_movmatrix_trans(ELEMENT::pack(o[0] * factor[0], o[1] * factor[1]));
                uint32_t high = ptx_movmatrix_trans(ELEMENT::pack(o[2] * factor[0], o[3] * factor[1]));
                if (!exists) continue;
                words[half * 32] = low;
                words[half * 32 + 4] = high;
            }
        }
    }

    template <int N_TILES>
    static __device__ void write_partial(const pod_kernel_params &params, const decode_work &work,
                                         const accumulators<N_TILES> &acc, int32_t slot) {
        int lane = own_lane();
        int64_t first_row = (int64_t)slot * params.tiling.decode_rows;
        float *outs = params.schedule.decode_partial_out + first_row * HEAD_DIM + own_warp() * 16 + lane / 4;
        float *sums = params.schedule.decode_partial_sum + first_row * 2;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + lane % 4 * 2 + j;
                if (row >= work.num_rows) continue;
                if (own_warp() == 0 && lane < 4) {
                    *(float2 *)(sums + row * 2) = make_float2(acc.max[n][j], acc.sum[n][j]);
                }
#pragma unroll
                for (int half = 0; half < HALVES; half++) {
                    outs[row * HEAD_DIM + half * HALF_COLUMNS] = acc.out[half][n * 4 + j];
                    outs[row * HEAD_DIM + half * HALF_COLUMNS + 8] = acc.out[half][n * 4 + 2 + j];
                }
            }
        }
    }

    /** Joins the parts of a split item and writes its rows; a warp takes two at a time, a lane HEAD_DIM / 32 columns.
     */
    static __device__ void merge(const pod_kernel_params &params, const decode_work &work) {
        constexpr int ROWS = 2, COLUMNS = HEAD_DIM / 32;
        int lane = own_lane();
        for (int first_row = own_warp() * ROWS; first_row < work.num_rows; first_row += WARPGROUP_WARPS * ROWS) {
            merged_rows<ROWS, COLUMNS> merged;
            merge_parts(
                merged, params.schedule.decode_partial_sum, params.schedule.decode_partial_out,
                [&](int part) { return pod_core_decode_slot(&work.item, part); }, work.item.num_parts,
                params.tiling.decode_rows, HEAD_DIM, first_row, 1, work.num_rows, lane * COLUMNS);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                int row = first_row + i;
                if (row >= work.num_rows) break;
                float factor =
                    finish_row(params, work.request, work.item.kv_head, row, merged.max[i], merged.sum[i], lane == 0);
                int64_t offset = out_offset(params, work.request, work.item.kv_head, row);
                uint32_t *words = (uint32_t *)((uint16_t *)params.out + offset + lane * COLUMNS);
#pragma unroll
                for (int c = 0; c < COLUMNS; c += 2) {
                    words[c / 2] = ELEMENT::pack(merged.out[i][c] * factor, merged.out[i][c + 1] * factor);
                }
            }
        }
    }

    template <int N_TILES>
    static __device__ __forceinline__ void work_on(const pod_kernel_params &params, smem_type &smem,
                                                   const decode_work &work, uint32_t q_smem, ring &at) {
        accumulators<N_TILES> acc;
        run<N_TILES>(params, smem, work, q_smem, at, acc);
        if (work.item.num_parts == 1) {
            write_out<N_TILES>(params, work, acc);
            return;
        }
        write_partial<N_TILES>(params, work, acc, pod_core_decode_slot(&work.item, work.item.part));
        __threadfence();
        sync();
        if (ptx_tid() % WARPGROUP_THREADS == 0) {
            uint32_t *counter = &params.schedule.slice_counters[work.item.first_slice];
            uint32_t is_last = atomicAdd(counter, 1) == (uint32_t)work.item.num_parts - 1;
            if (is_last) *counter = 0;
            smem.is_last[PREFILL_WARPGROUPS] = is_last;
        }
        sync();
        if (!smem.is_last[PREFILL_WARPGROUPS]) return;
        __threadfence();
        merge(params, work);
    }

    static __device__ void consume(const pod_kernel_params &params, smem_type &smem) {
        ring at = {0, 0};
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance()) {
            ptx_mbarrier_wait(barrier_at(smem.decode_full, slot.slot), slot.parity);
            const decode_work &work = smem.decode[slot.slot];
            if (work.item.kv_head < 0) break;
            ptx_mbarrier_wait(barrier_at(smem.decode_q_full, slot.slot), slot.parity);
            uint32_t q_smem = ptx_smem(smem.decode_q[slot.slot]);
            if (work.num_rows <= 8)
                work_on<1>(params, smem, work, q_smem, at);
            else
                work_on<2>(params, smem, work, q_smem, at);
            warp_arrive(barrier_at(smem.decode_empty, slot.slot));
        }
    }
};

#endif
