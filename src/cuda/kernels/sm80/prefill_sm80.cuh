/* SPDX-License-Identifier: Apache-2.0 */
/* Prefill on sm_80: four warps work on 64 * M_TILES query rows against KV tiles of TILE_TOKENS keys.
 *
 * A warp owns 16 * M_TILES neighbouring rows. A tile's K and V are one of two stages:
 *
 *     iteration i    wait stage i | barrier | load stage i + 1 | for each 32 keys: S = Q K(i)' , softmax , O += P V(i)
 *
 * The barrier says two things: every warp's copies of stage i have landed, and every warp is done with stage i - 1,
 * which the load overwrites. A tile is worked off 32 keys at a time, so that scores and output together leave registers
 * for the rest. */
#ifndef POD_SM80_PREFILL_CUH
#define POD_SM80_PREFILL_CUH

#include "../access.cuh"
#include "../element.cuh"
#include "../merge_parts.cuh"

enum { PREFILL_THREADS = 128, PREFILL_BARRIER = 1, PREFILL_STAGES = 2 };

/** What the loop over the KV tiles asks for in every iteration; keys count from the work's first one. One load. */
struct alignas(16) prefill_range {
    int32_t num_tiles;
    int32_t num_keys;       /* that exist */
    int32_t unmasked_begin; /* every row sees the keys [unmasked_begin, unmasked_end) */
    int32_t unmasked_end;
};

/** One row tile and KV head. It stands in shared memory: registers are what the accumulators need. */
struct prefill_work {
    pod_request request;
    pod_prefill_entry entry;
    int32_t kv_head;
    int32_t num_rows;  /* of this tile */
    int32_t first_key; /* of the first KV tile */
    uint32_t is_last;  /* this CTA finished the last part of its tile */
    uint32_t zero;     /* see new_lane() */
    prefill_range range;
    const char *k_head, *v_head;
};

template <int HEAD_DIM, int M_TILES, int TILE_TOKENS> struct alignas(256) prefill_smem {
    uint16_t q[64 * M_TILES][HEAD_DIM];
    uint16_t stages[PREFILL_STAGES][2][TILE_TOKENS][HEAD_DIM]; /* K, V */
    key_place places[2][TILE_TOKENS]; /* of the keys of the tile to be loaded next, by its parity */
    prefill_work work;
};

