/* SPDX-License-Identifier: Apache-2.0 */
/* Absorbed MLA on sm_90a: two warpgroups with the same 64 query rows. Each computes scores and probabilities of every
 * second tile, and adds the products with all tiles' values to 256 of the output's 512 columns. */
#ifndef POD_SM90MLA_ROWS_CUH
#define POD_SM90MLA_ROWS_CUH

#include "cuda/kernels/element.cuh"
#include "cuda/kernels/ptx/wgmma.cuh"
#include "cuda/kernels/sm90mla/finish_sm90mla.cuh"

struct sm90mla_bf16 : pod_element_bf16, wgmma_bf16 {};
struct sm90mla_f16 : pod_element_f16, wgmma_f16 {};

/** Tiles of TILE, whose ring has barriers of its own. */
template <class ELEMENT, class SHAPE, class TILE> struct rows_sm90mla {
    typedef smem_sm90mla<SHAPE> smem_type;
    static constexpr int KEYS = TILE::ROWS, S_REGS = KEYS / 2, P_REGS = KEYS / 4, P_CHUNKS = P_REGS / 4;
    static constexpr int O_REGS = SHAPE::OWN_COLUMNS / 2, V_HEAD_DIM = SHAPE::V_HEAD_DIM;

    /** A thread's two rows: lane / 4 of its warp's sixteen, and eight further down. */
    struct accumulators {
        float o[O_REGS];
        float origin[2]; /* of all tiles so far, whoever computed them */
        float sum[2];    /* of the scores that this thread computed, until the end */
    };

    const pod_kernel_params &params;
    smem_type &smem;
    const ring_barriers<TILE::SLOTS> &ring;
    int warpgroup; /* 0 or 1 */

    static __device__ __forceinline__ int own_thread() {
        return ptx_tid() % WARPGROUP_THREADS;
    }
    static __device__ __forceinline__ int own_row() {
        return own_thread() / 32 * 16 + ptx_tid() % 32 / 4;
    }

    /** Where a row of the work is. */
    __device__ __forceinline__ row_place place(const mla_work &work, int row) {
        row_place from_token = place_small_row(params, work.first_row.head + row);
        return {work.first_row.token + from_token.token, from_token.head};
    }

    /* ---- tiles ---- */

    __device__ __forceinline__ uint32_t tile_smem(uint32_t n) {
        return smem_address(smem.k) + n % TILE::SLOTS * TILE::BYTES;
    }
    __device__ __forceinline__ void wait_part(uint32_t n, int part) {
        ptx_mbarrier_wait(part_barrier(ring.full, n, part), ring_parity(ring, n));
        ptx_fence_async_smem(); /* what the loaders copied becomes visible to wgmma */
    }
    __device__ __forceinline__ void release_part(uint32_t n, int part) {
        warp_arrive(part_barrier(ring.empty, n, part));
    }

    /** S (+)= Q K' of a part's columns, once they are there. */
    template <int PART, bool ADDS>
    __device__ __forceinline__ void add_scores(float (&s)[S_REGS], uint32_t q, uint32_t k, uint32_t n) {
        constexpr uint32_t Q_PIECE_BYTES = TILE_ROWS * PIECE_ROW_BYTES;
        constexpr int FIRST = SHAPE::template part<PART>::BEGIN,
                      STEPS = SHAPE::template part<PART>::COUNT * (PIECE_COLUMNS / 16);
        wait_part(n, PART);
        wgmma_fence(); /* behind the wait: where one lies between it and a product, nvcc 13.0 serialises all */
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            uint32_t piece = FIRST + step / 4, column_bytes = step % 4 * 32;
            ELEMENT::ss(s, wgmma_at<GROUP_BYTES>(q, piece * Q_PIECE_BYTES + column_bytes),
                        wgmma_at<GROUP_BYTES>(k, piece * TILE::PIECE_BYTES + column_bytes), ADDS || step > 0);
        }
    }

    /** Starts S = Q K'. */
    __device__ __forceinline__ void start_scores(float (&s)[S_REGS], uint32_t n) {
        uint32_t q = warp_uniform(wgmma_operand(smem_address(smem.q), CHUNK_BYTES));
        uint32_t k = warp_uniform(wgmma_operand(tile_smem(n), CHUNK_BYTES));
        add_scores<PART_REST, false>(s, q, k, n);
        add_scores<PART_LEFT, true>(s, q, k, n);
        add_scores<PART_RIGHT, true>(s, q, k, n);
        wgmma_commit();
    }

    /** Starts O += P V. */
    __device__ __forceinline__ void start_output(float (&o)[O_REGS], const uint32_t (&p)[P_REGS], uint32_t n) {
        uint32_t v = warp_uniform(
            wgmma_operand(tile_smem(n) + warpgroup * (SHAPE::OWN_PIECES * TILE::PIECE_BYTES), TILE::PIECE_BYTES));
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            ELEMENT::rs_tb(o, &p[step * 4], wgmma_at<GROUP_BYTES>(v, step * 16 * PIECE_ROW_BYTES), true);
        }
        wgmma_commit();
    }

    /** Waits for all products, and gives back the values of tile `n`. */
    __device__ __forceinline__ void end_output(float (&o)[O_REGS], uint32_t n) {
        wgmma_wait<0>();
        wgmma_touch(o);
        release_part(n, warpgroup);
    }

    /* ---- softmax ---- */

    static __device__ __forceinline__ void rescale(float (&o)[O_REGS], const float (&factor)[2]) {
        if (!__any_sync(~0u, factor[0] != 1.0f || factor[1] != 1.0f)) return;
#pragma unroll
        for (int i = 0; i < O_REGS; i++) o[i] *= factor[i / 2 % 2];
    }

    /** -inf for the keys that a row does not see. Rows that do not exist may keep any score. */
    __device__ __forceinline__ void mask(const mla_work &work, float (&s)[S_REGS], int32_t first_key) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            pod_key_range range = visible_keys(params, work.request, place(work, own_row() + half * 8).token);
            int32_t key = first_key + ptx_tid() % 4 * 2;
