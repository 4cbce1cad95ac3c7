/* SPDX-License-Identifier: Apache-2.0 */
/* Decode on sm_80: each warp is a virtual CTA with a slice of its own.
 *
 * Operands are swapped: sixteen cached keys are the M of the product, the query rows of the group its N, so a GQA
 * decode of eight rows wastes nothing.
 *
 *     S' = K Q'      16 keys x 8 rows per mma; Q stays in registers as B
 *     O' = V' P'     16 columns x 8 rows per mma; P' comes from S' by movmatrix
 *
 * K and V come in stages of STAGE_TOKENS keys through a ring of the warp's own: K(0) V(0) K(1) V(1) ..., RING of them
 * under way. Nothing waits for another warp, but beside prefill one warp per scheduler has all latencies of its
 * instructions to itself: what bounds it there is their number, not bytes under way.
 *
 * Codes of e4m3 are read as pairs by the same ldmatrix, and converted in registers. What a lane gets of K then are four
 * neighbouring columns: 0 and 2 become its first two columns of a product, 1 and 3 those eight further, and Q is loaded
 * in that order. Of V it gets two neighbouring columns of two keys: rows lane / 4 and + 8 of a product are columns
 * 2 (lane / 4) and + 1, as write_out() and write_partial() know. */
#ifndef POD_SM80_DECODE_CUH
#define POD_SM80_DECODE_CUH

#include "cuda/kernels/cta.cuh"
#include "cuda/kernels/element.cuh"
#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/parts.cuh"
#include "cuda/kernels/sm80/find_sm80.cuh"
#include "cuda/kernels/sm80/hidden_sm80.cuh"
#include "cuda/kernels/softmax_row.cuh"

/** Where an item's keys come from. Each lane knows the place of one run of keys that are neighbours in memory, so that
 * 32 of them make a window: runs of 16 keys where no page ends inside one, otherwise of a single key. */
struct key_source {
    int32_t num_keys, num_full_stages;
    int32_t run_shift;           /* log2 of a run's keys: 4 or 0 */
    int32_t next_page;           /* of this lane's run in the window after the one at hand, under way */
    key_place place;             /* of this lane's run in the window at hand */
    const char *k_head, *v_head; /* at this lane's chunk of its first key in a run */
    uint32_t k_step, v_step;     /* bytes from one of a lane's keys to its next one */
};