template <class ELEMENT, int HEAD_DIM, int M_TILES, int TILE_TOKENS> struct prefill_sm80 {
    typedef prefill_smem<HEAD_DIM, M_TILES, TILE_TOKENS> smem_type;
    static constexpr int ROWS = 64 * M_TILES;
    static constexpr int ROW_BYTES = HEAD_DIM * 2;
    static constexpr int ROW_CHUNKS = ROW_BYTES / CHUNK_BYTES;
    static constexpr int K_STEPS = HEAD_DIM / 16;    /* of Q K' */
    static constexpr int STEP_TOKENS = 16 * M_TILES; /* keys whose scores are in registers at a time */
    static constexpr int P_STEPS = STEP_TOKENS / 16; /* of P V */
    static constexpr int S_TILES = STEP_TOKENS / 8;
    static constexpr int O_TILES = HEAD_DIM / 8;
    static constexpr uint32_t TILE_BYTES = TILE_TOKENS * ROW_BYTES, STAGE_BYTES = 2 * TILE_BYTES;
    static_assert(ROW_CHUNKS >= 8, "the swizzle needs eight chunks per row");
    static_assert(TILE_TOKENS <= PREFILL_THREADS, "one thread looks one key up");

    /** A warp's share of a tile, in the layout of mma's accumulators: rows lane / 4 and + 8 of each 16. */
    struct accumulators {
        float out[M_TILES][O_TILES][4];
        float max[M_TILES][2]; /* raw score units, or log2 units with a softcap */
        float sum[M_TILES][2]; /* of this thread's columns only, until the end */
    };

    /** This thread of the four warps. */
    static __device__ __forceinline__ int own_thread() {
        return ptx_tid() % PREFILL_THREADS;
    }

    /** `lane`, but as if it could be another one at every call. NOTE: nvcc 13.0 moves every address that follows from
     * the lane out of the loop, into more registers than there are, and spills them; it does not when it must ask for
     * 0. */
    static __device__ __forceinline__ int new_lane(const prefill_work &work, int lane) {
        return lane + *(const volatile uint32_t *)&work.zero;
    }

    static __device__ __forceinline__ void sync() {
        ptx_bar_sync(PREFILL_BARRIER, PREFILL_THREADS);
    }

    static __device__ void load_q(const pod_kernel_params &params, smem_type &smem, const prefill_work &work) {
        uint32_t q_smem = ptx_smem(smem.q);
        int t = own_thread(), chunk = t % ROW_CHUNKS;
        for (int row = t / ROW_CHUNKS; row < ROWS; row += PREFILL_THREADS / ROW_CHUNKS) {
            bool exists = row < work.num_rows;
            int64_t offset = q_offset(params, work.request, work.kv_head, work.entry.row_begin + (exists ? row : 0));
            ptx_cp_async_16_or_zeros(q_smem + swizzle_chunk<ROW_BYTES>(row, chunk),
                                     (const uint16_t *)params.q + offset + chunk * CHUNK_ELEMENTS,
                                     exists ? CHUNK_BYTES : 0);
        }
    }

    /** Copies this thread's chunks of a tile. FULL: all of its keys exist; else keys from `keys_left` on become zeros.
     */
    template <bool FULL>
    static __device__ __forceinline__ void copy_tile(const key_place *places, uint32_t to, const char *k_base,
                                                     const char *v_base, int first_row, int keys_left) {
        constexpr int ROW_STEP = PREFILL_THREADS / ROW_CHUNKS, COPIES = TILE_TOKENS / ROW_STEP;
        key_place place[COPIES]; /* all before the first copy: nvcc moves no load across one */
#pragma unroll
        for (int i = 0; i < COPIES; i++) place[i] = places[first_row + i * ROW_STEP];
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            /* ROW_STEP is a multiple of 8, so the swizzle of the chunk is the same in every step. */
            uint32_t k_to = to + i * ROW_STEP * ROW_BYTES, v_to = k_to + TILE_BYTES;
            const char *k = k_base + (uint64_t)place[i].k_chunk * CHUNK_BYTES;
            const char *v = v_base + (uint64_t)place[i].v_chunk * CHUNK_BYTES;
            if (FULL) {
                ptx_cp_async_16(k_to, k);
                ptx_cp_async_16(v_to, v);
            } else {
                uint32_t bytes = first_row + i * ROW_STEP < keys_left ? CHUNK_BYTES : 0;
                ptx_cp_async_16_or_zeros(k_to, k, bytes);
                ptx_cp_async_16_or_zeros(v_to, v, bytes);
            }
        }
    }

    /** Starts the load of tile `tile` of the work into its stage. Commits one group, also behind the last tile. */
    static __device__ __forceinline__ void load_tile(smem_type &smem, const prefill_range &range, int tile) {
        if (tile < range.num_tiles) {
            int t = own_thread(), chunk = t % ROW_CHUNKS, first_row = t / ROW_CHUNKS,
                keys_left = range.num_keys - tile * TILE_TOKENS;
            uint32_t to = ptx_smem(smem.stages) + (tile & 1) * STAGE_BYTES + swizzle_chunk<ROW_BYTES>(first_row, chunk);
            const char *k_base = smem.work.k_head + chunk * CHUNK_BYTES;
            const char *v_base = smem.work.v_head + chunk * CHUNK_BYTES;
            const key_place *places = smem.places[tile & 1];
            if (keys_left >= TILE_TOKENS)
                copy_tile<true>(places, to, k_base, v_base, first_row, keys_left);
            else
                copy_tile<false>(places, to, k_base, v_base, first_row, keys_left);
        }
        ptx_cp_async_commit();
    }

    /** Page of this thread's key of tile `tile`: the first threads have one key each, none behind the end. */
    static __device__ __forceinline__ int32_t own_page(const pod_kernel_params &params, const prefill_work &work,
                                                       const prefill_range &range, int tile) {
        int t = own_thread(), key = tile * TILE_TOKENS + t;
        if (t >= TILE_TOKENS || key >= range.num_keys) return 0;
        return load_page(params, work.entry.request, work.first_key + key);
    }

    static __device__ __forceinline__ void keep_place(const pod_kernel_params &params, smem_type &smem, int tile,
                                                      int32_t page) {
        int t = own_thread();
        if (t < TILE_TOKENS) {
            smem.places[tile & 1][t] = locate_key(params, page, smem.work.first_key + tile * TILE_TOKENS + t);
        }
    }

    static __device__ __forceinline__ void scores(float (&s)[M_TILES][S_TILES][4], uint32_t q_smem, uint32_t k_smem,
                                                  int warp, int lane) {
        /* Lane addresses of the first step; later steps flip bits of the chunk number. */
        uint32_t q_lane = q_smem + swizzle_chunk<ROW_BYTES>(warp * 16 * M_TILES + lane % 16, lane / 16);
        uint32_t k_lane = k_smem + swizzle_chunk<ROW_BYTES>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int n = 0; n < S_TILES; n++) s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.0f;
        }
        /* One step's operands are loaded while the step before is multiplied. */
        uint32_t q[2][M_TILES][4], k[2][S_TILES / 2][4];
        load_step(q[0], k[0], q_lane, k_lane);