#pragma unroll
            for (int i = 0; i < S_REGS / 2; i++) {
                int32_t own_key = key + i / 2 * 8 + i % 2;
                if (own_key < range.begin || own_key >= range.end) s[i / 2 * 4 + half * 2 + i % 2] = -INFINITY;
            }
        }
    }

    /** Scores become probabilities; `factor` is what O is to be multiplied by before their product is added. */
    __device__ __forceinline__ void softmax(const mla_work &work, float (&s)[S_REGS], int32_t first_key,
                                            accumulators &acc, float (&factor)[2], uint32_t (&p)[P_REGS]) {
        float scale = params.score_scale;
        if (params.softcap_log2 > 0.0f) {
#pragma unroll
            for (int i = 0; i < S_REGS; i++) s[i] = softcap_score(params, s[i]);
        }
        if (first_key < work.unmasked.begin || first_key + KEYS > work.unmasked.end) mask(work, s, first_key);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float max[2] = {s[half * 2], s[half * 2 + 1]}; /* two chains hide half of the latency */
#pragma unroll
            for (int i = 4; i < S_REGS; i += 4) {
                max[0] = fmaxf(max[0], s[i + half * 2]);
                max[1] = fmaxf(max[1], s[i + half * 2 + 1]);
            }
            max[0] = fmaxf(max[0], max[1]);
            max[0] = fmaxf(max[0], __shfl_xor_sync(~0u, max[0], 1));
            max[0] = fmaxf(max[0], __shfl_xor_sync(~0u, max[0], 2));
            factor[half] = 1.0f;
            if (exponent(max[0], scale, acc.origin[half]) > POD_RESCALE_LOG2)
                factor[half] = raise_row(acc.origin[half], acc.sum[half], max[0] * scale);
            float sum[2] = {0.0f, 0.0f};
#pragma unroll
            for (int i = 0; i < S_REGS; i += 4) {
                float low = ptx_ex2(exponent(s[i + half * 2], scale, acc.origin[half]));
                float high = ptx_ex2(exponent(s[i + half * 2 + 1], scale, acc.origin[half]));
                sum[0] += low;
                sum[1] += high;
                p[i / 2 + half] = ELEMENT::pack(low, high);
            }
            acc.sum[half] += sum[0] + sum[1];
        }
    }

    /* ---- the other warpgroup ---- */

    /** Hands this thread's probabilities of a tile, and their origins, to the same thread of the other warpgroup. */
    __device__ __forceinline__ void hand_over(const accumulators &acc, const uint32_t (&p)[P_REGS]) {
#pragma unroll
        for (int i = 0; i < P_CHUNKS; i++) {
            smem.p[i][own_thread()] = uint4{p[i * 4], p[i * 4 + 1], p[i * 4 + 2], p[i * 4 + 3]};
        }
        smem.origin[own_thread()] = make_float2(acc.origin[0], acc.origin[1]);
        ptx_mbarrier_arrive(barrier_at(smem.p_full, warpgroup));
    }

    /** Takes those of the other warpgroup's next tile; output and sums follow its origins. */
    __device__ __forceinline__ void take(accumulators &acc, uint32_t (&p)[P_REGS], uint32_t &taken) {
        ptx_mbarrier_wait(barrier_at(smem.p_full, warpgroup ^ 1), taken++ % 2);
#pragma unroll
        for (int i = 0; i < P_CHUNKS; i++) {
            uint4 chunk = smem.p[i][own_thread()];
            p[i * 4] = chunk.x, p[i * 4 + 1] = chunk.y, p[i * 4 + 2] = chunk.z, p[i * 4 + 3] = chunk.w;
        }
        float2 origin = smem.origin[own_thread()];
        float factor[2] = {raise_row(acc.origin[0], acc.sum[0], origin.x),
                           raise_row(acc.origin[1], acc.sum[1], origin.y)};
        rescale(acc.o, factor);
    }

    /* ---- a piece of work ---- */

    /** Between a tile's scores and the product with its values: gives back what only scores need, and hands the
     * probabilities over. */
    __device__ __forceinline__ void make_probabilities(const mla_work &work, int32_t tile, uint32_t n,
                                                       float (&s)[S_REGS], accumulators &acc, float (&factor)[2],
                                                       uint32_t (&p)[P_REGS]) {
        wgmma_touch(s);
        release_part(n, PART_REST);
        if (tile + 2 >= work.num_tiles) warp_arrive(smem_address(&smem.q_empty));
        softmax(work, s, work.first_key + tile * KEYS, acc, factor, p);
        hand_over(acc, p);
    }

    /** The first tile of warpgroup 0, before which there is none. */
    __device__ __forceinline__ void first_tile(const mla_work &work, uint32_t n, accumulators &acc) {
        float s[S_REGS], factor[2];
        uint32_t p[P_REGS];
        start_scores(s, n);
        wgmma_wait<0>();
        make_probabilities(work, 0, n, s, acc, factor, p);
        start_output(acc.o, p, n);
        end_output(acc.o, n);
    }

    /** A tile of this warpgroup, `n`, and the product with the one before, which is the other's. */
    __device__ __forceinline__ void two_tiles(const mla_work &work, int32_t tile, uint32_t n, uint32_t &taken,
                                              accumulators &acc) {
        float s[S_REGS], factor[2];
        uint32_t p[P_REGS], others[P_REGS];
        start_scores(s, n);
        take(acc, others, taken);
        start_output(acc.o, others, n - 1);
        wgmma_wait<1>();
        make_probabilities(work, tile, n, s, acc, factor, p);
        end_output(acc.o, n - 1);
        rescale(acc.o, factor);
        start_output(acc.o, p, n);
        end_output(acc.o, n);
    }

    /** All tiles, from the `n`-th of all works on. `taken` counts the tiles that the other warpgroup handed over. */
    __device__ __forceinline__ void run(const mla_work &work, uint32_t number, uint32_t n, uint32_t &taken,
                                        accumulators &acc) {
#pragma unroll
        for (int i = 0; i < O_REGS; i++) acc.o[i] = 0.0f;
        acc.origin[0] = acc.origin[1] = NO_KEY_YET;
        acc.sum[0] = acc.sum[1] = 0.0f;
        if (warpgroup >= work.num_tiles) warp_arrive(smem_address(&smem.q_empty));
        ptx_mbarrier_wait(smem_address(&smem.q_full), number % 2);
        ptx_fence_async_smem();
        if (warpgroup == 0) first_tile(work, n, acc);
        int32_t tile = warpgroup == 0 ? 2 : 1;
#pragma unroll 1
        for (; tile < work.num_tiles; tile += 2) two_tiles(work, tile, n + tile, taken, acc);
        if (tile > work.num_tiles) return; /* the last tile was this warpgroup's */
        uint32_t others[P_REGS];
        take(acc, others, taken);
        start_output(acc.o, others, n + work.num_tiles - 1);
        end_output(acc.o, n + work.num_tiles - 1);
    }

    /** Both warpgroups' sums and the rows' maxima. */
    __device__ __forceinline__ void join_sums(uint32_t number, accumulators &acc) {
        float(&sums)[ROW_WARPGROUPS][TILE_ROWS] = smem.sums[number % WORK_SLOTS];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = acc.sum[half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            if (ptx_tid() % 4 == 0) sums[warpgroup][own_row() + half * 8] = sum;
            acc.origin[half] = partial_max(acc.origin[half]);
        }
        ptx_bar_sync(BARRIER_ROWS, ROW_THREADS);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            acc.sum[half] = sums[0][own_row() + half * 8] + sums[1][own_row() + half * 8];
        }
    }

    /** Writes whole rows. */
    __device__ __forceinline__ void write_out(const mla_work &work, const accumulators &acc) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = own_row() + half * 8;
            if (row >= work.num_rows) continue;
            row_place at = place(work, row);
            float factor =
                finish_row(params, work.request, work.kv_head, at, make_float2(acc.origin[half], acc.sum[half]),
                           warpgroup == 0 && ptx_tid() % 4 == 0);
            uint16_t *to = (uint16_t *)params.out + out_offset(params, work.request, work.kv_head, at) +
                           warpgroup * SHAPE::OWN_COLUMNS + ptx_tid() % 4 * 2;