template <class ELEMENT, int HEAD_DIM, class SHAPE> struct decode_sm80 {
    static constexpr int KV_BYTES = ELEMENT::KV_BYTES;
    static constexpr bool PADS = SHAPE::PADS; /* keys and values may have fewer than HEAD_DIM elements */
    static constexpr bool ALL_MASKS = SHAPE::ALL_MASKS;
    static constexpr int STAGE_TOKENS = SHAPE::DECODE_STAGE_TOKENS;
    static constexpr int RING = SHAPE::DECODE_RING * 2 / KV_BYTES; /* as many bytes under way */
    static constexpr int MAX_N_TILES = SHAPE::DECODE_N_TILES;
    static constexpr int ROW_BYTES = HEAD_DIM * KV_BYTES;
    typedef decode_warp_smem<ROW_BYTES, STAGE_TOKENS, RING> smem_type;
    typedef hidden_sm80<ELEMENT> hidden;
    static constexpr int ROW_CHUNKS = ROW_BYTES / CHUNK_BYTES;
    static constexpr int K_STEPS = HEAD_DIM / 16;
    static constexpr int O_TILES = HEAD_DIM / 16;     /* of 16 columns: the M of the second product */
    static constexpr int V_TILES = 2 / KV_BYTES;      /* of these, that one ldmatrix loads */
    static constexpr int S_TILES = STAGE_TOKENS / 16; /* of 16 keys: the M of the first product */
    static constexpr int ROW_STEP = 32 / ROW_CHUNKS;  /* a lane copies a chunk of every ROW_STEP-th key */
    static constexpr int RUN_COPIES = 16 / ROW_STEP;  /* of a lane, of 16 keys */
    static constexpr uint32_t STAGE_BYTES = STAGE_TOKENS * ROW_BYTES;
    static_assert(32 % ROW_CHUNKS == 0, "all lanes copy whole rows");
    static_assert(RING >= 2, "the first stage's K and V are loaded before the loop");
    static_assert(K_STEPS % 2 == 0, "scores take two steps at a time");
    static_assert(STAGE_TOKENS % 16 == 0 && DECODE_TILE_TOKENS % STAGE_TOKENS == 0, "a slice begins with a stage");

    const pod_kernel_params &params;
    smem_type &smem; /* the warp's own */
    int lane;

    /** How many bytes of the lane's chunks a key or a value has: all that it does not have are zeros in the ring. */
    __device__ __forceinline__ uint32_t own_bytes(bool is_value) {
        return PADS ? chunk_bytes(lane % ROW_CHUNKS, dim_of(params, is_value) * KV_BYTES) : CHUNK_BYTES;
    }

    /** Whether queries have a column, and whether values and results do. */
    __device__ __forceinline__ bool has_column(int column) {
        return !PADS || column < params.head_dim;
    }
    __device__ __forceinline__ bool has_value_column(int column) {
        return !PADS || column < params.v_head_dim;
    }

    /** First key of this lane's run in window `window`, counted from the item's first one. */
    __device__ __forceinline__ int32_t run_key(const key_source &at, int window) {
        return (window * 32 + lane) << at.run_shift;
    }

    __device__ __forceinline__ int32_t load_run_page(const key_source &at, int window) {
        int32_t key = run_key(at, window);
        if (key >= at.num_keys) return 0;
        return load_page(params, smem.work.item.request, key_slot(params, smem.work.first_key + key).page_idx);
    }

    __device__ __forceinline__ key_source find_source() {
        key_source at;
        at.num_keys = max(0, smem.work.end_key - smem.work.first_key);
        at.num_full_stages = at.num_keys / STAGE_TOKENS;
        int64_t k_bytes = params.k_token_stride * KV_BYTES, v_bytes = params.v_token_stride * KV_BYTES;
        at.k_head = smem.work.heads[0] + k_bytes * (lane / ROW_CHUNKS) + lane % ROW_CHUNKS * CHUNK_BYTES;
        at.v_head = smem.work.heads[1] + v_bytes * (lane / ROW_CHUNKS) + lane % ROW_CHUNKS * CHUNK_BYTES;
        at.k_step = (uint32_t)(k_bytes * ROW_STEP);
        at.v_step = (uint32_t)(v_bytes * ROW_STEP);
        bool steps_fit = k_bytes * ROW_STEP == at.k_step && v_bytes * ROW_STEP == at.v_step;
        at.run_shift = steps_fit ? run_shift(params, smem.work.end_key) : 0;
        at.place = {0, 0};
        at.next_page = load_run_page(at, 0);
        return at;
    }

    __device__ __forceinline__ void move_window(key_source &at, int window) {
        int32_t key = run_key(at, window);
        at.place = {0, 0};
        if (key < at.num_keys) at.place = locate_key<KV_BYTES>(params, at.next_page, smem.work.first_key + key);
        at.next_page = load_run_page(at, window + 1);
    }

    /** Copies this lane's chunks of a stage of keys that all exist, run by run from `first_run` of the window on. */
    __device__ __forceinline__ void copy_runs(const key_source &at, bool is_value, int first_run, uint32_t to_smem) {
        const char *head = is_value ? at.v_head : at.k_head;
        uint32_t chunk_of_run = is_value ? at.place.v_chunk : at.place.k_chunk;
        uint32_t step_bytes = is_value ? at.v_step : at.k_step;
        uint64_t policy = ptx_policy_evict_first();
        uint32_t to_lane = to_smem + swizzle_chunk<ROW_BYTES>(lane / ROW_CHUNKS, lane % ROW_CHUNKS);
#pragma unroll
        for (int run = 0; run < S_TILES; run++) {
            const char *from = ptx_mad_wide(__shfl_sync(~0u, chunk_of_run, first_run + run), CHUNK_BYTES, head);
#pragma unroll
            for (int i = 0; i < RUN_COPIES; i++) {
                /* The swizzle of row lane / ROW_CHUNKS + i * ROW_STEP; the first term is below ROW_STEP. */
                uint32_t to = (to_lane ^ (i * ROW_STEP % 8 * CHUNK_BYTES)) + (run * 16 + i * ROW_STEP) * ROW_BYTES;
                if constexpr (PADS)
                    ptx_cp_async_16_or_zeros_policy(to, ptx_mad_wide(step_bytes, i, from), own_bytes(is_value), policy);
                else
                    ptx_cp_async_16_policy(to, ptx_mad_wide(step_bytes, i, from), policy);
            }
        }
    }

    /** The same where runs are single keys or only keys [begin, end) of the stage are seen; the others become zeros. */
    __device__ __forceinline__ void copy_keys(const key_source &at, bool is_value, int first_run, int begin, int end,
                                              uint32_t to_smem) {
        uint32_t chunk_of_run = is_value ? at.place.v_chunk : at.place.k_chunk;
        int64_t stride = is_value ? params.v_token_stride : params.k_token_stride;
        uint64_t policy = ptx_policy_evict_first();
        int chunk = lane % ROW_CHUNKS;
#pragma unroll 2
        for (int i = 0; i < STAGE_TOKENS / ROW_STEP; i++) {
            int row = lane / ROW_CHUNKS + i * ROW_STEP;
            uint32_t of_run = __shfl_sync(~0u, chunk_of_run, first_run + (row >> at.run_shift));
            uint32_t chunk_of_key = chunk_in_run(of_run, row, at.run_shift, to_chunks<KV_BYTES>(stride));
            const char *from = smem.work.heads[is_value] + (uint64_t)(chunk_of_key + chunk) * CHUNK_BYTES;
            ptx_cp_async_16_or_zeros_policy(to_smem + swizzle_chunk<ROW_BYTES>(row, chunk), from,
                                            row >= begin && row < end ? own_bytes(is_value) : 0, policy);
        }
    }

    /** Starts the copies of a stage of K or of V; every call commits one group, also after the end. FIRST: it may be
     * the first stage, part of which may be before a window, where the cache and the page table hold anything. */
    template <bool FIRST>
    __device__ __forceinline__ void load(key_source &at, int stage, int num_stages, bool is_value, uint32_t to_smem) {
        if (stage < num_stages) {
            int first_run = (stage * STAGE_TOKENS >> at.run_shift) % 32;
            if (!is_value && first_run == 0) {
                move_window(at, stage * STAGE_TOKENS >> at.run_shift >> 5);
            }
            int unseen = FIRST && stage == 0 ? smem.work.unseen_keys : 0;
            if (at.run_shift > 0 && stage < at.num_full_stages && unseen == 0)
                copy_runs(at, is_value, first_run, to_smem);
            else
                copy_keys(at, is_value, first_run, unseen, at.num_keys - stage * STAGE_TOKENS, to_smem);
        }
        ptx_cp_async_commit();
    }

    /** The item's query rows as B operands: lane / 4 is the row, its columns 2 (lane % 4) and + 8 of each step; for
     * codes, columns 4 (lane % 4) and + 2, and + 1 and + 3. */
    template <int N_TILES> __device__ __forceinline__ void load_q(uint32_t (&q)[N_TILES][K_STEPS][2]) {
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            int row = n * 8 + lane / 4;
            bool exists = row < smem.work.num_rows;
            int64_t offset = q_offset(params, smem.work.request, smem.work.item.kv_head, exists ? row : 0);
            const uint16_t *head = (const uint16_t *)params.q + offset;
#pragma unroll
            for (int step = 0; step < K_STEPS; step++) {
                if constexpr (KV_BYTES == 1) {
                    uint2 four = make_uint2(0, 0);
                    if (exists && has_column(step * 16 + lane % 4 * 4))
                        four = __ldg((const uint2 *)(head + step * 16) + lane % 4);
                    q[n][step][0] = __byte_perm(four.x, four.y, 0x5410);
                    q[n][step][1] = __byte_perm(four.x, four.y, 0x7632);
                } else {
                    const uint32_t *words = (const uint32_t *)head + lane % 4;
                    q[n][step][0] = exists && has_column(step * 16) ? __ldg(words + step * 8) : 0;
                    q[n][step][1] = exists && has_column(step * 16 + 8) ? __ldg(words + step * 8 + 4) : 0;
                }
            }
        }
    }

    /** A warp's accumulators: columns of the group's rows 2 (lane % 4) and + 1 of each eight. */
    template <int N_TILES> struct accumulators {
        float out[N_TILES][O_TILES][4];
        float origin[N_TILES][2];
        float sum[N_TILES][2]; /* of this lane's keys only, until the end */
    };

    /** Scores of a stage: keys lane / 4 and + 8 of each 16, rows 2 (lane % 4) and + 1 of each eight. */
    template <int N_TILES> struct score_tiles { float of[S_TILES][N_TILES][4]; };

    /** K of 16 keys for two steps, as A operands. */
    static __device__ __forceinline__ void load_k(uint32_t (&k)[2][4], uint32_t k_lane, int step, int t) {
        if constexpr (KV_BYTES == 1) {
            uint32_t codes[4]; /* keys lane / 4 and + 8 of a step, and of the next one */
            ptx_ldmatrix_x4(codes, step_chunk(k_lane, step / 2) + t * 16 * ROW_BYTES);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                k[i / 2][i % 2] = ELEMENT::even_codes(codes[i]);
                k[i / 2][i % 2 + 2] = ELEMENT::odd_codes(codes[i]);
            }
        } else {
            ptx_ldmatrix_x4(k[0], step_chunk(k_lane, step) + t * 16 * ROW_BYTES);
            ptx_ldmatrix_x4(k[1], step_chunk(k_lane, step + 1) + t * 16 * ROW_BYTES);
        }
    }

    template <int N_TILES>
    __device__ __forceinline__ void scores(score_tiles<N_TILES> &s, const uint32_t (&q)[N_TILES][K_STEPS][2],
                                           uint32_t k_smem) {
        uint32_t k_lane = k_smem + swizzle_chunk<ROW_BYTES>(lane % 16, lane / 16);
        float odd[S_TILES][N_TILES][4]; /* two chains hide half of the latency */
#pragma unroll
        for (int t = 0; t < S_TILES; t++) {
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) s.of[t][n][j] = odd[t][n][j] = 0.0f;
            }
        }