#pragma unroll
        for (int step = 0; step < K_STEPS; step++) {
            int now = step & 1;
            if (step + 1 < K_STEPS) {
                uint32_t chunk_bits = (step + 1) * 2 * CHUNK_BYTES;
                load_step(q[now ^ 1], k[now ^ 1], q_lane ^ chunk_bits, k_lane ^ chunk_bits);
            }
#pragma unroll
            for (int n = 0; n < S_TILES / 2; n++) {
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    ELEMENT::mma(s[m][2 * n], q[now][m], k[now][n][0], k[now][n][1]);
                    ELEMENT::mma(s[m][2 * n + 1], q[now][m], k[now][n][2], k[now][n][3]);
                }
            }
        }
    }

    static __device__ __forceinline__ void load_step(uint32_t (&q)[M_TILES][4], uint32_t (&k)[S_TILES / 2][4],
                                                     uint32_t q_lane, uint32_t k_lane) {
#pragma unroll
        for (int m = 0; m < M_TILES; m++) ptx_ldmatrix_x4(q[m], q_lane + m * 16 * ROW_BYTES);
#pragma unroll
        for (int n = 0; n < S_TILES / 2; n++) ptx_ldmatrix_x4(k[n], k_lane + n * 16 * ROW_BYTES);
    }

    static __device__ __forceinline__ void softcap(const pod_kernel_params &params, float (&s)[M_TILES][S_TILES][4]) {
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int n = 0; n < S_TILES; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) s[m][n][j] = softcap_score(params, s[m][n][j]);
            }
        }
    }

    /** Takes out what a row may not see. Only for tiles on an edge of what the rows see. */
    static __device__ void mask(const pod_kernel_params &params, const prefill_work &work,
                                float (&s)[M_TILES][S_TILES][4], int first_key) {
        int warp = own_thread() / 32, lane = own_thread() % 32;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = work.entry.row_begin + (warp * M_TILES + m) * 16 + half * 8 + lane / 4;
                key_range range = visible_keys(params, work.request, row / params.shape.group);
#pragma unroll
                for (int n = 0; n < S_TILES; n++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        int key = first_key + n * 8 + lane % 4 * 2 + j;
                        if (key < range.begin || key >= range.end) s[m][n][half * 2 + j] = -INFINITY;
                    }
                }
            }
        }
    }

    /** Raises the running maxima to those of the tile; sums and output follow where a maximum moved. */
    static __device__ __forceinline__ void raise_max(const float (&s)[M_TILES][S_TILES][4], accumulators &acc,
                                                     float scale) {
        float factor[M_TILES][2];
        bool moved = false;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float max = acc.max[m][half];
#pragma unroll
                for (int n = 0; n < S_TILES; n++) max = fmaxf(max, fmaxf(s[m][n][half * 2], s[m][n][half * 2 + 1]));
                max = fmaxf(max, __shfl_xor_sync(~0u, max, 1));
                max = fmaxf(max, __shfl_xor_sync(~0u, max, 2));
                factor[m][half] = ptx_ex2((acc.max[m][half] - finite(max)) * scale);
                moved |= max != acc.max[m][half];
                acc.max[m][half] = max;
            }
        }
        if (!__any_sync(~0u, moved)) return;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            acc.sum[m][0] *= factor[m][0];
            acc.sum[m][1] *= factor[m][1];
