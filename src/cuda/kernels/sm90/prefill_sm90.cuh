/* SPDX-License-Identifier: Apache-2.0 */
/* Prefill on sm_90a: a warpgroup owns 64 rows of the CTA's 128-row tile and walks over KV tiles of 128 keys.
 *
 *     tensor cores   S(0) |         S(1)  O += P V(0) |         S(2)  O += P V(1) | …
 *     the threads         | softmax |         softmax |         |         softmax | …
 *
 * While O += P V of a tile runs, the threads turn the next tile's scores into probabilities, which stay in registers.
 * O is rescaled only when a row's maximum has risen by more than RESCALE_LOG2 (in log2 units). */
#ifndef POD_SM90_PREFILL_CUH
#define POD_SM90_PREFILL_CUH

#include "../merge_parts.cuh"
#include "element_sm90.cuh"
#include "shape_sm90.cuh"

/** Probabilities reach up to 2^8 before a maximum is raised: far from what f16 can hold (2^16). */
#define RESCALE_LOG2 8.0f

template <class ELEMENT, class SHAPE> struct prefill_sm90 {
    typedef smem_sm90<SHAPE> smem_type;
    static constexpr int HEAD_DIM = SHAPE::HEAD_DIM, ROWS = 64, TOKENS = SHAPE::PREFILL_TOKENS;
    static constexpr int SLOTS = SHAPE::PREFILL_SLOTS;
    static constexpr int S_REGS = TOKENS / 2, O_REGS = HEAD_DIM / 2, P_REGS = S_REGS / 2;
    static constexpr uint32_t HALF_BYTES = SHAPE::PREFILL_HALF_BYTES;
    static constexpr uint32_t Q_HALF_BYTES = SHAPE::PREFILL_ROWS * HALF_ROW_BYTES;

    /** A thread's two rows: lane / 4 of its warp's sixteen, and eight further down. */
    struct row_state {
        float max[2];    /* that the probabilities are relative to, in score units; -inf: no key was seen */
        float origin[2]; /* the same in log2 units; 0 where no key was seen */
        float sum[2];    /* of this thread's columns only, until the end */
    };

    /** The thread within its warpgroup, and its first row within the CTA's tile. */
    static __device__ __forceinline__ int warpgroup() {
        return ptx_tid() / WARPGROUP_THREADS - 1;
    }
    static __device__ __forceinline__ int own_thread() {
        return ptx_tid() % WARPGROUP_THREADS;
    }
    static __device__ __forceinline__ int own_row() {
        return warpgroup() * ROWS + own_thread() / 32 * 16 + ptx_tid() % 32 / 4;
    }
    static __device__ __forceinline__ void sync_warpgroup() {
        ptx_bar_sync(BARRIER_PREFILL_0 + warpgroup(), WARPGROUP_THREADS);
    }

    /* Tile n of the ring's endless sequence K(0) V(0) K(1) V(1) … */
    static __device__ __forceinline__ uint32_t tile_smem(const smem_type &smem, uint32_t n) {
        return ptx_smem(smem.kv) + n % SLOTS * SHAPE::PREFILL_SLOT_BYTES;
    }
    static __device__ __forceinline__ void wait_tile(const smem_type &smem, uint32_t n) {
        ptx_mbarrier_wait(barrier_at(smem.kv_full, n % SLOTS), n / SLOTS & 1);
    }
    static __device__ __forceinline__ void release_tile(const smem_type &smem, uint32_t n) {
        warp_arrive(barrier_at(smem.kv_empty, n % SLOTS));
    }

    /** Starts S = Q K'. */
    static __device__ __forceinline__ void start_scores(float (&s)[S_REGS], uint32_t q_smem, uint32_t k_smem) {
        uint64_t q = wgmma_operand(q_smem, CHUNK_BYTES, SWIZZLE_BYTES);
        uint64_t k = wgmma_operand(k_smem, CHUNK_BYTES, SWIZZLE_BYTES);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < HEAD_DIM / 16; step++) {
            uint32_t column_bytes = step % 4 * 32;
            ELEMENT::ss(s, wgmma_advance(q, step / 4 * Q_HALF_BYTES + column_bytes),
                        wgmma_advance(k, step / 4 * HALF_BYTES + column_bytes), step > 0);
        }
        wgmma_commit();
    }

    /** Starts O += P V. */
    static __device__ __forceinline__ void start_output(float (&o)[O_REGS], const uint32_t (&p)[P_REGS],
                                                        uint32_t v_smem) {
        uint64_t v = wgmma_operand(v_smem, HALF_BYTES, SWIZZLE_BYTES);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < TOKENS / 16; step++) {
            ELEMENT::rs_tb(o, &p[step * 4], wgmma_advance(v, step * 16 * HALF_ROW_BYTES), true);
        }
        wgmma_commit();
    }

    /** -inf for the keys that a row does not see. Rows that do not exist may keep any score. */
    static __device__ __forceinline__ void mask(const pod_kernel_params &params, const prefill_work &work,
                                                float (&s)[S_REGS], int32_t first_key) {
        int32_t first_column = first_key + ptx_tid() % 4 * 2;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int32_t token = (work.entry.row_begin + own_row() + half * 8) / params.shape.group;
            key_range range = visible_keys(params, work.request, token);
            int32_t begin = range.begin - first_column, end = range.end - first_column;
#pragma unroll
            for (int i = 0; i < S_REGS / 2; i++) {
                int column = i / 2 * 8 + i % 2;
                float &score = s[i / 2 * 4 + half * 2 + i % 2];
                if (column < begin || column >= end) score = -INFINITY;
            }
        }
    }

    /** Raises the rows' maxima where they must; says whether any of the warp's did, and what O is multiplied by. */
    static __device__ __forceinline__ bool raise_max(const float (&s)[S_REGS], row_state &rows, float (&factor)[2],
                                                     float scale, float slack) {
        float max[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float m[2] = {s[half * 2], s[half * 2 + 1]}; /* two chains hide half of the latency */
#pragma unroll
            for (int i = 4; i < S_REGS; i += 4) {
                m[0] = fmaxf(m[0], s[i + half * 2]);
                m[1] = fmaxf(m[1], s[i + half * 2 + 1]);
            }
            max[half] = fmaxf(m[0], m[1]);
            max[half] = fmaxf(max[half], __shfl_xor_sync(~0u, max[half], 1));
            max[half] = fmaxf(max[half], __shfl_xor_sync(~0u, max[half], 2));
        }
        bool rises = max[0] > rows.max[0] + slack || max[1] > rows.max[1] + slack;
        if (!__any_sync(~0u, rises)) return false;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float raised = fmaxf(rows.max[half], max[half]);
            factor[half] = rows.max[half] == -INFINITY ? 0.0f : ptx_ex2((rows.max[half] - raised) * scale);
            rows.sum[half] *= factor[half];
            rows.max[half] = raised;
            rows.origin[half] = raised == -INFINITY ? 0.0f : raised * scale;
        }
        return true;
    }

    /** Scores become probabilities. */
    static __device__ __forceinline__ void exponentials(float (&s)[S_REGS], row_state &rows, float scale) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum[2] = {0.0f, 0.0f};