#pragma unroll
        for (int step = 0; step < K_STEPS; step += 2) {
#pragma unroll
            for (int t = 0; t < S_TILES; t++) {
                uint32_t k[2][4];
                load_k(k, k_lane, step, t);
#pragma unroll
                for (int n = 0; n < N_TILES; n++) {
                    ELEMENT::mma(s.of[t][n], k[0], q[n][step][0], q[n][step][1]);
                    ELEMENT::mma(odd[t][n], k[1], q[n][step + 1][0], q[n][step + 1][1]);
                }
            }
        }
#pragma unroll
        for (int t = 0; t < S_TILES; t++) {
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) s.of[t][n][j] += odd[t][n][j];
            }
        }
    }

    template <int N_TILES> __device__ __forceinline__ void softcap(score_tiles<N_TILES> &s) {
        float unit = ELEMENT::key_unit(params, smem.work.item.kv_head);
#pragma unroll
        for (int t = 0; t < S_TILES; t++) {
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) s.of[t][n][j] = softcap_score(params, s.of[t][n][j] * unit);
            }
        }
    }

    /** ALiBi: raw scores become those in log2 units. */
    template <int N_TILES> __device__ void bend(score_tiles<N_TILES> &s, int first_key) {
        float scale = alibi_scale<ELEMENT>(params, smem.work.item.kv_head);
        int position = smem.work.request.kv_len - smem.work.request.q_len;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                row_place place = place_small_row(params, n * 8 + lane % 4 * 2 + j);
                float step = alibi_step(params, smem.work.item.kv_head, place.head);
                int distance = first_key + lane / 4 - position - place.token;
#pragma unroll
                for (int t = 0; t < S_TILES; t++) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        float &score = s.of[t][n][half * 2 + j];
                        score = fmaf(step, (float)(distance + t * 16 + half * 8), score * scale);
                    }
                }
            }
        }
    }

    template <int N_TILES> __device__ void mask(score_tiles<N_TILES> &s, int first_key) {
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + lane % 4 * 2 + j;
                int32_t token = place_small_row(params, row).token;
                pod_key_range range = visible_keys(params, smem.work.request, token);
                tree_word<ALL_MASKS> tree(params, smem.work.request, token);
#pragma unroll
                for (int t = 0; t < S_TILES; t++) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        int key = first_key + t * 16 + half * 8 + lane / 4;
                        if (key < range.begin || key >= range.end || tree.hides(key))
                            s.of[t][n][half * 2 + j] = -INFINITY;
                    }
                }
            }
        }
    }

    /** Where a score is so far above its row's origin that its probability would exceed 2^POD_RESCALE_LOG2, the
     * origin becomes the stage's maximum; sum and output follow. Rare, so that most stages need one vote. */
    template <int N_TILES>
    __device__ __forceinline__ void raise(const score_tiles<N_TILES> &s, accumulators<N_TILES> &acc, float scale) {
        float max[N_TILES][2];
        bool above = false;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                max[n][j] = fmaxf(s.of[0][n][j], s.of[0][n][2 + j]);
#pragma unroll
                for (int t = 1; t < S_TILES; t++) {
                    max[n][j] = fmaxf(max[n][j], fmaxf(s.of[t][n][j], s.of[t][n][2 + j]));
                }
                above |= max[n][j] * scale - acc.origin[n][j] > POD_RESCALE_LOG2;
            }
        }
        if (!__any_sync(~0u, above)) return;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float row_max = fmaxf(max[n][j], __shfl_xor_sync(~0u, max[n][j], 4));
                row_max = fmaxf(row_max, __shfl_xor_sync(~0u, row_max, 8));
                row_max = fmaxf(row_max, __shfl_xor_sync(~0u, row_max, 16)) * scale;
                float factor = raise_row(acc.origin[n][j], acc.sum[n][j], row_max);