#pragma unroll
            for (int i = 0; i < O_REGS / 4; i++) {
                *(uint32_t *)(to + i * 8) =
                    ELEMENT::pack(acc.o[i * 4 + half * 2] * factor, acc.o[i * 4 + half * 2 + 1] * factor);
            }
        }
    }

    /** Keeps a part of split rows. */
    __device__ __forceinline__ void write_partial(const mla_work &work, float *outs, float *sums, int32_t slot,
                                                  const accumulators &acc) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = own_row() + half * 8;
            if (row >= work.num_rows) continue;
            int64_t slot_row = (int64_t)slot * TILE_ROWS + row;
            if (warpgroup == 0 && ptx_tid() % 4 == 0)
                *(float2 *)(sums + slot_row * 2) = make_float2(acc.origin[half], acc.sum[half]);
            float *out = outs + slot_row * V_HEAD_DIM + warpgroup * SHAPE::OWN_COLUMNS + ptx_tid() % 4 * 2;
#pragma unroll
            for (int i = 0; i < O_REGS / 4; i++) {
                *(float2 *)(out + i * 8) = make_float2(acc.o[i * 4 + half * 2], acc.o[i * 4 + half * 2 + 1]);
            }
        }
    }

    /** Keeps a part; the CTA that finishes the rows' last part joins them. */
    __device__ __forceinline__ void finish_part(const mla_work &work, const accumulators &acc) {
        typedef finish_sm90mla<ELEMENT, V_HEAD_DIM> finish;
        const pod_schedule &schedule = params.schedule;
        if (work.is_decode) {
            const pod_decode_item &item = work.decode.item;
            write_partial(work, schedule.decode_partial_out, schedule.decode_partial_sum,
                          pod_core_decode_slot(&item, item.part), acc);
            finish{params, smem.is_last}.part(work.decode, work.num_rows, item.part,
                                              &schedule.slice_counters[item.first_slice]);
        } else {
            const pod_prefill_item &item = work.prefill.item;
            write_partial(work, schedule.prefill_partial_out, schedule.prefill_partial_sum,
                          item.first_slot + item.entry.part, acc);
            finish{params, smem.is_last}.part(work.prefill, work.num_rows, item.entry.part,
                                              &schedule.part_counters[item.first_slot]);
        }
    }

    /** A piece of work, from the `n`-th tile of its kind on. */
    __device__ __forceinline__ void compute(const mla_work &work, uint32_t number, uint32_t &n, uint32_t &taken) {
        accumulators acc;
        run(work, number, n, taken, acc);
        join_sums(number, acc);
        if (work.num_parts == 1)
            write_out(work, acc);
        else
            finish_part(work, acc);
        n += work.num_tiles;
    }
};

