/* SPDX-License-Identifier: Apache-2.0 */
/* Prefill on sm_80: four warps work on 64 * M_TILES query rows against KV tiles of TILE_TOKENS keys.
 *
 * A warp owns 16 * M_TILES neighbouring rows. K and V have two stages of a tile each, filled a whole tile ahead:
 *
 *     iteration i    wait K(i) | barrier | S = Q K(i)' | start V(i + 1)    maxima, where needed masks and new maxima
 *                    wait V(i) | barrier | P = exp2(S - max), O += P V(i), in between start K(i + 2)
 *
 * The copies start after products, not before them: a tile's copies would fill the queue to shared memory before the
 * products' operands. A barrier says two things: every warp's copies have landed, and every warp is done
 * with the stage that the next copies overwrite. What one warp has to do more than another, all wait for: so places are
 * looked up for a whole window of tiles.
 *
 * Of a cache of e4m3 codes, a thread converts what it copied itself, after its wait and before the barrier. There is
 * one converted tile of K and one of V, and each is read between two of the other's barriers. */
#ifndef POD_SM80_PREFILL_CUH
#define POD_SM80_PREFILL_CUH

#include "cuda/kernels/cta.cuh"
#include "cuda/kernels/element.cuh"
#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/parts.cuh"
#include "cuda/kernels/sm80/find_sm80.cuh"
#include "cuda/kernels/sm80/hidden_sm80.cuh"
#include "cuda/kernels/softmax_row.cuh"

#include <cstddef>