#pragma unroll
                for (int m = 0; m < O_TILES; m++) {
                    acc.out[n][m][j] *= factor;
                    acc.out[n][m][2 + j] *= factor;
                }
            }
        }
    }

    /** Scores to probabilities, and to the row sums. */
    template <int N_TILES>
    __device__ __forceinline__ void exponentials(score_tiles<N_TILES> &s, accumulators<N_TILES> &acc, float scale) {
#pragma unroll
        for (int t = 0; t < S_TILES; t++) {
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    s.of[t][n][j] = ptx_ex2(s.of[t][n][j] * scale - acc.origin[n][j % 2]);
                    acc.sum[n][j % 2] += s.of[t][n][j];
                }
            }
        }
    }

    __device__ __forceinline__ bool has_alibi() {
        return ALL_MASKS && params.alibi_slopes != nullptr;
    }

    /** Whether rows of an item may see what others do not, or hide what is below kv_len. */
    __device__ __forceinline__ bool rows_differ() {
        return smem.work.request.q_len > 1 || (ALL_MASKS && params.tree_mask != nullptr);
    }

    /** Whether not all rows see all keys of a stage, `key` from the item's first one. */
    __device__ __forceinline__ bool is_masked(int key, pod_key_range unmasked) {
        return key + STAGE_TOKENS > unmasked.end || key < unmasked.begin;
    }

    /** Takes what is not finite out of a stage of V whose keys not all rows see. */
    __device__ __forceinline__ void hide_values(uint32_t v_smem) {
        char *own = (char *)smem.ring + (v_smem - smem_address(smem.ring)) + lane * CHUNK_BYTES;
        if (hidden::template clear<STAGE_BYTES / CHUNK_BYTES / 32, 32 * CHUNK_BYTES>(own)) smem.work.has_lost = 1;
        __syncwarp();
    }

    /** Adds what was taken out to the rows that see it. */
    template <int N_TILES>
    __device__ __forceinline__ void add_lost(accumulators<N_TILES> &acc, pod_key_range unmasked) {
        const decode_work &work = smem.work;
#pragma unroll 1
        for (int32_t key = work.unseen_keys; key < work.end_key - work.first_key; key++) {
            if (!is_masked(key / STAGE_TOKENS * STAGE_TOKENS, unmasked)) continue;
            const uint16_t *value =
                hidden::value_of(params, work.item.request, work.item.kv_head, work.first_key + key) + lane / 4;
#pragma unroll
            for (int i = 0; i < 2 * N_TILES; i++) {
                int row = i / 2 * 8 + lane % 4 * 2 + i % 2;
                int32_t token = place_small_row(params, row).token;
                pod_key_range seen = visible_keys(params, work.request, token);
                if (work.first_key + key < seen.begin || work.first_key + key >= seen.end) continue;
                if (tree_word<ALL_MASKS>(params, work.request, token).hides(work.first_key + key)) continue;
#pragma unroll
                for (int chunk = 0; chunk < ROW_CHUNKS; chunk++) { /* the lane has column lane / 4 of each */
                    if (!has_value_column(chunk * 8)) continue;
                    float lost = hidden::lost(__ldg(value + chunk * 8)).x;
                    acc.out[i / 2][chunk / 2][chunk % 2 * 2 + i % 2] += lost;
                }
            }
        }
    }

    /** V of 16 keys for V_TILES tiles of 16 columns, as A operands. */
    static __device__ __forceinline__ void load_v(uint32_t (&v)[V_TILES][4], uint32_t v_lane, int m, int t) {
        if constexpr (KV_BYTES == 1) {
            uint32_t codes[4]; /* of the first eight keys both tiles, then of the others */
            ptx_ldmatrix_x4_trans(codes, step_chunk(v_lane, m / 2) + t * 16 * ROW_BYTES);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                v[i % 2][i / 2 * 2] = ELEMENT::even_codes(codes[i]);
                v[i % 2][i / 2 * 2 + 1] = ELEMENT::odd_codes(codes[i]);
            }
        } else {
            ptx_ldmatrix_x4_trans(v[0], step_chunk(v_lane, m) + t * 16 * ROW_BYTES);
        }
    }

    template <int N_TILES>
    __device__ __forceinline__ void accumulate(accumulators<N_TILES> &acc, const score_tiles<N_TILES> &s,
                                               uint32_t v_smem) {
        uint32_t v_lane = v_smem + swizzle_chunk<ROW_BYTES>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
        uint32_t p[S_TILES][N_TILES][2];
#pragma unroll
        for (int t = 0; t < S_TILES; t++) {
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
                p[t][n][0] = ptx_movmatrix_trans(ELEMENT::pack(s.of[t][n][0], s.of[t][n][1]));
                p[t][n][1] = ptx_movmatrix_trans(ELEMENT::pack(s.of[t][n][2], s.of[t][n][3]));
            }
        }