/** All work of a CTA, for one of its two warpgroups with rows. */
template <class ELEMENT, class SHAPE>
static __device__ __forceinline__ void compute_rows(const pod_kernel_params &params, smem_sm90mla<SHAPE> &smem,
                                                    int warpgroup) {
    typedef rows_sm90mla<ELEMENT, SHAPE, tile_sm90mla<SHAPE, SHAPE::DECODE_KEYS>> decode_rows;
    typedef rows_sm90mla<ELEMENT, SHAPE, tile_sm90mla<SHAPE, SHAPE::PREFILL_KEYS>> prefill_rows;
    uint32_t decode_n = 0, prefill_n = 0, taken = 0;
    for (uint32_t number = 0;; number++) {
        uint32_t slot = number % WORK_SLOTS;
        ptx_mbarrier_wait(barrier_at(smem.work_full, slot), number / WORK_SLOTS % 2);
        const mla_work &work = smem.work[slot];
        if (work.kv_head < 0) break;
        if (work.is_decode)
            decode_rows{params, smem, smem.decode_ring, warpgroup}.compute(work, number, decode_n, taken);
        else
            prefill_rows{params, smem, smem.prefill_ring, warpgroup}.compute(work, number, prefill_n, taken);
        ptx_mbarrier_arrive(barrier_at(smem.work_empty, slot));
    }
}

#endif