template <class ELEMENT, int HEAD_DIM, class SHAPE> struct prefill_sm80 {
    static constexpr int M_TILES = SHAPE::M_TILES, TILE_TOKENS = SHAPE::TILE_TOKENS;
    static constexpr int KV_BYTES = ELEMENT::KV_BYTES;
    static constexpr bool PADS = SHAPE::PADS; /* keys and values may have fewer than HEAD_DIM elements */
    static constexpr bool ALL_MASKS = SHAPE::ALL_MASKS;
    typedef prefill_smem<HEAD_DIM, M_TILES, TILE_TOKENS, KV_BYTES> smem_type;
    typedef hidden_sm80<ELEMENT> hidden;
    static constexpr int ROWS = 64 * M_TILES;
    static constexpr int ROW_BYTES = HEAD_DIM * 2;
    static constexpr int ROW_CHUNKS = ROW_BYTES / CHUNK_BYTES;
    static constexpr int K_STEPS = HEAD_DIM / 16;    /* of Q K' */
    static constexpr int P_STEPS = TILE_TOKENS / 16; /* of P V */
    static constexpr int S_TILES = TILE_TOKENS / 8;
    static constexpr int O_TILES = HEAD_DIM / 8;
    static constexpr uint32_t TILE_BYTES = TILE_TOKENS * ROW_BYTES;
    static constexpr int KV_CHUNKS = HEAD_DIM * KV_BYTES / CHUNK_BYTES; /* of a key, of a value */
    static constexpr int ROW_STEP = PREFILL_THREADS / KV_CHUNKS, COPIES = TILE_TOKENS / ROW_STEP; /* of a thread */
    static constexpr uint32_t STAGE_BYTES = TILE_TOKENS * HEAD_DIM * KV_BYTES;
    /* Of a thread's copies: of elements each to its swizzled place, of codes to where nobody else looks. */
    static constexpr uint32_t COPY_STEP_BYTES = KV_BYTES == 2 ? ROW_STEP * ROW_BYTES : PREFILL_THREADS * CHUNK_BYTES;
    static_assert(ROW_CHUNKS >= 8, "the swizzle needs eight chunks per row");
    static_assert(PREFILL_THREADS % KV_CHUNKS == 0 && 32 % KV_CHUNKS == 0, "all threads copy whole rows");
    static_assert(32 % ROW_CHUNKS == 0, "all threads copy whole rows of Q");
    static_assert(KV_BYTES == 1 || ROW_STEP % 4 == 0, "a thread's rows have one swizzle, or two in turns");
    static_assert((16 % ROW_STEP == 0 || ROW_STEP % 16 == 0) && TILE_TOKENS % 16 == 0, "a copy stays inside a run");
    static_assert(TILE_TOKENS % ROW_STEP == 0, "all threads copy as many rows");
    static_assert(WINDOW_RUNS <= PREFILL_THREADS && WINDOW_RUNS >= TILE_TOKENS, "one thread looks one run up");

    const pod_kernel_params &params;
    smem_type &smem;
    uint32_t base; /* where the shared memory begins, in a uniform register */

    /** A warp's share of a tile, in the layout of mma's accumulators: rows lane / 4 and + 8 of each 16. */
    struct accumulators {
        float out[M_TILES][O_TILES][4];
        float origin[M_TILES][2];
        float sum[M_TILES][2]; /* of this thread's columns only, until the end */
    };
    typedef float score_tiles[M_TILES][S_TILES][4];

    /** Where a tile is copied to. */
    __device__ __forceinline__ uint32_t stage_smem(int is_value, int tile) {
        return base + offsetof(smem_type, kv) + (is_value * PREFILL_STAGES + (tile & 1)) * STAGE_BYTES;
    }

    /** Where products read it. */
    __device__ __forceinline__ uint32_t tile_smem(int is_value, int tile) {
        if constexpr (KV_BYTES == 2) return stage_smem(is_value, tile);
        return base + offsetof(smem_type, kv) + 2 * PREFILL_STAGES * STAGE_BYTES + is_value * TILE_BYTES;
    }

    /** Where a thread's copy `i` of a tile is, from its first one's address. */
    static __device__ __forceinline__ uint32_t copy_at(uint32_t first_smem, int i) {
        return (first_smem ^ (KV_BYTES == 2 ? i * ROW_STEP % 8 * CHUNK_BYTES : 0)) + i * COPY_STEP_BYTES;
    }

    /** Where the first of a thread's chunks of a tile is copied to. */
    __device__ __forceinline__ uint32_t copy_smem(int is_value, int tile, uint32_t thread) {
        uint32_t to = stage_smem(is_value, tile);
        if constexpr (KV_BYTES == 2) return to + swizzle_chunk<ROW_BYTES>(thread / KV_CHUNKS, thread % KV_CHUNKS);
        return to + thread * CHUNK_BYTES;
    }

    /** This thread of the four warps. */
    static __device__ __forceinline__ int own_thread() {
        return ptx_tid() % PREFILL_THREADS;
    }

    /** 0, but as if it could be another number at every call. NOTE: nvcc 13.0 moves every address that follows from the
     * lane or the step out of the loop, into more registers than there are, and spills them; it does not when it must
     * ask for 0. */
    __device__ __forceinline__ uint32_t new_zero() {
        return *(const volatile uint32_t *)&smem.work.zero;
    }

    static __device__ __forceinline__ void sync() {
        ptx_bar_sync(PREFILL_BARRIER, PREFILL_THREADS);
    }

    /** How many bytes of a chunk a query or key has (0), or a value or result (1): all that it does not have are zeros
     * in tiles. */
    __device__ __forceinline__ uint32_t bytes_of(int is_value, int chunk, int element_bytes) {
        return PADS ? chunk_bytes(chunk, dim_of(params, is_value) * element_bytes) : CHUNK_BYTES;
    }

    __device__ void load_q() {
        uint32_t q_smem = smem_address(smem.q);
        int t = own_thread(), chunk = t % ROW_CHUNKS;
        for (int row = t / ROW_CHUNKS; row < ROWS; row += PREFILL_THREADS / ROW_CHUNKS) {
            bool exists = row < smem.work.num_rows;
            int64_t offset = q_offset(params, smem.work.request, smem.work.item.kv_head,
                                      smem.work.item.entry.row_begin + (exists ? row : 0));
            ptx_cp_async_16_or_zeros(q_smem + swizzle_chunk<ROW_BYTES>(row, chunk),
                                     (const uint16_t *)params.q + offset + chunk * CHUNK_ELEMENTS,
                                     exists ? bytes_of(0, chunk, 2) : 0);
        }
    }

    /** Starts this thread's copies [BEGIN, END) of K (0) or V (1) of tile `tile`, if all of its keys exist and are in
     * runs, and says so. Without a branch, so that its arithmetic is mixed with products. */
    template <int BEGIN, int END> __device__ __forceinline__ bool copy_runs(int is_value, int tile, uint32_t zero) {
        /* A run has several of a thread's rows, or each of them is in a run of its own. */
        constexpr int RUN_STEP = ROW_STEP > 16 ? ROW_STEP / 16 : 1;
        constexpr int FIRST_RUN = BEGIN * ROW_STEP / 16, LAST_RUN = (END - 1) * ROW_STEP / 16;
        constexpr int NUM_RUNS = (LAST_RUN - FIRST_RUN) / RUN_STEP + 1;
        uint32_t thread = own_thread() + zero, chunk = thread % KV_CHUNKS, first_row = thread / KV_CHUNKS;
        const prefill_source source = smem.work.sources[is_value];
        bool is_run = tile < source.num_run_tiles;
        /* Tiles out of range read a fixed address instead. */
        const uint32_t *places = is_run
                                     ? &smem.places[is_value][tile * (TILE_TOKENS / 16) % (2 * WINDOW_RUNS) + FIRST_RUN]
                                     : (const uint32_t *)&smem.work.sources;
        if constexpr (RUN_STEP > 1) places += first_row / 16;
        uint32_t place[NUM_RUNS]; /* all before the first copy: nvcc moves no load across one */
        if constexpr (NUM_RUNS == 2 && RUN_STEP == 1) {
            uint2 pair = *(const uint2 *)places;
            place[0] = pair.x;
            place[1] = pair.y;
        } else {
#pragma unroll
            for (int i = 0; i < NUM_RUNS; i++) place[i] = places[i * RUN_STEP];
        }
        uint32_t to = copy_smem(is_value, tile, thread);
        uint32_t token_chunks = source.token_chunks, of_thread = first_row % 16 * token_chunks + chunk;
#pragma unroll
        for (int i = BEGIN; i < END; i++) {
            uint32_t of_run = place[(i * ROW_STEP / 16 - FIRST_RUN) / RUN_STEP];
            uint32_t from = of_run + of_thread + i * ROW_STEP % 16 * token_chunks;
            const char *from_gmem = ptx_mad_wide(from, CHUNK_BYTES, source.head);
            if constexpr (PADS)
                ptx_cp_async_16_or_zeros_if(is_run, copy_at(to, i), from_gmem, bytes_of(is_value, chunk, KV_BYTES));
            else
                ptx_cp_async_16_if(is_run, copy_at(to, i), from_gmem);
        }
        return is_run;
    }

    /** Copies any other tile, if there is one: where runs are single keys or not all keys exist. Those that do not, and
     * those before `first_key`, become zeros. */
    __device__ __forceinline__ void copy_keys(int is_value, int tile, int first_key = 0) {
        if (tile >= smem.work.range.num_tiles) return;
        const prefill_source source = smem.work.sources[is_value];
        int t = own_thread(), chunk = t % KV_CHUNKS, shift = smem.work.run_shift;
        uint32_t to = copy_smem(is_value, tile, t);
#pragma unroll 1
        for (int i = 0; i < COPIES; i++) {
            int key = tile * TILE_TOKENS + t / KV_CHUNKS + i * ROW_STEP;
            uint32_t of_run = smem.places[is_value][(key >> shift) % (2 * WINDOW_RUNS)];
            uint32_t from = chunk_in_run(of_run, key, shift, source.token_chunks) + chunk;
            ptx_cp_async_16_or_zeros(copy_at(to, i), ptx_mad_wide(from, CHUNK_BYTES, source.head),
                                     key >= first_key && key < smem.work.num_keys ? bytes_of(is_value, chunk, KV_BYTES)
                                                                                  : 0);
        }
    }

    __device__ __forceinline__ void copy_tile(int is_value, int tile) {
        if (!copy_runs<0, COPIES>(is_value, tile, 0)) copy_keys(is_value, tile);
    }

    /** The first tile: before a window, the cache and the page table may hold anything, also NaN. */
    __device__ __forceinline__ void copy_first_tile(int is_value) {
        int32_t unseen = smem.work.unseen_keys;
        if (unseen > 0)
            copy_keys(is_value, 0, unseen);
        else
            copy_tile(is_value, 0);
    }

    /** Elements for the codes of a tile that this thread has copied, and which have landed. */
    __device__ __forceinline__ void convert_tile(int is_value, int tile) {
        uint32_t t = own_thread() + new_zero(), chunk = t % KV_CHUNKS * 2;
        const uint4 *codes = (const uint4 *)smem.kv.stages[is_value][tile & 1] + t;
        char *to = (char *)smem.kv.converted[is_value];
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            uint4 of = codes[i * PREFILL_THREADS];
            uint2 pairs[] = {ELEMENT::convert(of.x), ELEMENT::convert(of.y), ELEMENT::convert(of.z),
                             ELEMENT::convert(of.w)};
            uint32_t row = t / KV_CHUNKS + i * ROW_STEP;
            *(uint4 *)(to + swizzle_chunk<ROW_BYTES>(row, chunk)) =
                make_uint4(pairs[0].x, pairs[0].y, pairs[1].x, pairs[1].y);
            *(uint4 *)(to + swizzle_chunk<ROW_BYTES>(row, chunk + 1)) =
                make_uint4(pairs[2].x, pairs[2].y, pairs[3].x, pairs[3].y);
        }
    }

    /* A thread looks one run of a window up: first its page, which comes to shared memory by itself, two windows later
     * its place. */
    __device__ __forceinline__ bool has_run(int window, int32_t *key) {
        *key = (window * WINDOW_RUNS + own_thread()) << smem.work.run_shift;
        return own_thread() < WINDOW_RUNS && *key < smem.work.num_keys;
    }

    /** Joins the next group of copies. */
    __device__ __forceinline__ void fetch_page(int window) {
        int32_t key;
        if (params.page_table == nullptr || !has_run(window, &key)) return;
        ptx_cp_async_4(
            smem_address(&smem.pages[window % 2 * WINDOW_RUNS + own_thread()]),
            page_entry(params, smem.work.item.entry.request, key_slot(params, smem.work.first_key + key).page_idx));
    }

    __device__ __forceinline__ void keep_place(int window) {
        int32_t key;
        if (!has_run(window, &key)) return;
        int run = window % 2 * WINDOW_RUNS + own_thread();
        int32_t page = params.page_table == nullptr ? smem.work.item.entry.request : smem.pages[run];
        key_place place = locate_key<KV_BYTES>(params, page, smem.work.first_key + key);
        smem.places[0][run] = place.k_chunk;
        smem.places[1][run] = place.v_chunk;
    }

    /** The places of a window: once those of the last but one are no longer needed. */
    __device__ __forceinline__ void look_up(int window) {
        if (window < 2) return; /* they are there from the beginning */
        keep_place(window);
        fetch_page(window + 2);
    }

    /** A lane's address of a tile's first step in the first product: Q as A, K as B. */
    static __device__ __forceinline__ uint32_t q_lane(uint32_t q_smem, uint32_t thread) {
        uint32_t lane = thread % 32;
        return q_smem + swizzle_chunk<ROW_BYTES>(thread / 32 * 16 * M_TILES + lane % 16, lane / 16);
    }
    static __device__ __forceinline__ uint32_t k_lane(uint32_t k_smem, uint32_t thread) {
        uint32_t lane = thread % 32;
        return k_smem + swizzle_chunk<ROW_BYTES>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    }

    /** S = Q K'. Between the products, the copies of the next tile's V start, if it is in runs. */
    __device__ __forceinline__ bool scores(score_tiles &s, uint32_t q_lane, uint32_t k_lane, int tile, uint32_t zero) {
        bool is_run = false;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int n = 0; n < S_TILES; n++) s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.0f;
        }