#pragma unroll
        for (int t = 0; t < S_TILES; t++) {
#pragma unroll
            for (int m = 0; m < O_TILES; m += V_TILES) {
                uint32_t v[V_TILES][4];
                load_v(v, v_lane, m, t);
#pragma unroll
                for (int i = 0; i < V_TILES; i++) {
#pragma unroll
                    for (int n = 0; n < N_TILES; n++) ELEMENT::mma(acc.out[n][m + i], v[i], p[t][n][0], p[t][n][1]);
                }
            }
        }
    }

    template <int N_TILES> __device__ __forceinline__ void run(accumulators<N_TILES> &acc) {
        const uint32_t first_slot = smem_address(smem.ring), last_slot = first_slot + (RING - 1) * STAGE_BYTES;
        float scale = row_scale<ELEMENT>(params, smem.work.item.kv_head);
        if constexpr (KV_BYTES == 1) {
            if (has_alibi()) scale = 1.0f; /* of elements it is, see params.h */
        }
        uint32_t q[N_TILES][K_STEPS][2];
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            acc.origin[n][0] = acc.origin[n][1] = NO_KEY_YET;
            acc.sum[n][0] = acc.sum[n][1] = 0.0f;
#pragma unroll
            for (int m = 0; m < O_TILES; m++) {
                acc.out[n][m][0] = acc.out[n][m][1] = acc.out[n][m][2] = acc.out[n][m][3] = 0.0f;
            }
        }
        key_source at = find_source();
        int num_stages = (at.num_keys + STAGE_TOKENS - 1) / STAGE_TOKENS;
        pod_key_range unmasked = {smem.work.unmasked.begin - smem.work.first_key,
                                  smem.work.unmasked.end - smem.work.first_key};
