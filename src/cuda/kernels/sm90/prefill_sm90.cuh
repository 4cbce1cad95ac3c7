/* SPDX-License-Identifier: Apache-2.0 */
/* Prefill on sm_90a: a warpgroup owns 64 rows of the CTA's 128-row tile and walks over KV tiles of 128 keys.
 *
 *     tensor cores   S(0) |         S(1)  O += P V(0) |         S(2)  O += P V(1) | …
 *     the threads         | softmax |         softmax |         |         softmax | …
 *
 * While O += P V of a tile runs, the threads turn the next tile's scores into probabilities, which stay in registers.
 * They are relative to an origin that rises only where it has to: a row's maximum at its first tile, then whatever it
 * was when a probability last came out too large (POD_RESCALE_LOG2). So most tiles look for no maximum: their sums say
 * whether the origin still serves, and where it does not, probabilities are scaled. Those that overflowed are lost:
 * then the warp computes its scores once more. */
#ifndef POD_SM90_PREFILL_CUH
#define POD_SM90_PREFILL_CUH

#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/parts.cuh"
#include "cuda/kernels/sm90/element_sm90.cuh"
#include "cuda/kernels/sm90/pipeline_sm90.cuh"
#include "cuda/kernels/softmax_row.cuh"

template <class ELEMENT, class SHAPE> struct prefill_sm90 {
    typedef smem_sm90<SHAPE> smem_type;
    static constexpr int HEAD_DIM = SHAPE::HEAD_DIM, V_HEAD_DIM = SHAPE::V_HEAD_DIM;
    static constexpr int ROWS = PREFILL_WARPGROUP_ROWS, TOKENS = SHAPE::PREFILL_TOKENS;
    static constexpr int S_REGS = TOKENS / 2, O_REGS = V_HEAD_DIM / 2, P_REGS = S_REGS / 2;
    static constexpr uint32_t K_GROUP_BYTES = SHAPE::k_rows::GROUP_BYTES, V_GROUP_BYTES = SHAPE::v_rows::GROUP_BYTES;
    static constexpr uint32_t Q_HALF_BYTES = SHAPE::Q_HALF_BYTES;

    /** A thread's two rows: lane / 4 of its warp's sixteen, and eight further down. */
    struct row_state {
        float origin[2];
        float sum[2]; /* of this thread's columns only, until the end */
    };

    /* A thread's part of a row's tile may come to this before the origin rises. */
    static constexpr float MAX_SUM = S_REGS / 2 * (1 << (int)POD_RESCALE_LOG2);

    /** What a warpgroup holds of its rows. */
    struct accumulators {
        float s[S_REGS];
        uint32_t p[P_REGS];
        float o[O_REGS];
        row_state rows;
    };

    const pod_kernel_params &params;
    smem_type &smem;
    int warpgroup; /* 0 or 1 */
    bool is_lent;  /* as in shared memory, but kept in a uniform register */

    /** The thread within its warpgroup, and its first row within the CTA's tile. */
    static __device__ __forceinline__ int own_thread() {
        return ptx_tid() % WARPGROUP_THREADS;
    }
    __device__ __forceinline__ int own_row() {
        return warpgroup * ROWS + own_thread() / 32 * 16 + ptx_tid() % 32 / 4;
    }
    __device__ __forceinline__ void sync_warpgroup() {
        ptx_bar_sync(BARRIER_PREFILL_0 + warpgroup, WARPGROUP_THREADS);
    }

    __device__ __forceinline__ uint32_t q_smem() {
        return smem_address(smem.q) + warpgroup * (SHAPE::HALVES * Q_HALF_BYTES);
    }

    /* K(n) and V(n) in the ring. */
    static constexpr uint32_t PAIRS = SHAPE::PREFILL_PAIRS;
    /** As wgmma's operand. To be asked before the wait for the tile: an answer takes a while. */
    __device__ __forceinline__ uint32_t keys(uint32_t n) {
        uint32_t k_smem = smem_address(smem.kv) + n % PAIRS * SHAPE::PREFILL_PAIR_BYTES;
        return warp_uniform(wgmma_operand(k_smem, CHUNK_BYTES));
    }
    __device__ __forceinline__ uint32_t values(uint32_t n) {
        return warp_uniform(wgmma_operand(values_smem(smem, is_lent, n), SWIZZLE_BYTES));
    }
    __device__ __forceinline__ void wait_k(uint32_t n) {
        ptx_mbarrier_wait(barrier_at(smem.kv_full, n % PAIRS * 2), n / PAIRS % 2);
    }
    __device__ __forceinline__ void wait_v(uint32_t n) {
        ptx_mbarrier_wait(barrier_at(smem.kv_full, n % PAIRS * 2 + 1), n / PAIRS % 2);
    }
    /** Behind wgmma_wait() or __syncwarp(), where the warp is one. */
    __device__ __forceinline__ void release_k(uint32_t n) {
        if (ptx_tid() % 32 == 0) cluster_arrive(barrier_at(smem.kv_empty, n % PAIRS * 2));
    }
    __device__ __forceinline__ void release_v(uint32_t n) {
        if (ptx_tid() % 32 == 0) cluster_arrive(barrier_at(smem.kv_empty, n % PAIRS * 2 + 1));
    }

    /** Where a row of the CTA's tile is. */
    __device__ __forceinline__ row_place place(const prefill_work &work, int tile_row) {
        row_place from_token = place_small_row(params, work.first_row.head + tile_row);
        return {work.first_row.token + from_token.token, from_token.head};
    }

    /** Starts S = Q K'. */
    __device__ __forceinline__ void start_scores(float (&s)[S_REGS], uint32_t k) {
        uint32_t q = wgmma_operand(q_smem(), CHUNK_BYTES);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < HEAD_DIM / 16; step++) {
            uint32_t column_bytes = step % 4 * 32;
            ELEMENT::ss(s, wgmma_at<SWIZZLE_BYTES>(q, step / 4 * Q_HALF_BYTES + column_bytes),
                        wgmma_at<K_GROUP_BYTES>(k, step / 4 * SWIZZLE_BYTES + column_bytes), step > 0);
        }
        wgmma_commit();
    }

    /** Starts O += P V. */
    __device__ __forceinline__ void start_output(float (&o)[O_REGS], const uint32_t (&p)[P_REGS], uint32_t v) {
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < TOKENS / 16; step++) {
            ELEMENT::rs_tb(o, &p[step * 4], wgmma_at<V_GROUP_BYTES>(v, step * 16 * SHAPE::v_rows::ROW_BYTES), true);
        }
        wgmma_commit();
    }

    /** How many of this thread's 32 columns of a row are before `column` of the tile: it has two of every eight. */
    static __device__ __forceinline__ int columns_before(int32_t column) {
        int32_t own = min(max(column - (int32_t)(ptx_tid() % 4 * 2), 0), TOKENS);
        return own / 8 * 2 + min(own % 8, 2);
    }

    /** -inf for the keys that a row does not see. Rows that do not exist may keep any score. */
    __device__ __forceinline__ void mask(const prefill_work &work, float (&s)[S_REGS], int32_t first_key) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            pod_key_range range = visible_keys(params, work.request, place(work, own_row() + half * 8).token);
            uint64_t before_end = (1ull << columns_before(range.end - first_key)) - 1;
            uint64_t before_begin = (1ull << columns_before(range.begin - first_key)) - 1;
            uint32_t visible = (uint32_t)(before_end & ~before_begin);