#pragma unroll
            for (int i = 0; i < S_REGS; i += 4) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    float &p = s[i + half * 2 + j];
                    p = ptx_ex2(fmaf(p, scale, -rows.origin[half]));
                    sum[j] += p;
                }
            }
            rows.sum[half] += sum[0] + sum[1];
        }
    }

    static __device__ __forceinline__ void pack(uint32_t (&p)[P_REGS], const float (&s)[S_REGS]) {
#pragma unroll
        for (int i = 0; i < P_REGS; i++) p[i] = ELEMENT::pack(s[2 * i], s[2 * i + 1]);
    }

    static __device__ __forceinline__ void rescale(float (&o)[O_REGS], const float (&factor)[2]) {
#pragma unroll
        for (int i = 0; i < O_REGS; i++) o[i] *= factor[i / 2 % 2];
    }

    /** The last tile's values behind the request's end are whatever the cache holds there, also NaN: they become zeros.
     * Both warpgroups take part. */
    static __device__ void clear_values(uint32_t v_smem, int32_t num_keys) {
        int t = ptx_tid() - WARPGROUP_THREADS;
        constexpr int THREADS = PREFILL_WARPGROUPS * WARPGROUP_THREADS, ROW_CHUNKS = HEAD_DIM / CHUNK_ELEMENTS;
        for (int row = num_keys + t / ROW_CHUNKS; row < TOKENS; row += THREADS / ROW_CHUNKS) {
            uint32_t to = v_smem + tile_chunk(row, t % ROW_CHUNKS, HALF_BYTES);
            asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
        }
        ptx_fence_async_smem();
        ptx_bar_sync(BARRIER_PREFILL_BOTH, THREADS);
    }

    static __device__ __forceinline__ bool ends_inside(const prefill_work &work) {
        return work.first_key + work.entry.num_tiles * TOKENS > work.request.kv_len;
    }
    static __device__ __forceinline__ int32_t last_tile_keys(const prefill_work &work) {
        return max(0, work.request.kv_len - work.first_key - (work.entry.num_tiles - 1) * TOKENS);
    }

    /** All tiles of the work. `n` is its first tile's place in the ring's sequence. */
    static __device__ __forceinline__ void run(const pod_kernel_params &params, smem_type &smem,
                                               const prefill_work &work, uint32_t n, uint32_t q_parity,
                                               float (&o)[O_REGS], row_state &rows) {
        float s[S_REGS], factor[2];
        uint32_t p[P_REGS];
        bool has_softcap = params.softcap_log2 > 0.0f;
        float scale = has_softcap ? 1.0f : params.scale_log2, slack = RESCALE_LOG2 / scale;
        uint32_t q_smem = ptx_smem(smem.q) + warpgroup() * ROWS * HALF_ROW_BYTES;
        int32_t first_row = work.entry.row_begin + warpgroup() * ROWS;
        int32_t last_row = work.entry.row_begin + min(work.num_rows, (warpgroup() + 1) * ROWS) - 1;
        int32_t unmasked_end = visible_keys(params, work.request, first_row / params.shape.group).end;
        int32_t unmasked_begin = visible_keys(params, work.request, last_row / params.shape.group).begin;
        int32_t first_key = work.first_key, tiles_left = work.entry.num_tiles;
#pragma unroll
        for (int i = 0; i < O_REGS; i++) o[i] = 0.0f;
        rows.max[0] = rows.max[1] = -INFINITY;
        rows.origin[0] = rows.origin[1] = rows.sum[0] = rows.sum[1] = 0.0f;

        ptx_mbarrier_wait(barrier_at(&smem.q_full, 0), q_parity);
        wait_tile(smem, n);
        start_scores(s, q_smem, tile_smem(smem, n));
        wgmma_wait<0>();
        wgmma_touch(s);
        release_tile(smem, n);
        for (;;) {
            tiles_left--;
            if (has_softcap) {
#pragma unroll
                for (int i = 0; i < S_REGS; i++) s[i] = softcap_score(params, s[i]);
            }
            if (first_key + TOKENS > unmasked_end || first_key < unmasked_begin) mask(params, work, s, first_key);
            first_key += TOKENS;
            bool rises = raise_max(s, rows, factor, scale, slack);
            exponentials(s, rows, scale);
            wgmma_wait<0>(); /* of the values before */
            wgmma_touch(o);
            if (first_key > work.first_key + TOKENS) release_tile(smem, n - 1);
            if (rises) rescale(o, factor);
            pack(p, s);
            if (tiles_left == 0) break;
            wait_tile(smem, n + 2);
            start_scores(s, q_smem, tile_smem(smem, n + 2));
            wait_tile(smem, n + 1);
            start_output(o, p, tile_smem(smem, n + 1));
            wgmma_wait<1>();
            wgmma_touch(s);
            release_tile(smem, n + 2);
            n += 2;
        }
        warp_arrive(barrier_at(&smem.q_empty, 0));
        wait_tile(smem, n + 1);
        if (ends_inside(work)) clear_values(tile_smem(smem, n + 1), last_tile_keys(work));
        start_output(o, p, tile_smem(smem, n + 1));
        wgmma_wait<0>();
        wgmma_touch(o);
        release_tile(smem, n + 1);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = rows.sum[half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            rows.sum[half] = sum + __shfl_xor_sync(~0u, sum, 2);
            rows.max[half] *= scale; /* scale > 0 is the host's promise */
        }
    }

    /** A warpgroup without rows lets the tiles pass. */
    static __device__ void skip(smem_type &smem, const prefill_work &work, uint32_t n, uint32_t q_parity) {
        ptx_mbarrier_wait(barrier_at(&smem.q_full, 0), q_parity);
        warp_arrive(barrier_at(&smem.q_empty, 0));
        for (int32_t i = 0; i < 2 * work.entry.num_tiles; i++) {
            wait_tile(smem, n + i);
            if (i == 2 * work.entry.num_tiles - 1 && ends_inside(work)) {
                clear_values(tile_smem(smem, n + i), last_tile_keys(work));
            }
            release_tile(smem, n + i);
        }
    }

    /** Normalises and writes whole rows. */
    static __device__ __forceinline__ void write_out(const pod_kernel_params &params, const prefill_work &work,
                                                     const float (&o)[O_REGS], const row_state &rows) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int tile_row = own_row() + half * 8, row = work.entry.row_begin + tile_row;
            if (tile_row >= work.num_rows) continue;
            float factor =
                finish_row(params, work.request, work.kv_head, row, rows.max[half], rows.sum[half], ptx_tid() % 4 == 0);
            uint32_t *words =
                (uint32_t *)((uint16_t *)params.out + out_offset(params, work.request, work.kv_head, row)) +
                ptx_tid() % 4;