#pragma unroll 1
        for (int n = 0; n < RING; n++) {
            load<true>(at, n / 2, num_stages, n & 1, first_slot + n * STAGE_BYTES);
        }
        load_q<N_TILES>(q);

        uint32_t slot = first_slot;
#pragma unroll 1
        for (int stage = 0; stage < num_stages; stage++) {
            score_tiles<N_TILES> s;
            ptx_cp_async_wait<RING - 1>();
            __syncwarp();
            scores<N_TILES>(s, q, slot);
            __syncwarp();
            load<false>(at, stage + RING / 2, num_stages, RING & 1, slot);
            slot = slot == last_slot ? first_slot : slot + STAGE_BYTES;

            if (params.softcap_log2 > 0.0f) softcap<N_TILES>(s);
            int key = stage * STAGE_TOKENS;
            if (has_alibi()) bend<N_TILES>(s, smem.work.first_key + key);
            if (is_masked(key, unmasked)) mask<N_TILES>(s, smem.work.first_key + key);
            raise<N_TILES>(s, acc, scale);
            exponentials<N_TILES>(s, acc, scale);

            ptx_cp_async_wait<RING - 1>();
            __syncwarp();
            if constexpr (KV_BYTES == 2) { /* elements of codes are finite */
                if (is_masked(key, unmasked) && rows_differ()) hide_values(slot);
            }
            accumulate<N_TILES>(acc, s, slot);
            __syncwarp();
            load<false>(at, stage + (RING + 1) / 2, num_stages, (RING + 1) & 1, slot);
            slot = slot == last_slot ? first_slot : slot + STAGE_BYTES;
        }
        ptx_cp_async_wait<0>();
        __syncwarp();
        if constexpr (KV_BYTES == 2) {
            if (smem.work.has_lost) add_lost<N_TILES>(acc, unmasked);
        }
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float sum = acc.sum[n][j];
                sum += __shfl_xor_sync(~0u, sum, 4);
                sum += __shfl_xor_sync(~0u, sum, 8);
                acc.sum[n][j] = sum + __shfl_xor_sync(~0u, sum, 16);
                acc.origin[n][j] = partial_max(acc.origin[n][j]);
            }
        }
    }

    template <int N_TILES> __device__ void write_out(accumulators<N_TILES> &acc) {
        float unit = ELEMENT::value_unit(params, smem.work.item.kv_head);
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            float factor[2];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + lane % 4 * 2 + j;
                factor[j] = 0.0f;
                if (row < smem.work.num_rows) {
                    factor[j] = finish_row(params, smem.work.request, smem.work.item.kv_head, place_row(params, row),
                                           make_float2(acc.origin[n][j], acc.sum[n][j]), lane / 4 == 0) *
                                unit;
                }
            }
            int row = n * 8 + lane / 4; /* after the transposition a lane holds neighbouring columns of one row */
            bool exists = row < smem.work.num_rows;
            int64_t offset = out_offset(params, smem.work.request, smem.work.item.kv_head, exists ? row : 0);
            uint16_t *head = (uint16_t *)params.out + offset;