#pragma unroll
            for (int n = 0; n < O_TILES; n++) {
                acc.out[m][n][0] *= factor[m][0];
                acc.out[m][n][1] *= factor[m][0];
                acc.out[m][n][2] *= factor[m][1];
                acc.out[m][n][3] *= factor[m][1];
            }
        }
    }

    /** A row that has seen nothing yet has max -inf; 0 in its place keeps its exponents at -inf. */
    static __device__ __forceinline__ float finite(float max) {
        return max == -INFINITY ? 0.0f : max;
    }

    /** P = exp2(score - max) as A operands, and its row sums. */
    static __device__ __forceinline__ void
    exponentials(uint32_t (&p)[M_TILES][P_STEPS][4], float (&s)[M_TILES][S_TILES][4], accumulators &acc, float scale) {
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            float origin[2] = {finite(acc.max[m][0]) * scale, finite(acc.max[m][1]) * scale};
#pragma unroll
            for (int n = 0; n < S_TILES; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    s[m][n][j] = ptx_ex2(s[m][n][j] * scale - origin[j / 2]);
                    acc.sum[m][j / 2] += s[m][n][j];
                }
            }
#pragma unroll
            for (int step = 0; step < P_STEPS; step++) {
                p[m][step][0] = ELEMENT::pack(s[m][2 * step][0], s[m][2 * step][1]);
                p[m][step][1] = ELEMENT::pack(s[m][2 * step][2], s[m][2 * step][3]);
                p[m][step][2] = ELEMENT::pack(s[m][2 * step + 1][0], s[m][2 * step + 1][1]);
                p[m][step][3] = ELEMENT::pack(s[m][2 * step + 1][2], s[m][2 * step + 1][3]);
            }
        }
    }

    static __device__ __forceinline__ void accumulate(accumulators &acc, const uint32_t (&p)[M_TILES][P_STEPS][4],
                                                      uint32_t v_smem, int lane) {
        uint32_t v_lane = v_smem + swizzle_chunk<ROW_BYTES>(lane % 16, lane / 16);
        /* Sixteen columns of V are loaded while the sixteen before are multiplied. */
        constexpr int COLUMN_STEPS = O_TILES / 2;
        uint32_t v[2][4];
        ptx_ldmatrix_x4_trans(v[0], v_lane);
#pragma unroll
        for (int i = 0; i < P_STEPS * COLUMN_STEPS; i++) {
            int step = i / COLUMN_STEPS, n = i % COLUMN_STEPS * 2, now = i & 1, next = i + 1;
            if (next < P_STEPS * COLUMN_STEPS) {
                uint32_t next_lane = v_lane ^ (next % COLUMN_STEPS * 2 * CHUNK_BYTES);
                ptx_ldmatrix_x4_trans(v[now ^ 1], next_lane + next / COLUMN_STEPS * 16 * ROW_BYTES);
            }
#pragma unroll
            for (int m = 0; m < M_TILES; m++) {
                ELEMENT::mma(acc.out[m][n], p[m][step], v[now][0], v[now][1]);
                ELEMENT::mma(acc.out[m][n + 1], p[m][step], v[now][2], v[now][3]);
            }
        }
    }

    /** The whole KV range of the work. Leaves log2-unit maxima and full row sums in every thread of a quad. */
    static __device__ __forceinline__ void run(const pod_kernel_params &params, smem_type &smem, accumulators &acc) {
        const prefill_work &work = smem.work;
        int warp = own_thread() / 32, lane = own_thread() % 32;
        uint32_t q_smem = ptx_smem(smem.q), stages_smem = ptx_smem(smem.stages);
        float scale = params.softcap_log2 > 0.0f ? 1.0f : params.scale_log2;

#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            acc.max[m][0] = acc.max[m][1] = -INFINITY;
            acc.sum[m][0] = acc.sum[m][1] = 0.0f;
#pragma unroll
            for (int n = 0; n < O_TILES; n++) {
                acc.out[m][n][0] = acc.out[m][n][1] = acc.out[m][n][2] = acc.out[m][n][3] = 0.0f;
            }
        }

        prefill_range range = work.range;
        keep_place(params, smem, 0, own_page(params, work, range, 0));
        keep_place(params, smem, 1, own_page(params, work, range, 1));
        sync();
        load_q(params, smem, work); /* joins the first tile's group */
        load_tile(smem, range, 0);