#pragma unroll
            for (int i = 0; i < S_REGS / 2; i++) {
                if ((visible >> i & 1) == 0) s[i / 2 * 4 + half * 2 + i % 2] = -INFINITY;
            }
        }
    }

    /** The largest of each row's first END scores that this thread holds. */
    template <int END> static __device__ __forceinline__ void find_max(const float (&s)[S_REGS], float (&max)[2]) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float m[2] = {s[half * 2], s[half * 2 + 1]}; /* two chains hide half of the latency */
#pragma unroll
            for (int i = 4; i < END; i += 4) {
                m[0] = fmaxf(m[0], s[i + half * 2]);
                m[1] = fmaxf(m[1], s[i + half * 2 + 1]);
            }
            max[half] = fmaxf(m[0], m[1]);
        }
    }

    /** The largest of all of a row's threads. */
    static __device__ __forceinline__ void share_max(float (&max)[2]) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            max[half] = fmaxf(max[half], __shfl_xor_sync(~0u, max[half], 1));
            max[half] = fmaxf(max[half], __shfl_xor_sync(~0u, max[half], 2));
        }
    }

    /** Raises the origins of the warp's rows to their maxima; `factor` is what O is to be multiplied by. */
    static __device__ __forceinline__ void raise(const float (&max)[2], row_state &rows, float (&factor)[2],
                                                 float scale) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            factor[half] = raise_row(rows.origin[half], rows.sum[half], max[half] * scale);
        }
    }

    /** Scores [BEGIN, END) become probabilities; `sums` are those of this thread's columns. */
    template <int BEGIN, int END>
    __device__ __forceinline__ void exponentials(float (&s)[S_REGS], const float (&origin)[2], float scale,
                                                 float (&sums)[2]) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum[2] = {0.0f, 0.0f};