#pragma unroll
            for (int m = 0; m < O_TILES; m++) {
                float(&o)[4] = acc.out[n][m];
                uint32_t low = ptx_movmatrix_trans(ELEMENT::pack(o[0] * factor[0], o[1] * factor[1]));
                uint32_t high = ptx_movmatrix_trans(ELEMENT::pack(o[2] * factor[0], o[3] * factor[1]));
                if (!exists) continue;
                if constexpr (KV_BYTES == 1) {
                    if (!has_value_column(m * 16 + lane % 4 * 4)) continue;
                    *((uint2 *)(head + m * 16) + lane % 4) =
                        make_uint2(__byte_perm(low, high, 0x5410), __byte_perm(low, high, 0x7632));
                } else {
                    uint32_t *words = (uint32_t *)head + lane % 4;
                    if (has_value_column(m * 16)) words[m * 8] = low;
                    if (has_value_column(m * 16 + 8)) words[m * 8 + 4] = high;
                }
            }
        }
    }

    template <int N_TILES> __device__ void write_partial(const accumulators<N_TILES> &acc, int32_t slot) {
        int64_t first_row = (int64_t)slot * params.tiling.decode_rows;
        float *out = params.schedule.decode_partial_out + first_row * HEAD_DIM;
        float *sum = params.schedule.decode_partial_sum + first_row * 2;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + lane % 4 * 2 + j;
                if (row >= smem.work.num_rows) continue;
                if (lane / 4 == 0) *(float2 *)(sum + row * 2) = make_float2(acc.origin[n][j], acc.sum[n][j]);
#pragma unroll
                for (int m = 0; m < O_TILES; m++) {
                    float *columns = out + row * HEAD_DIM + m * 16;
                    if constexpr (KV_BYTES == 1) {
                        *((float2 *)columns + lane / 4) = make_float2(acc.out[n][m][j], acc.out[n][m][2 + j]);
                    } else {
                        columns[lane / 4] = acc.out[n][m][j];
                        columns[8 + lane / 4] = acc.out[n][m][2 + j];
                    }
                }
            }
        }
    }

    /** Joins the parts of a split item and writes its rows. */
    __device__ void merge() {
        typedef merge_shape<HEAD_DIM, 32, 4, 2, PADS> shape;
        merge_parts<ELEMENT, shape>(params, smem.work, params.tiling.decode_rows, 0, smem.work.num_rows, lane);
    }

    template <int N_TILES> __device__ void work_on_item() {
        accumulators<N_TILES> acc;
        run<N_TILES>(acc);
        lane = ptx_tid() % 32; /* anew: otherwise its addresses below live through all items, and would spill */
        if (smem.work.item.num_parts == 1) {
            write_out<N_TILES>(acc);
            return;
        }
        write_partial<N_TILES>(acc, pod_core_decode_slot(&smem.work.item, smem.work.item.part));
        part_counter counter = {&params.schedule.slice_counters[smem.work.item.first_slice], 0, ~0u};
        if (!count_part(part_warp{}, counter, smem.work.item.num_parts)) return;
        merge();
    }

    /** The slice that is taken `turn`-th, item after item. */
    __device__ void work_on(int32_t turn) {
        const pod_schedule_header *header = new_header(params);
        int32_t slice = pod_core_slice_at(&params.shape, header, turn);
        int32_t position = pod_core_slice_begin(header, slice);
        int32_t slice_end = pod_core_slice_begin(header, slice + 1);
        while (position < slice_end) {
            decode_work work = find_decode<STAGE_TOKENS, KV_BYTES, ALL_MASKS>(params, position, slice, slice_end, lane);
            if (lane == 0) smem.work = work;
            __syncwarp();
            if (MAX_N_TILES == 1 || smem.work.num_rows <= 8)
                work_on_item<1>();
            else
                work_on_item<MAX_N_TILES>();
            position += smem.work.item.num_tiles;
            __syncwarp(); /* all have read the work before the next one overwrites it */
        }
    }
};

#endif