#pragma unroll
            for (int i = 0; i < O_REGS / 4; i++) {
                words[i * 4] = ELEMENT::pack(o[i * 4 + half * 2] * factor, o[i * 4 + half * 2 + 1] * factor);
            }
        }
    }

    /** Keeps a part of split rows. */
    static __device__ __forceinline__ void write_partial(const pod_kernel_params &params, const prefill_work &work,
                                                         const float (&o)[O_REGS], const row_state &rows,
                                                         int32_t slot) {
        float *sums = params.schedule.prefill_partial_sum + (int64_t)slot * SHAPE::PREFILL_ROWS * 2;
        float *outs = params.schedule.prefill_partial_out + (int64_t)slot * SHAPE::PREFILL_ROWS * HEAD_DIM;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int tile_row = own_row() + half * 8;
            if (tile_row >= work.num_rows) continue;
            if (ptx_tid() % 4 == 0) *(float2 *)(sums + tile_row * 2) = make_float2(rows.max[half], rows.sum[half]);
            float *out = outs + tile_row * HEAD_DIM + ptx_tid() % 4 * 2;
#pragma unroll
            for (int i = 0; i < O_REGS / 4; i++) {
                *(float2 *)(out + i * 8) = make_float2(o[i * 4 + half * 2], o[i * 4 + half * 2 + 1]);
            }
        }
    }

    /** Joins the parts of the warpgroup's rows and writes them; a thread owns four columns of every ROW_STEP-th row. */
    static __device__ void merge(const pod_kernel_params &params, const prefill_work &work, int32_t first_slot) {
        constexpr int LANES = HEAD_DIM / 4, ROW_STEP = WARPGROUP_THREADS / LANES, ROWS_AT_ONCE = 4;
        int t = own_thread(), column = t % LANES * 4;
        int row_end = min(work.num_rows, (warpgroup() + 1) * ROWS);
        for (int first_row = warpgroup() * ROWS + t / LANES; first_row < row_end;
             first_row += ROW_STEP * ROWS_AT_ONCE) {
            merged_rows<ROWS_AT_ONCE, 4> merged;
            merge_parts(
                merged, params.schedule.prefill_partial_sum, params.schedule.prefill_partial_out,
                [&](int part) { return first_slot + part; }, work.entry.num_parts, SHAPE::PREFILL_ROWS, HEAD_DIM,
                first_row, ROW_STEP, row_end, column);
#pragma unroll
            for (int i = 0; i < ROWS_AT_ONCE; i++) {
                int row = first_row + i * ROW_STEP;
                if (row >= row_end) break;
                int request_row = work.entry.row_begin + row;
                float factor = finish_row(params, work.request, work.kv_head, request_row, merged.max[i], merged.sum[i],
                                          column == 0);
                const float(&out)[4] = merged.out[i];
                int64_t offset = out_offset(params, work.request, work.kv_head, request_row);
                *(uint2 *)((uint16_t *)params.out + offset + column) = make_uint2(
                    ELEMENT::pack(out[0] * factor, out[1] * factor), ELEMENT::pack(out[2] * factor, out[3] * factor));
            }
        }
    }

    /** Keeps a part; the warpgroup that finishes its rows' last part merges them. A tile has at least two slots: the
     * first two slots' counters are the two warpgroups'. */
    static __device__ void finish_part(const pod_kernel_params &params, smem_type &smem, const prefill_work &work,
                                       const float (&o)[O_REGS], const row_state &rows) {
        int32_t first_slot = work.entry.slot + work.kv_head * work.entry.num_parts;
        write_partial(params, work, o, rows, first_slot + work.entry.part);
        __threadfence();
        sync_warpgroup();
        if (own_thread() == 0) {
            uint32_t *counter = &params.schedule.part_counters[first_slot + warpgroup()];
            uint32_t is_last = atomicAdd(counter, 1) == (uint32_t)work.entry.num_parts - 1;
            if (is_last) *counter = 0;
            smem.is_last[warpgroup()] = is_last;
        }
        sync_warpgroup();
        if (!smem.is_last[warpgroup()]) return;
        __threadfence();
        merge(params, work, first_slot);
    }

    static __device__ void consume(const pod_kernel_params &params, smem_type &smem) {
        uint32_t n = 0, q_parity = 0;
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance(), q_parity ^= 1) {
            ptx_mbarrier_wait(barrier_at(smem.prefill_full, slot.slot), slot.parity);
            const prefill_work &work = smem.prefill[slot.slot];
            if (work.kv_head < 0) break;
            uint32_t num_tiles = work.entry.num_tiles;
            if (warpgroup() * ROWS >= work.num_rows) {
                skip(smem, work, n, q_parity);
            } else {
                float o[O_REGS];
                row_state rows;
                run(params, smem, work, n, q_parity, o, rows);
                if (work.entry.num_parts == 1)
                    write_out(params, work, o, rows);
                else
                    finish_part(params, smem, work, o, rows);
            }
            n += 2 * num_tiles;
            warp_arrive(barrier_at(smem.prefill_empty, slot.slot));
        }
    }
};

#endif