#pragma unroll 1
        for (int i = 0; i < work.range.num_tiles; i++) {
            ptx_cp_async_wait<0>();
            sync();
            range = work.range; /* read anew: cheaper than registers that live through the loop */
            load_tile(smem, range, i + 1);
            int32_t page = own_page(params, work, range, i + 2); /* used at the end: its latency is hidden */
#pragma unroll 1
            for (int token = 0; token < TILE_TOKENS; token += STEP_TOKENS) {
                uint32_t k_smem = stages_smem + (i & 1) * STAGE_BYTES + token * ROW_BYTES;
                int key = i * TILE_TOKENS + token;
                int step_lane = new_lane(work, lane);
                float s[M_TILES][S_TILES][4];
                uint32_t p[M_TILES][P_STEPS][4];
                scores(s, q_smem, k_smem, warp, step_lane);
                if (params.softcap_log2 > 0.0f) softcap(params, s);
                if (key + STEP_TOKENS > work.range.unmasked_end || key < work.range.unmasked_begin) {
                    mask(params, work, s, work.first_key + key);
                }
                raise_max(s, acc, scale);
                exponentials(p, s, acc, scale);
                accumulate(acc, p, k_smem + TILE_BYTES, step_lane);
            }
            keep_place(params, smem, i + 2, page);
        }
        ptx_cp_async_wait<0>();
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float sum = acc.sum[m][half];
                sum += __shfl_xor_sync(~0u, sum, 1);
                acc.sum[m][half] = sum + __shfl_xor_sync(~0u, sum, 2);
                acc.max[m][half] *= scale; /* scale > 0 is the host's promise */
            }
        }
    }

    /** Normalises and writes whole rows, through the warp's own rows of the Q tile so that stores are 16 bytes. */
    static __device__ void write_out(const pod_kernel_params &params, smem_type &smem, const prefill_work &work,
                                     accumulators &acc) {
        int warp = own_thread() / 32, lane = own_thread() % 32;
        char *q_tile = (char *)smem.q;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int tile_row = (warp * M_TILES + m) * 16 + half * 8 + lane / 4;
                bool exists = tile_row < work.num_rows;
                float factor = 0.0f;
                if (exists) {
                    factor = finish_row(params, work.request, work.kv_head, work.entry.row_begin + tile_row,
                                        acc.max[m][half], acc.sum[m][half], lane % 4 == 0);
                }
#pragma unroll
                for (int n = 0; n < O_TILES; n++) {
                    uint32_t pair =
                        ELEMENT::pack(acc.out[m][n][half * 2] * factor, acc.out[m][n][half * 2 + 1] * factor);
                    *(uint32_t *)(q_tile + swizzle_chunk<ROW_BYTES>(tile_row, n) + lane % 4 * 4) = pair;
                }
            }
        }
        __syncwarp();
        constexpr int ROWS_PER_STEP = 32 / ROW_CHUNKS;
        int chunk = lane % ROW_CHUNKS;
        for (int row = lane / ROW_CHUNKS; row < 16 * M_TILES; row += ROWS_PER_STEP) {
            int tile_row = warp * 16 * M_TILES + row;
            if (tile_row >= work.num_rows) break;
            int64_t offset = out_offset(params, work.request, work.kv_head, work.entry.row_begin + tile_row);
            *(uint4 *)((uint16_t *)params.out + offset + chunk * CHUNK_ELEMENTS) =
                *(const uint4 *)(q_tile + swizzle_chunk<ROW_BYTES>(tile_row, chunk));
        }
    }

    /** Keeps a part of a split tile. */
    static __device__ void write_partial(const pod_kernel_params &params, const prefill_work &work, accumulators &acc,
                                         int32_t slot) {
        int warp = own_thread() / 32, lane = own_thread() % 32;
        float *out = params.schedule.prefill_partial_out + (int64_t)slot * ROWS * HEAD_DIM;
        float *sum = params.schedule.prefill_partial_sum + (int64_t)slot * ROWS * 2;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = (warp * M_TILES + m) * 16 + half * 8 + lane / 4;
                if (row >= work.num_rows) continue;
                if (lane % 4 == 0) *(float2 *)(sum + row * 2) = make_float2(acc.max[m][half], acc.sum[m][half]);
#pragma unroll
                for (int n = 0; n < O_TILES; n++) {
                    *(float2 *)(out + row * HEAD_DIM + n * 8 + lane % 4 * 2) =
                        make_float2(acc.out[m][n][half * 2], acc.out[m][n][half * 2 + 1]);
                }
            }
        }
    }

    /** Joins the parts of a split tile and writes its rows; a thread owns four columns of every ROW_STEP-th row. */
    static __device__ void merge(const pod_kernel_params &params, const prefill_work &work, int32_t first_slot) {
        constexpr int LANES = HEAD_DIM / 4, ROW_STEP = PREFILL_THREADS / LANES, ROWS_AT_ONCE = 4;
        int t = own_thread(), column = t % LANES * 4;
        for (int first_row = t / LANES; first_row < work.num_rows; first_row += ROW_STEP * ROWS_AT_ONCE) {
            merged_rows<ROWS_AT_ONCE, 4> merged;
            merge_parts(
                merged, params.schedule.prefill_partial_sum, params.schedule.prefill_partial_out,
                [&](int part) { return first_slot + part; }, work.entry.num_parts, ROWS, HEAD_DIM, first_row, ROW_STEP,
                work.num_rows, column);
#pragma unroll
            for (int i = 0; i < ROWS_AT_ONCE; i++) {
                int row = first_row + i * ROW_STEP;
                if (row >= work.num_rows) break;
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

    /** What ticket `index` of the prefill queue stands for. */
    static __device__ prefill_work find_work(const pod_kernel_params &params, int32_t index) {
        int32_t kv_heads = params.shape.kv_heads, group = params.shape.group;
        prefill_work work;
        work.entry = params.schedule.entries[index / kv_heads];
        work.kv_head = index % kv_heads;
        work.request = load_request(params, work.entry.request);
        work.num_rows = min(ROWS, work.request.q_len * group - work.entry.row_begin);
        work.first_key = work.entry.tile_begin * TILE_TOKENS;
        int32_t last_row = work.entry.row_begin + work.num_rows - 1;
        work.zero = 0;
        work.range.num_tiles = work.entry.num_tiles;
        work.range.num_keys = work.request.kv_len - work.first_key;
        work.range.unmasked_begin = visible_keys(params, work.request, last_row / group).begin - work.first_key;
        work.range.unmasked_end = visible_keys(params, work.request, work.entry.row_begin / group).end - work.first_key;
        work.k_head = (const char *)((const uint16_t *)params.k + work.kv_head * params.k_head_stride);
        work.v_head = (const char *)((const uint16_t *)params.v + work.kv_head * params.v_head_stride);
        return work;
    }

    /** Ticket `index` of the prefill queue, from its entry to its written rows. */
    static __device__ void work_on(const pod_kernel_params &params, smem_type &smem, int32_t index) {
        const prefill_work &work = smem.work;
        bool is_first_thread = own_thread() == 0;
        if (is_first_thread) smem.work = find_work(params, index);
        sync();
        accumulators acc;
        run(params, smem, acc);
        if (work.entry.num_parts == 1) {
            write_out(params, smem, work, acc);
            return;
        }
        int32_t first_slot = work.entry.slot + work.kv_head * work.entry.num_parts;
        write_partial(params, work, acc, first_slot + work.entry.part);
        __threadfence();
        sync();
        if (is_first_thread) {
            uint32_t *counter = &params.schedule.part_counters[first_slot];
            smem.work.is_last = atomicAdd(counter, 1) == (uint32_t)work.entry.num_parts - 1;
            if (smem.work.is_last) *counter = 0;
        }
        sync();
        if (!smem.work.is_last) return;
        __threadfence();
        merge(params, work, first_slot);
    }
};

#endif