#pragma unroll
        for (int step = 0; step < K_STEPS; step++) {
            uint32_t q[M_TILES][4];
            if constexpr (COPIES > 1) {
                if (step == 1) copy_runs<0, COPIES / 2>(1, tile + 1, zero);
            }
            if (step == 2) is_run = copy_runs<COPIES / 2, COPIES>(1, tile + 1, zero);
#pragma unroll
            for (int m = 0; m < M_TILES; m++) ptx_ldmatrix_x4(q[m], step_chunk(q_lane, step) + m * 16 * ROW_BYTES);
#pragma unroll
            for (int n = 0; n < S_TILES / 2; n++) {
                uint32_t k[4];
                ptx_ldmatrix_x4(k, step_chunk(k_lane, step) + n * 16 * ROW_BYTES);
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    ELEMENT::mma(s[m][2 * n], q[m], k[0], k[1]);
                    ELEMENT::mma(s[m][2 * n + 1], q[m], k[2], k[3]);
                }
            }
        }
        return is_run;
    }

    __device__ __forceinline__ void softcap(float (&s)[M_TILES][S_TILES][4]) {
        float unit = ELEMENT::key_unit(params, smem.work.item.kv_head);
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int n = 0; n < S_TILES; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) s[m][n][j] = softcap_score(params, s[m][n][j] * unit);
            }
        }
    }

    /** One of this thread's rows of the tile. */
    static __device__ __forceinline__ int own_row(int m, int half) {
        return (own_thread() / 32 * M_TILES + m) * 16 + half * 8 + own_thread() % 32 / 4;
    }

    /** Keys that it sees, from the work's first one. */
    __device__ __forceinline__ pod_key_range seen_keys(int m, int half) {
        int warp = own_thread() / 32, lane = own_thread() % 32;
        int32_t window_tokens = params.shape.window_tokens;
        int32_t position = smem.positions[(warp * M_TILES + m) * 16 + half * 8 + lane / 4];
        pod_key_range seen = {window_tokens > 0 ? position - window_tokens + 1 : 0,
                              smem.work.request.is_causal ? position + 1 : smem.work.num_keys};
        if constexpr (ALL_MASKS) {
            int32_t right = pod_core_right_window(&params.shape);
            if (right > 0) seen.end = min(seen.end, position + right);
        }
        return seen;
    }

    /** Its word of the tree mask, for keys from the work's first one. */
    __device__ __forceinline__ tree_word<ALL_MASKS> own_tree(int m, int half) {
        const prefill_work &work = smem.work;
        int32_t token = smem.positions[own_row(m, half)] + work.first_key - (work.request.kv_len - work.request.q_len);
        return tree_word<ALL_MASKS>(params, work.request, token, work.first_key);
    }

    __device__ __forceinline__ bool has_alibi() {
        return ALL_MASKS && params.alibi_slopes != nullptr;
    }

    /** ALiBi: raw scores become those in log2 units. */
    __device__ __forceinline__ void bend(score_tiles &s, int key) {
        float scale = alibi_scale<ELEMENT>(params, smem.work.item.kv_head);
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = own_row(m, half) + (int)new_zero();
                int head = place_row(params, smem.work.item.entry.row_begin + row).head;
                float step = alibi_step(params, smem.work.item.kv_head, head);
                int distance = key + own_thread() % 4 * 2 - smem.positions[row];
#pragma unroll
                for (int n = 0; n < S_TILES; n++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        float &score = s[m][n][half * 2 + j];
                        score = fmaf(step, (float)(distance + n * 8 + j), score * scale);
                    }
                }
            }
        }
    }

    /** Takes out what a row may not see. Only for tiles on an edge of what the rows see. `key`: the scores' first one.
     */
    __device__ __forceinline__ void mask(score_tiles &s, int key) {
        int own_key = key + own_thread() % 4 * 2;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                pod_key_range seen = seen_keys(m, half);
                tree_word<ALL_MASKS> tree = own_tree(m, half);
#pragma unroll
                for (int n = 0; n < S_TILES; n++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        int at = own_key + n * 8 + j;
                        if (at < seen.begin || at >= seen.end || tree.hides(at)) s[m][n][half * 2 + j] = -INFINITY;
                    }
                }
            }
        }
    }

    __device__ __forceinline__ void find_positions() {
        int t = own_thread();
        if (t >= ROWS) return;
        int32_t token = place_row(params, smem.work.item.entry.row_begin + t).token;
        smem.positions[t] = smem.work.request.kv_len - smem.work.request.q_len + token - smem.work.first_key;
    }

    /** Where a score is so far above its row's origin that its probability would exceed 2^POD_RESCALE_LOG2, the origin
     * becomes the tile's maximum; sum and output follow. Rare. */
    static __device__ __forceinline__ void raise(const score_tiles &s, accumulators &acc, float scale) {
        float max[M_TILES][2];
        bool above = false;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                max[m][half] = fmaxf(s[m][0][half * 2], s[m][0][half * 2 + 1]);
#pragma unroll
                for (int n = 1; n < S_TILES; n++) {
                    max[m][half] = fmaxf(max[m][half], fmaxf(s[m][n][half * 2], s[m][n][half * 2 + 1]));
                }
                above |= max[m][half] * scale - acc.origin[m][half] > POD_RESCALE_LOG2;
            }
        }
        if (__builtin_expect(!__any_sync(~0u, above), 1)) return;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float row_max = fmaxf(max[m][half], __shfl_xor_sync(~0u, max[m][half], 1));
                row_max = fmaxf(row_max, __shfl_xor_sync(~0u, row_max, 2)) * scale;
                float factor = raise_row(acc.origin[m][half], acc.sum[m][half], row_max);