#pragma unroll
            for (int i = BEGIN; i < END; i += 4) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    float &p = s[i + half * 2 + j];
                    p = ptx_ex2(fmaf(p, scale, -origin[half]));
                    sum[j] += p;
                }
            }
            sums[half] = sum[0] + sum[1];
        }
    }

    /** exponentials() of all scores where an origin is far. Rare, and all that comes behind jumps over it, so
     * the code is short: four scores in a round, which enter at the end and move up. */
    __device__ __forceinline__ void exact_exponentials(float (&s)[S_REGS], const float (&origin)[2], float scale,
                                                       float (&sums)[2]) {
        sums[0] = sums[1] = 0.0f;
#pragma unroll 1
        for (int round = 0; round < S_REGS / 4; round++) {
            float p[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[i] = ptx_ex2(exponent(s[i], scale, origin[i / 2]));
                sums[i / 2] += p[i];
            }
#pragma unroll
            for (int i = 0; i < S_REGS - 4; i++) s[i] = s[i + 4];
#pragma unroll
            for (int i = 0; i < 4; i++) s[S_REGS - 4 + i] = p[i];
        }
    }

    /** Waits for O += P V of the tile before, place `n` of the ring, and gives V back, if there was one. */
    __device__ __forceinline__ void end_output(uint32_t n, bool has_begun, accumulators &acc) {
        wgmma_wait<0>();
        wgmma_touch(acc.o);
        if (has_begun) release_v(n);
    }

    /** Whether no probability of the warp is too large; of a row that has seen no key yet, all are. */
    static __device__ __forceinline__ bool fit(const float (&sums)[2]) {
        return !__any_sync(~0u, !(sums[0] <= MAX_SUM && sums[1] <= MAX_SUM));
    }

    /** The same, and whether no origin of the warp is far: that of a row without a key may count as far here. */
    static __device__ __forceinline__ bool fit(const float (&sums)[2], const float (&origin)[2]) {
        bool is_near = fmaxf(fabsf(origin[0]), fabsf(origin[1])) < FAR_ORIGIN;
        return !__any_sync(~0u, !(sums[0] <= MAX_SUM && sums[1] <= MAX_SUM && is_near));
    }

    /** Raises origins to the largest of the first END probabilities, rounded down to powers of two, so that everything
     * relative to them follows exactly. `sums` and `max` are of the END that this thread holds. False, and nothing
     * done, if one overflowed or an origin is far. */
    template <int END>
    __device__ __forceinline__ bool raise_to_fit(accumulators &acc, float (&sums)[2], float (&max)[2]) {
        constexpr int32_t MANTISSA_BITS = 23, MANTISSA = (1 << MANTISSA_BITS) - 1, BIAS = 127;
        share_max(max);
        bool is_lost =
            !(max[0] < 0x1p126f && max[1] < 0x1p126f) || is_far(acc.rows.origin[0]) || is_far(acc.rows.origin[1]);
        if (__any_sync(~0u, is_lost)) return false;
        float factor[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int32_t power = __float_as_int(fmaxf(max[half], 1.0f)) & ~MANTISSA;
            acc.rows.origin[half] += (float)((power >> MANTISSA_BITS) - BIAS);
            factor[half] = __int_as_float((2 * BIAS << MANTISSA_BITS) - power); /* 1 / power */
            acc.rows.sum[half] *= factor[half];
            sums[half] *= factor[half];
        }
#pragma unroll
        for (int i = 0; i < END; i++) acc.s[i] *= factor[i / 2 % 2];
        rescale(acc.o, factor);
        return true;
    }

    /** Scores of a tile that no row masks become probabilities, without a look at their maxima unless a sum
     * says so; in the middle it ends the products that run beside it, so that V goes back soon. False if the scores
     * are lost. */
    __device__ __forceinline__ bool quick_softmax(uint32_t n, accumulators &acc) {
        constexpr int HALF = S_REGS / 2;
        float sums[2], more[2];
        exponentials<0, HALF>(acc.s, acc.rows.origin, params.score_scale, sums);
        float max[2];
        bool first_fit = fit(sums, acc.rows.origin);
        if (!first_fit) find_max<HALF>(acc.s, max);
        end_output(n - 1, true, acc); /* NOTE: nvcc 13.0 moves the wait up as far as the branch before it */
        if (!first_fit && !raise_to_fit<HALF>(acc, sums, max)) return false;
        exponentials<HALF, S_REGS>(acc.s, acc.rows.origin, params.score_scale, more);
        sums[0] += more[0];
        sums[1] += more[1];
        if (!fit(sums)) {
            find_max<S_REGS>(acc.s, max);
            if (!raise_to_fit<S_REGS>(acc, sums, max)) return false;
        }
        acc.rows.sum[0] += sums[0];
        acc.rows.sum[1] += sums[1];
        return true;
    }

    /** Scores of any tile become probabilities: softcap, masks, and origins that rise where they have to. On its way it
     * ends the products that run beside it; `has_begun` says whether those of the tile before do. */
    __device__ __forceinline__ void careful_softmax(const prefill_work &work, int32_t tile, bool is_unmasked,
                                                    uint32_t n, bool has_begun, accumulators &acc) {
        row_state &rows = acc.rows;
        float max[2], sums[2], scale = params.score_scale;
        if (params.softcap_log2 > 0.0f) {
            end_output(n - 1, has_begun, acc); /* that needs the registers of P */
            has_begun = false;
            softcap(acc.s);
        }
        if (!is_unmasked) mask(work, acc.s, work.first_key + tile * TOKENS);
        find_max<S_REGS>(acc.s, max);
        bool rises[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            rises[half] = fmaf(max[half], scale, -rows.origin[half]) > POD_RESCALE_LOG2 || is_far(rows.origin[half]);
        }
        bool any_rises = __any_sync(~0u, rises[0] || rises[1]);
        if (any_rises) share_max(max);
        end_output(n - 1, has_begun, acc);
        if (any_rises) {
            float factor[2];
            raise(max, rows, factor, scale);
            if (tile > 0) rescale(acc.o, factor);
        }
        if (!(any_rises && __any_sync(~0u, is_far(rows.origin[0]) || is_far(rows.origin[1]))))
            exponentials<0, S_REGS>(acc.s, rows.origin, scale, sums);
        else
            exact_exponentials(acc.s, rows.origin, scale, sums);
        rows.sum[0] += sums[0];
        rows.sum[1] += sums[1];
    }

    /** S = Q K' of the warp's own 16 rows once more, by mma.sync, whose results have the layout of wgmma's: the other
     * warps go on. The K tile has been given back, so keys come from the cache; all of the tile's are there. Rare, so
     * few registers count more than time: eight keys in a round, which enter at the end and move up. */
    __device__ __forceinline__ void repeat_scores(const prefill_work &work, float (&s)[S_REGS], int32_t first_key) {
#pragma unroll 1
        for (int i = 0; i < S_REGS / 4; i++) {
            int lane = ptx_tid() % 32;
            int32_t key = first_key + i * 8 + lane / 4;
            pod_cache_strides strides = k_strides(params);
            pod_key_slot at = key_slot(params, key);
            int32_t page = load_page(params, work.item.entry.request, at.page_idx);
            int64_t offset = pod_core_cache_offset(&strides, page, at.slot, work.item.kv_head);
            const uint32_t *words = (const uint32_t *)((const uint16_t *)params.k + offset) + lane % 4;
            uint32_t q_rows = q_smem() + q_chunk<SHAPE>(own_thread() / 32 * 16 + lane % 16, lane / 16);
            float scores[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 1
            for (int step = 0; step < HEAD_DIM / 16; step++) {
                uint32_t q[4];
                ptx_ldmatrix_x4(q, step_chunk(q_rows, step, Q_HALF_BYTES));
                ELEMENT::mma(scores, q, __ldg(words + step * 8), __ldg(words + step * 8 + 4));
            }
#pragma unroll
            for (int j = 0; j < S_REGS - 4; j++) s[j] = s[j + 4];
#pragma unroll
            for (int j = 0; j < 4; j++) s[S_REGS - 4 + j] = scores[j];
        }
    }

    __device__ __forceinline__ void pack(uint32_t (&p)[P_REGS], const float (&s)[S_REGS]) {
#pragma unroll
        for (int i = 0; i < P_REGS; i++) p[i] = ELEMENT::pack(s[2 * i], s[2 * i + 1]);
    }

    __device__ __forceinline__ void rescale(float (&o)[O_REGS], const float (&factor)[2]) {
#pragma unroll
        for (int i = 0; i < O_REGS; i++) o[i] *= factor[i / 2 % 2];
    }

    __device__ __forceinline__ void softcap(float (&s)[S_REGS]) {
#pragma unroll
        for (int i = 0; i < S_REGS; i++) s[i] = softcap_score(params, s[i]);
    }

    /** Scores of a tile become probabilities, while O += P V of the tile before runs. `n` is the tile's place in the
     * ring. */
    __device__ __forceinline__ void softmax(const prefill_work &work, int32_t tile, uint32_t n, accumulators &acc) {
        tile_range unmasked = work.unmasked[warpgroup];
        bool is_unmasked = tile >= unmasked.begin && tile < unmasked.end;
        bool is_plain = is_unmasked && tile > 0 && !(params.softcap_log2 > 0.0f);
        if (!is_plain || !quick_softmax(n, acc)) {
            if (is_plain) repeat_scores(work, acc.s, work.first_key + tile * TOKENS);
            careful_softmax(work, tile, is_unmasked, n, tile > 0 && !is_plain, acc);
        }
    }

    /** Starts the next tile's scores, then O += P V of this one, whose P it packs; waits for the former. */
    __device__ __forceinline__ void advance(uint32_t n, accumulators &acc) {
        uint32_t k = keys(n + 1), v = values(n);
        pack(acc.p, acc.s);
        wait_k(n + 1);
        start_scores(acc.s, k);
        wait_v(n);
        start_output(acc.o, acc.p, v);
        wgmma_wait<1>();
        wgmma_touch(acc.s);
        release_k(n + 1);
    }

    /** All tiles of the work. */
    __device__ __forceinline__ void run(const prefill_work &work, accumulators &acc) {
        row_state &rows = acc.rows;
        uint32_t n = work.load.first_tile;
#pragma unroll
        for (int i = 0; i < O_REGS; i++) acc.o[i] = 0.0f;
        rows.origin[0] = rows.origin[1] = NO_KEY_YET;
        rows.sum[0] = rows.sum[1] = 0.0f;

        ptx_mbarrier_wait(barrier_at(smem.q_full, warpgroup), work.number % 2);
        uint32_t k = keys(n);
        wait_k(n);
        start_scores(acc.s, k);
        wgmma_wait<0>();
        wgmma_touch(acc.s);
        release_k(n);
        for (int32_t tile = 0;; tile++, n++) {
            softmax(work, tile, n, acc);
            if (tile == work.item.entry.num_tiles - 1) break;
            advance(n, acc);
        }
        if (work.item.entry.num_parts > 1)
            threads_arrive(barrier_at(smem.q_empty, warpgroup)); /* otherwise rows go through it */
        uint32_t v = values(n);
        pack(acc.p, acc.s);
        wait_v(n);
        ptx_mbarrier_wait(barrier_at(smem.values_clean, work.number % WORK_SLOTS), work.number / WORK_SLOTS % 2);
        start_output(acc.o, acc.p, v);
        wgmma_wait<0>();
        wgmma_touch(acc.o);
        release_v(n);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = rows.sum[half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            rows.sum[half] = sum + __shfl_xor_sync(~0u, sum, 2);
            rows.origin[half] = partial_max(rows.origin[half]);
        }
    }

    /** A warpgroup without rows lets the tiles pass. */
    __device__ void skip(const prefill_work &work) {
        uint32_t n = work.load.first_tile;
        ptx_mbarrier_wait(barrier_at(smem.q_full, warpgroup), work.number % 2);
        threads_arrive(barrier_at(smem.q_empty, warpgroup));
        for (int32_t tile = 0; tile < work.item.entry.num_tiles; tile++, n++) {
            wait_k(n);
            __syncwarp();
            release_k(n);
            wait_v(n);
            __syncwarp();
            release_v(n);
        }
        /* Where decodes come here, a CTA may have none but such works, and then nobody else waits for this. */
        if constexpr (!SHAPE::DECODES)
            ptx_mbarrier_wait(barrier_at(smem.values_clean, work.number % WORK_SLOTS), work.number / WORK_SLOTS % 2);
    }

    /** Puts a warp's rows, multiplied by `factor`, where their queries stood. */
    __device__ __forceinline__ void stage(const float (&o)[O_REGS], const float (&factor)[2]) {
        int lane = ptx_tid() % 32;
        uint32_t rows_smem = q_smem() + q_chunk<SHAPE>(own_thread() / 32 * 16 + lane % 16, lane / 16);
#pragma unroll
        for (int step = 0; step < V_HEAD_DIM / 16; step++) {
            uint32_t words[4];
#pragma unroll
            for (int i = 0; i < 4; i++) { /* eight rows, then the eight below; the same of the next eight columns */
                const float *from = &o[step * 8 + i / 2 * 4 + i % 2 * 2];
                words[i] = ELEMENT::pack(from[0] * factor[i % 2], from[1] * factor[i % 2]);
            }
            ptx_stmatrix_x4(step_chunk(rows_smem, step, Q_HALF_BYTES), words);
        }
        __syncwarp();
    }

    /** Normalises and writes whole rows, each warp its own, by way of the query tile: so lanes write neighbours. */
    __device__ __forceinline__ void write_out(const prefill_work &work, const float (&o)[O_REGS],
                                              const row_state &rows) {
        constexpr int ROW_CHUNKS = SHAPE::v_rows::CHUNKS, WARP_ROWS = 16, ROWS_AT_ONCE = 32 / ROW_CHUNKS;
        constexpr int ROUNDS = WARP_ROWS / ROWS_AT_ONCE;
        float factor[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int tile_row = own_row() + half * 8;
            factor[half] = finish_row(params, work.request, work.item.kv_head, place(work, tile_row),
                                      make_float2(rows.origin[half], rows.sum[half]),
                                      tile_row < work.num_rows && ptx_tid() % 4 == 0);
        }
        sync_warpgroup(); /* queries are no longer read */
        stage(o, factor);
        int lane = ptx_tid() % 32, chunk = lane % ROW_CHUNKS;
        int first_row = own_thread() / 32 * WARP_ROWS + lane / ROW_CHUNKS;
        uint4 words[ROUNDS];
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            words[i] = ptx_ld_smem_16(q_smem() + q_chunk<SHAPE>(first_row + i * ROWS_AT_ONCE, chunk));
        }
        ptx_fence_async_smem(); /* the next queries come after what was written there */
        threads_arrive(barrier_at(smem.q_empty, warpgroup));
        int32_t rows_left = work.num_rows - warpgroup * ROWS - first_row;
        row_place at = place(work, warpgroup * ROWS + first_row);
        uint16_t *to =
            (uint16_t *)params.out + out_offset(params, work.request, work.item.kv_head, at) + chunk * CHUNK_ELEMENTS;
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            if (i * ROWS_AT_ONCE < rows_left) *(uint4 *)to = words[i];
            to += ROWS_AT_ONCE * params.out_head_stride;
            for (at.head += ROWS_AT_ONCE; at.head >= params.shape.group; at.head -= params.shape.group) {
                to += params.out_token_stride - params.shape.group * params.out_head_stride; /* the next token's */
            }
        }
    }

    /** Keeps a part of split rows. */
    __device__ __forceinline__ void write_partial(const prefill_work &work, const float (&o)[O_REGS],
                                                  const row_state &rows, int32_t slot) {
        int64_t first_row = (int64_t)slot * SHAPE::PREFILL_ROWS + work.row_begin - work.item.entry.row_begin;
        float *sums = params.schedule.prefill_partial_sum + first_row * 2;
        float *outs = params.schedule.prefill_partial_out + first_row * V_HEAD_DIM;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int tile_row = own_row() + half * 8;
            if (tile_row >= work.num_rows) continue;
            if (ptx_tid() % 4 == 0) *(float2 *)(sums + tile_row * 2) = make_float2(rows.origin[half], rows.sum[half]);
            float *out = outs + tile_row * V_HEAD_DIM + ptx_tid() % 4 * 2;
#pragma unroll
            for (int i = 0; i < O_REGS / 4; i++) {
                *(float2 *)(out + i * 8) = make_float2(o[i * 4 + half * 2], o[i * 4 + half * 2 + 1]);
            }
        }
    }

    /** Joins the parts of the warpgroup's rows and writes them. Those of decodes are few rows of many parts. */
    __device__ void merge(const prefill_work &work) {
        typedef merge_shape<V_HEAD_DIM, WARPGROUP_THREADS, 4, SHAPE::DECODES ? 2 : 4> shape;
        typedef merge_shape<V_HEAD_DIM, WARPGROUP_THREADS, 1, 8> few_rows;
        int cta_row = work.row_begin - work.item.entry.row_begin; /* rows count from the tile's first one */
        int begin = cta_row + warpgroup * ROWS, end = cta_row + min(work.num_rows, (warpgroup + 1) * ROWS);
        if (!SHAPE::DECODES && end - begin <= 16)
            merge_parts<ELEMENT, few_rows>(params, work, SHAPE::PREFILL_ROWS, begin, end, own_thread());
        else
            merge_parts<ELEMENT, shape>(params, work, SHAPE::PREFILL_ROWS, begin, end, own_thread());
    }

    /** Keeps a part; the warpgroup that finishes its rows' last part merges them. A tile has at least two slots: the
     * first two slots' counters are those of its first and its last 128 rows, 16 bits for each warpgroup. */
    __device__ void finish_part(const prefill_work &work, const float (&o)[O_REGS], const row_state &rows) {
        write_partial(work, o, rows, work.item.first_slot + work.item.entry.part);
        int cta = work.row_begin > work.item.entry.row_begin;
        part_counter counter = {&params.schedule.part_counters[work.item.first_slot + cta], 16u * warpgroup, 0xffff};
        part_warps threads = {BARRIER_PREFILL_0 + warpgroup, &smem.is_last[warpgroup]};
        if (!count_part(threads, counter, work.item.entry.num_parts)) return;
        merge(work);
    }

    __device__ void consume() {
        /* Nothing but the work's number lives through it, and that is in the work: registers are for the tiles. */
        for (uint32_t i = 0;;) {
            ptx_mbarrier_wait(barrier_at(smem.prefill_full, i % WORK_SLOTS), i / WORK_SLOTS % 2);
            const prefill_work &work = smem.prefill[i % WORK_SLOTS];
            if (work.item.kv_head < 0) break;
            if (warpgroup * ROWS >= work.num_rows) {
                skip(work);
            } else {
                accumulators acc;
                run(work, acc);
                if (work.item.entry.num_parts == 1)
                    write_out(work, acc.o, acc.rows);
                else
                    finish_part(work, acc.o, acc.rows);
            }
            i = work.number + 1;
            threads_arrive(barrier_at(smem.prefill_empty, work.number % WORK_SLOTS));
        }
    }
};

#endif