#pragma unroll
                for (int n = 0; n < O_TILES; n++) {
                    acc.out[m][n][half * 2] *= factor;
                    acc.out[m][n][half * 2 + 1] *= factor;
                }
            }
        }
    }

    /** The scores of 16 keys to probabilities, as A operands, and to the row sums. */
    static __device__ __forceinline__ void exponentials(uint32_t (&p)[M_TILES][4], const score_tiles &s,
                                                        accumulators &acc, float scale, int step) {
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    float low = ptx_ex2(s[m][2 * step + n][half * 2] * scale - acc.origin[m][half]);
                    float high = ptx_ex2(s[m][2 * step + n][half * 2 + 1] * scale - acc.origin[m][half]);
                    acc.sum[m][half] += low;
                    acc.sum[m][half] += high;
                    p[m][n * 2 + half] = ELEMENT::pack(low, high);
                }
            }
        }
    }

    /** Takes what is not finite out of V of a tile whose keys not all rows see: out of what this thread copied. */
    __device__ __forceinline__ void hide_values(int tile) {
        constexpr int SWIZZLES = ROW_STEP % 8 == 0 ? 1 : 2; /* of this thread's rows, in turns */
        int t = own_thread();
        bool has_lost = false;
#pragma unroll
        for (int i = 0; i < SWIZZLES; i++) {
            char *own = (char *)smem.kv.stages[1][tile & 1] +
                        swizzle_chunk<ROW_BYTES>(t / ROW_CHUNKS + i * ROW_STEP, t % ROW_CHUNKS);
            has_lost |= hidden::template clear<COPIES / SWIZZLES, SWIZZLES * ROW_STEP * ROW_BYTES>(own);
        }
        if (has_lost) smem.work.has_lost = 1;
    }

    /** Adds what was taken out to the rows that see it. */
    __device__ __forceinline__ void add_lost(accumulators &acc) {
        const prefill_work &work = smem.work;
        int32_t end = min(work.num_keys, work.range.num_tiles * TILE_TOKENS);
#pragma unroll 1
        for (int32_t key = work.unseen_keys; key < end; key++) {
            int32_t tile = key / TILE_TOKENS;
            if (tile >= work.range.unmasked_begin && tile < work.range.unmasked_end) continue;
            const uint16_t *value =
                hidden::value_of(params, work.item.entry.request, work.item.kv_head, work.first_key + key) +
                own_thread() % 4 * 2;
#pragma unroll
            for (int i = 0; i < 2 * M_TILES; i++) {
                pod_key_range seen = seen_keys(i / 2, i % 2);
                if (key < seen.begin || key >= seen.end || own_tree(i / 2, i % 2).hides(key)) continue;
#pragma unroll
                for (int n = 0; n < O_TILES; n++) {
                    if (PADS && n * 8 >= params.v_head_dim) continue;
                    float2 lost = hidden::lost(__ldg((const uint32_t *)(value + n * 8)));
                    acc.out[i / 2][n][i % 2 * 2] += lost.x;
                    acc.out[i / 2][n][i % 2 * 2 + 1] += lost.y;
                }
            }
        }
    }

    /** O += P V, with P of 16 keys at a time, so that exponentials run beside products. Between them the
     * copies of K start, of the tile after the next one: earlier they would delay the products' operands. */
    __device__ __forceinline__ bool accumulate(accumulators &acc, const score_tiles &s, float scale, int tile,
                                               uint32_t zero) {
        bool is_run = false;
        uint32_t lane = (own_thread() + zero) % 32;
        uint32_t v_lane = tile_smem(1, tile) + swizzle_chunk<ROW_BYTES>(lane % 16, lane / 16);
#pragma unroll
        for (int step = 0; step < P_STEPS; step++) {
            uint32_t p[M_TILES][4];
            if (step == 1) is_run = copy_runs<0, COPIES>(0, tile + 2, zero);
            exponentials(p, s, acc, scale, step);
#pragma unroll
            for (int n = 0; n < O_TILES; n += 2) {
                uint32_t v[4];
                ptx_ldmatrix_x4_trans(v, step_chunk(v_lane, n / 2) + step * 16 * ROW_BYTES);
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    ELEMENT::mma(acc.out[m][n], p[m], v[0], v[1]);
                    ELEMENT::mma(acc.out[m][n + 1], p[m], v[2], v[3]);
                }
            }
        }
        return is_run;
    }

    /** The whole KV range of the smem.work. Leaves full row sums in every thread of a quad, and maximum -inf where
     * there is none. */
    __device__ __forceinline__ void run(accumulators &acc) {
        float scale = row_scale<ELEMENT>(params, smem.work.item.kv_head);
        if constexpr (KV_BYTES == 1) {
            if (has_alibi()) scale = 1.0f; /* of elements it is, see params.h */
        }
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            acc.origin[m][0] = acc.origin[m][1] = NO_KEY_YET;
            acc.sum[m][0] = acc.sum[m][1] = 0.0f;
#pragma unroll
            for (int n = 0; n < O_TILES; n++) {
                acc.out[m][n][0] = acc.out[m][n][1] = acc.out[m][n][2] = acc.out[m][n][3] = 0.0f;
            }
        }

        for (int window = 0; window < 2; window++) fetch_page(window);
        ptx_cp_async_commit();
        load_q(); /* under way while places are looked up */
        ptx_cp_async_commit();
        ptx_cp_async_wait<1>();
        for (int window = 0; window < 2; window++) {
            keep_place(window);
            fetch_page(window + 2);
        }
        find_positions();
        sync();
        copy_first_tile(0);
        ptx_cp_async_commit();
        copy_first_tile(1);
        ptx_cp_async_commit();
        copy_tile(0, 1);
        ptx_cp_async_commit();
#pragma unroll 1
        for (int i = 0; i < smem.work.range.num_tiles; i++) {
            score_tiles s;
            uint32_t zero = new_zero();
            uint32_t q_smem = q_lane(base + offsetof(smem_type, q), own_thread() + zero);
            uint32_t k_smem = k_lane(tile_smem(0, i), own_thread() + zero);
            ptx_cp_async_wait<2>();
            if constexpr (KV_BYTES == 1) convert_tile(0, i);
            sync(); /* K(i) has landed */
            bool is_run = scores(s, q_smem, k_smem, i, zero);
            const prefill_range range =
                smem.work.range; /* read anew: cheaper than registers that live through the loop */
            if (__builtin_expect(!is_run, 0)) copy_keys(1, i + 1);
            if (__builtin_expect(((i + 2) & (range.window_tiles - 1)) == 0, 0)) {
                look_up((i + 2) / range.window_tiles);
            }
            ptx_cp_async_commit();
            if (__builtin_expect(params.softcap_log2 > 0.0f, 0)) softcap(s);
            bool is_masked = i < range.unmasked_begin || i >= range.unmasked_end;
            if (has_alibi()) bend(s, i * TILE_TOKENS);
            if (__builtin_expect(is_masked, 0)) mask(s, i * TILE_TOKENS);
            raise(s, acc, scale);
            zero = new_zero();
            ptx_cp_async_wait<2>();
            if constexpr (KV_BYTES == 1) {
                convert_tile(1, i); /* to finite numbers */
            } else {
                if (__builtin_expect(is_masked, 0)) hide_values(i);
            }
            sync(); /* V(i) has landed */
            is_run = accumulate(acc, s, scale, i, zero);
            if (__builtin_expect(!is_run, 0)) copy_keys(0, i + 2);
            ptx_cp_async_commit();
        }
        ptx_cp_async_wait<0>();
        if constexpr (KV_BYTES == 2) {
            if (__builtin_expect(smem.work.has_lost, 0)) add_lost(acc);
        }
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float sum = acc.sum[m][half];
                sum += __shfl_xor_sync(~0u, sum, 1);
                acc.sum[m][half] = sum + __shfl_xor_sync(~0u, sum, 2);
                acc.origin[m][half] = partial_max(acc.origin[m][half]);
            }
        }
    }

    /** Normalises and writes whole rows, through the warp's own rows of the Q tile so that stores are 16 bytes. */
    __device__ void write_out(accumulators &acc) {
        int warp = own_thread() / 32, lane = own_thread() % 32;
        char *q_tile = (char *)smem.q;
        float unit = ELEMENT::value_unit(params, smem.work.item.kv_head);
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int tile_row = (warp * M_TILES + m) * 16 + half * 8 + lane / 4;
                bool exists = tile_row < smem.work.num_rows;
                float factor = 0.0f;
                if (exists) {
                    factor = finish_row(params, smem.work.request, smem.work.item.kv_head,
                                        place_row(params, smem.work.item.entry.row_begin + tile_row),
                                        make_float2(acc.origin[m][half], acc.sum[m][half]), lane % 4 == 0) *
                             unit;
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
            if (tile_row >= smem.work.num_rows) break;
            if (PADS && bytes_of(1, chunk, 2) == 0) continue;
            int64_t offset = out_offset(params, smem.work.request, smem.work.item.kv_head,
                                        smem.work.item.entry.row_begin + tile_row);
            *(uint4 *)((uint16_t *)params.out + offset + chunk * CHUNK_ELEMENTS) =
                *(const uint4 *)(q_tile + swizzle_chunk<ROW_BYTES>(tile_row, chunk));
        }
    }

    /** Keeps a part of a split tile. */
    __device__ void write_partial(accumulators &acc, int32_t slot) {
        int warp = own_thread() / 32, lane = own_thread() % 32;
        float *out = params.schedule.prefill_partial_out + (int64_t)slot * ROWS * HEAD_DIM;
        float *sum = params.schedule.prefill_partial_sum + (int64_t)slot * ROWS * 2;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = (warp * M_TILES + m) * 16 + half * 8 + lane / 4;
                if (row >= smem.work.num_rows) continue;
                if (lane % 4 == 0) *(float2 *)(sum + row * 2) = make_float2(acc.origin[m][half], acc.sum[m][half]);
#pragma unroll
                for (int n = 0; n < O_TILES; n++) {
                    *(float2 *)(out + row * HEAD_DIM + n * 8 + lane % 4 * 2) =
                        make_float2(acc.out[m][n][half * 2], acc.out[m][n][half * 2 + 1]);
                }
            }
        }
    }

    /** Joins the parts of a split tile and writes its rows. */
    __device__ void merge() {
        typedef merge_shape<HEAD_DIM, PREFILL_THREADS, 4, 2, PADS> shape;
        merge_parts<ELEMENT, shape>(params, smem.work, ROWS, 0, smem.work.num_rows, own_thread());
    }

    /** Ticket `index` of the prefill queue, from its entry to its written rows. */
    __device__ void work_on(int32_t index) {
        bool is_first_thread = own_thread() == 0;
        if (is_first_thread) smem.work = find_prefill<ROWS, TILE_TOKENS, KV_BYTES, ALL_MASKS>(params, index);
        sync();
        accumulators acc;
        run(acc);
        if (smem.work.item.entry.num_parts == 1) {
            write_out(acc);
            return;
        }
        write_partial(acc, smem.work.item.first_slot + smem.work.item.entry.part);
        part_counter counter = {&params.schedule.part_counters[smem.work.item.first_slot], 0, ~0u};
        if (!count_part(part_warps{PREFILL_BARRIER, &smem.work.is_last}, counter, smem.work.item.entry.num_parts))
            return;
        merge();
    }
};

#endif
