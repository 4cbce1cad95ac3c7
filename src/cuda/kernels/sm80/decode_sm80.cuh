/* SPDX-License-Identifier: Apache-2.0 */
/* Decode on sm_80: each warp is a virtual CTA with a slice of its own.
 *
 * Operands are swapped: sixteen cached keys are the M of the product, the query rows of the group its N, so a GQA
 * decode of eight rows wastes nothing. S' = K Q'      16 keys x 8 rows per mma; Q stays in registers as B O' = V' P' 16
 * columns x 8 rows per mma; P' comes from S' by movmatrix K and V come in stages of 16 keys through a ring of the
 * warp's own: K(0) V(0) K(1) V(1) …, RING of them under way. Nothing waits for another warp. */
#ifndef POD_SM80_DECODE_CUH
#define POD_SM80_DECODE_CUH

#include "../access.cuh"
#include "../decode_line.cuh"
#include "../element.cuh"
#include "../merge_parts.cuh"

enum { DECODE_STAGE_TOKENS = 16, DECODE_TILE_TOKENS = 64 };

/** An item of a slice. It stands in shared memory: registers are what the accumulators need. */
struct decode_work {
    pod_request request;
    pod_decode_item item;
    int32_t num_rows;
    int32_t first_key, end_key;
    int32_t unmasked_begin; /* every row sees the keys [unmasked_begin, unmasked_end) */
    int32_t unmasked_end;
    const char *heads[2]; /* of K, of V */
};

template <int HEAD_DIM, int RING> struct alignas(256) decode_warp_smem {
    uint16_t ring[RING][DECODE_STAGE_TOKENS][HEAD_DIM];
    key_place places[2][DECODE_TILE_TOKENS]; /* of this tile's and the next one's keys */
    decode_work work;
};

template <class ELEMENT, int HEAD_DIM, int RING, int MAX_N_TILES> struct decode_sm80 {
    typedef decode_warp_smem<HEAD_DIM, RING> smem_type;
    static constexpr int ROW_BYTES = HEAD_DIM * 2;
    static constexpr int ROW_CHUNKS = ROW_BYTES / CHUNK_BYTES;
    static constexpr int K_STEPS = HEAD_DIM / 16;
    static constexpr int O_TILES = HEAD_DIM / 16; /* of 16 columns: the M of the second product */
    static constexpr int STAGE_BYTES = DECODE_STAGE_TOKENS * ROW_BYTES;
    static constexpr int STAGES_PER_TILE = DECODE_TILE_TOKENS / DECODE_STAGE_TOKENS;

    /** Looks up where the keys of a tile stand; two keys per lane. */
    static __device__ __forceinline__ void locate_tile(const pod_kernel_params &params, smem_type &smem,
                                                       const decode_work &work, int tile, int lane) {
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int key = work.first_key + tile * DECODE_TILE_TOKENS + lane + 32 * i;
            key_place place = {0, 0};
            if (key < work.end_key) place = locate_key(params, load_page(params, work.item.request, key), key);
            smem.places[tile & 1][lane + 32 * i] = place;
        }
        __syncwarp();
    }

    /** Copies this lane's chunks of a stage. FULL: all of its keys exist; else keys from `keys_left` on become zeros.
     */
    template <bool FULL>
    static __device__ __forceinline__ void copy_stage(const key_place *places, uint32_t to, const char *head_base,
                                                      bool is_value, int lane, int keys_left, uint64_t policy) {
        constexpr int ROW_STEP = 32 / ROW_CHUNKS, COPIES = DECODE_STAGE_TOKENS / ROW_STEP;
        int chunk = lane % ROW_CHUNKS, first_row = lane / ROW_CHUNKS;
        const char *base = head_base + chunk * CHUNK_BYTES;
        uint32_t place[COPIES]; /* all before the first copy: nvcc moves no load across one */
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const key_place *of_row = places + first_row + i * ROW_STEP;
            place[i] = is_value ? of_row->v_chunk : of_row->k_chunk;
        }
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            int row = first_row + i * ROW_STEP;
            const char *from = base + (uint64_t)place[i] * CHUNK_BYTES;
            if (FULL)
                ptx_cp_async_16_policy(to + swizzle_chunk<ROW_BYTES>(row, chunk), from, policy);
            else
                ptx_cp_async_16_or_zeros(to + swizzle_chunk<ROW_BYTES>(row, chunk), from,
                                         row < keys_left ? CHUNK_BYTES : 0);
        }
    }

    /** Starts load `n` of the sequence K(0) V(0) K(1) …; every call commits one group, also behind the end. */
    static __device__ __forceinline__ void load(const pod_kernel_params &params, smem_type &smem,
                                                const decode_work &work, int n, int num_stages, uint64_t policy,
                                                int lane) {
        int stage = n / 2;
        if (stage < num_stages) {
            bool is_value = n & 1;
            if (!is_value && stage % STAGES_PER_TILE == 0) {
                locate_tile(params, smem, work, stage / STAGES_PER_TILE, lane);
            }
            const key_place *places = smem.places[stage / STAGES_PER_TILE & 1] + stage % STAGES_PER_TILE * 16;
            const char *base = work.heads[is_value];
            uint32_t to = ptx_smem(smem.ring) + n % RING * STAGE_BYTES;
            int keys_left = work.end_key - work.first_key - stage * DECODE_STAGE_TOKENS;
            if (keys_left >= DECODE_STAGE_TOKENS)
                copy_stage<true>(places, to, base, is_value, lane, keys_left, policy);
            else
                copy_stage<false>(places, to, base, is_value, lane, keys_left, policy);
        }
        ptx_cp_async_commit();
    }

    /** The item's query rows as B operands: lane / 4 is the row, its columns 2 (lane % 4) and + 8 of each step. */
    template <int N_TILES>
    static __device__ __forceinline__ void load_q(const pod_kernel_params &params, const decode_work &work,
                                                  uint32_t (&q)[N_TILES][K_STEPS][2], int lane) {
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            int row = n * 8 + lane / 4;
            bool exists = row < work.num_rows;
            int64_t offset = q_offset(params, work.request, work.item.kv_head, exists ? row : 0);
            const uint32_t *words = (const uint32_t *)((const uint16_t *)params.q + offset) + lane % 4;
#pragma unroll
            for (int step = 0; step < K_STEPS; step++) {
                q[n][step][0] = exists ? __ldg(words + step * 8) : 0;
                q[n][step][1] = exists ? __ldg(words + step * 8 + 4) : 0;
            }
        }
    }

    /** A warp's accumulators: columns of the group's rows 2 (lane % 4) and + 1 of each eight. */
    template <int N_TILES> struct accumulators {
        float out[N_TILES][O_TILES][4];
        float max[N_TILES][2]; /* raw score units, or log2 units with a softcap */
        float sum[N_TILES][2]; /* of this lane's keys only, until the end */
    };

    template <int N_TILES>
    static __device__ __forceinline__ void scores(float (&s)[N_TILES][4], const uint32_t (&q)[N_TILES][K_STEPS][2],
                                                  uint32_t k_smem, int lane) {
        uint32_t k_lane = k_smem + swizzle_chunk<ROW_BYTES>(lane % 16, lane / 16);
        float odd[N_TILES][4]; /* two chains hide half of the latency */
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) s[n][j] = odd[n][j] = 0.0f;
        }
#pragma unroll
        for (int step = 0; step < K_STEPS; step += 2) {
            uint32_t k[2][4];
            ptx_ldmatrix_x4(k[0], k_lane ^ (step * 2 * CHUNK_BYTES));
            ptx_ldmatrix_x4(k[1], k_lane ^ ((step + 1) * 2 * CHUNK_BYTES));
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
                ELEMENT::mma(s[n], k[0], q[n][step][0], q[n][step][1]);
                ELEMENT::mma(odd[n], k[1], q[n][step + 1][0], q[n][step + 1][1]);
            }
        }
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) s[n][j] += odd[n][j];
        }
    }

    template <int N_TILES>
    static __device__ void mask(const pod_kernel_params &params, const decode_work &work, float (&s)[N_TILES][4],
                                int first_key, int lane) {
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + lane % 4 * 2 + j;
                key_range range = visible_keys(params, work.request, row / params.shape.group);
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    int key = first_key + lane / 4 + half * 8;
                    if (key < range.begin || key >= range.end) s[n][half * 2 + j] = -INFINITY;
                }
            }
        }
    }

    template <int N_TILES>
    static __device__ __forceinline__ void softmax(float (&s)[N_TILES][4], accumulators<N_TILES> &acc, float scale) {
        float factor[N_TILES][2];
        bool moved = false;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float max = fmaxf(acc.max[n][j], fmaxf(s[n][j], s[n][2 + j]));
                max = fmaxf(max, __shfl_xor_sync(~0u, max, 4));
                max = fmaxf(max, __shfl_xor_sync(~0u, max, 8));
                max = fmaxf(max, __shfl_xor_sync(~0u, max, 16));
                float origin = max == -INFINITY ? 0.0f : max * scale;
                factor[n][j] = ptx_ex2(acc.max[n][j] * scale - origin);
                moved |= max != acc.max[n][j];
                acc.max[n][j] = max;
                s[n][j] = ptx_ex2(s[n][j] * scale - origin);
                s[n][2 + j] = ptx_ex2(s[n][2 + j] * scale - origin);
                acc.sum[n][j] = acc.sum[n][j] * factor[n][j] + s[n][j] + s[n][2 + j];
            }
        }
        if (!__any_sync(~0u, moved)) return;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int m = 0; m < O_TILES; m++) {
                acc.out[n][m][0] *= factor[n][0];
                acc.out[n][m][1] *= factor[n][1];
                acc.out[n][m][2] *= factor[n][0];
                acc.out[n][m][3] *= factor[n][1];
            }
        }
    }

    template <int N_TILES>
    static __device__ __forceinline__ void accumulate(accumulators<N_TILES> &acc, const float (&s)[N_TILES][4],
                                                      uint32_t v_smem, int lane) {
        uint32_t v_lane = v_smem + swizzle_chunk<ROW_BYTES>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
        uint32_t p[N_TILES][2];
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            p[n][0] = ptx_movmatrix_trans(ELEMENT::pack(s[n][0], s[n][1]));
            p[n][1] = ptx_movmatrix_trans(ELEMENT::pack(s[n][2], s[n][3]));
        }
#pragma unroll
        for (int m = 0; m < O_TILES; m++) {
            uint32_t v[4];
            ptx_ldmatrix_x4_trans(v, v_lane ^ (m * 2 * CHUNK_BYTES));
#pragma unroll
            for (int n = 0; n < N_TILES; n++) ELEMENT::mma(acc.out[n][m], v, p[n][0], p[n][1]);
        }
    }

    template <int N_TILES>
    static __device__ __forceinline__ void run(const pod_kernel_params &params, smem_type &smem,
                                               accumulators<N_TILES> &acc, int lane) {
        const decode_work &work = smem.work;
        uint64_t policy = ptx_policy_evict_first();
        uint32_t ring_smem = ptx_smem(smem.ring);
        float scale = params.softcap_log2 > 0.0f ? 1.0f : params.scale_log2;
        int num_stages = max(0, (work.end_key - work.first_key + DECODE_STAGE_TOKENS - 1) / DECODE_STAGE_TOKENS);
        uint32_t q[N_TILES][K_STEPS][2];
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            acc.max[n][0] = acc.max[n][1] = -INFINITY;
            acc.sum[n][0] = acc.sum[n][1] = 0.0f;
#pragma unroll
            for (int m = 0; m < O_TILES; m++) {
                acc.out[n][m][0] = acc.out[n][m][1] = acc.out[n][m][2] = acc.out[n][m][3] = 0.0f;
            }
        }
#pragma unroll
        for (int n = 0; n < RING; n++) load(params, smem, work, n, num_stages, policy, lane);
        load_q<N_TILES>(params, work, q, lane);

        uint32_t buffer = 0;
#pragma unroll 1
        for (int stage = 0; stage < num_stages; stage++) {
            float s[N_TILES][4];
            int first_key = work.first_key + stage * DECODE_STAGE_TOKENS;
            ptx_cp_async_wait<RING - 1>();
            __syncwarp();
            scores<N_TILES>(s, q, ring_smem + buffer * STAGE_BYTES, lane);
            __syncwarp();
            load(params, smem, work, 2 * stage + RING, num_stages, policy, lane);
            buffer = buffer == RING - 1 ? 0 : buffer + 1;

            if (params.softcap_log2 > 0.0f) {
#pragma unroll
                for (int n = 0; n < N_TILES; n++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) s[n][j] = softcap_score(params, s[n][j]);
                }
            }
            if (first_key + DECODE_STAGE_TOKENS > work.unmasked_end || first_key < work.unmasked_begin) {
                mask<N_TILES>(params, work, s, first_key, lane);
            }
            softmax<N_TILES>(s, acc, scale);

            ptx_cp_async_wait<RING - 1>();
            __syncwarp();
            accumulate<N_TILES>(acc, s, ring_smem + buffer * STAGE_BYTES, lane);
            __syncwarp();
            load(params, smem, work, 2 * stage + 1 + RING, num_stages, policy, lane);
            buffer = buffer == RING - 1 ? 0 : buffer + 1;
        }
        ptx_cp_async_wait<0>();
        __syncwarp();
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float sum = acc.sum[n][j];
                sum += __shfl_xor_sync(~0u, sum, 4);
                sum += __shfl_xor_sync(~0u, sum, 8);
                acc.sum[n][j] = sum + __shfl_xor_sync(~0u, sum, 16);
                acc.max[n][j] *= scale; /* scale > 0 is the host's promise */
            }
        }
    }

    template <int N_TILES>
    static __device__ void write_out(const pod_kernel_params &params, const decode_work &work,
                                     accumulators<N_TILES> &acc, int lane) {
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            float factor[2];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + lane % 4 * 2 + j;
                factor[j] = 0.0f;
                if (row < work.num_rows) {
                    factor[j] = finish_row(params, work.request, work.item.kv_head, row, acc.max[n][j], acc.sum[n][j],
                                           lane / 4 == 0);
                }
            }
            int row = n * 8 + lane / 4; /* after the transposition a lane holds neighbouring columns of one row */
            bool exists = row < work.num_rows;
            int64_t offset = out_offset(params, work.request, work.item.kv_head, exists ? row : 0);
            uint32_t *words = (uint32_t *)((uint16_t *)params.out + offset) + lane % 4;
#pragma unroll
            for (int m = 0; m < O_TILES; m++) {
                float(&o)[4] = acc.out[n][m];
                uint32_t low = ptx_movmatrix_trans(ELEMENT::pack(o[0] * factor[0], o[1] * factor[1]));
                uint32_t high = ptx_movmatrix_trans(ELEMENT::pack(o[2] * factor[0], o[3] * factor[1]));
                if (!exists) continue;
                words[m * 8] = low;
                words[m * 8 + 4] = high;
            }
        }
    }

    template <int N_TILES>
    static __device__ void write_partial(const pod_kernel_params &params, const decode_work &work,
                                         const accumulators<N_TILES> &acc, int32_t slot, int lane) {
        int64_t first_row = (int64_t)slot * params.tiling.decode_rows;
        float *out = params.schedule.decode_partial_out + first_row * HEAD_DIM;
        float *sum = params.schedule.decode_partial_sum + first_row * 2;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = n * 8 + lane % 4 * 2 + j;
                if (row >= work.num_rows) continue;
                if (lane / 4 == 0) *(float2 *)(sum + row * 2) = make_float2(acc.max[n][j], acc.sum[n][j]);
#pragma unroll
                for (int m = 0; m < O_TILES; m++) {
                    out[row * HEAD_DIM + m * 16 + lane / 4] = acc.out[n][m][j];
                    out[row * HEAD_DIM + m * 16 + 8 + lane / 4] = acc.out[n][m][2 + j];
                }
            }
        }
    }

    /** Joins the parts of a split item and writes its rows, four at a time; a lane owns HEAD_DIM / 32 columns. */
    static __device__ void merge(const pod_kernel_params &params, const decode_work &work, int lane) {
        constexpr int ROWS = 4, COLUMNS = HEAD_DIM / 32;
        const pod_decode_item item = work.item;
        for (int first_row = 0; first_row < work.num_rows; first_row += ROWS) {
            merged_rows<ROWS, COLUMNS> merged;
            merge_parts(
                merged, params.schedule.decode_partial_sum, params.schedule.decode_partial_out,
                [&](int part) { return pod_core_decode_slot(&item, part); }, item.num_parts, params.tiling.decode_rows,
                HEAD_DIM, first_row, 1, work.num_rows, lane * COLUMNS);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                int row = first_row + i;
                if (row >= work.num_rows) break;
                float factor =
                    finish_row(params, work.request, item.kv_head, row, merged.max[i], merged.sum[i], lane == 0);
                int64_t offset = out_offset(params, work.request, item.kv_head, row);
                uint32_t *words = (uint32_t *)((uint16_t *)params.out + offset + lane * COLUMNS);
#pragma unroll
                for (int c = 0; c < COLUMNS; c += 2) {
                    words[c / 2] = ELEMENT::pack(merged.out[i][c] * factor, merged.out[i][c + 1] * factor);
                }
            }
        }
    }

    template <int N_TILES>
    static __device__ void work_on_item(const pod_kernel_params &params, smem_type &smem, int lane) {
        const decode_work &work = smem.work;
        accumulators<N_TILES> acc;
        run<N_TILES>(params, smem, acc, lane);
        if (work.item.num_parts == 1) {
            write_out<N_TILES>(params, work, acc, lane);
            return;
        }
        write_partial<N_TILES>(params, work, acc, pod_core_decode_slot(&work.item, work.item.part), lane);
        __threadfence();
        __syncwarp();
        uint32_t is_last = 0;
        if (lane == 0) {
            uint32_t *counter = &params.schedule.slice_counters[work.item.first_slice];
            is_last = atomicAdd(counter, 1) == (uint32_t)work.item.num_parts - 1;
            if (is_last) *counter = 0;
        }
        if (!__shfl_sync(~0u, is_last, 0)) return;
        __threadfence();
        merge(params, work, lane);
    }

    /** The item of `slice` that begins at `position` on the decode line. */
    static __device__ decode_work find_work(const pod_kernel_params &params, int32_t position, int32_t slice,
                                            int32_t slice_end, int lane) {
        decode_work work;
        pod_schedule schedule = params.schedule;
        schedule.header = new_header(params);
        pod_decode_place place = pod_core_decode_place(&params.shape, schedule.header, position);
        int32_t request = find_decode_request(schedule, position - place.head_begin, lane);
        work.request = load_request(params, request);
        pod_core_decode_item_of(&params.shape, &params.tiling, &schedule, place, request, position, slice, slice_end,
                                &work.item);
        work.num_rows = work.request.q_len * params.shape.group;
        work.first_key = work.item.tile_begin * DECODE_TILE_TOKENS;
        work.end_key = min(work.first_key + work.item.num_tiles * DECODE_TILE_TOKENS, work.request.kv_len);
        work.unmasked_end = visible_keys(params, work.request, 0).end;
        work.unmasked_begin = visible_keys(params, work.request, work.request.q_len - 1).begin;
        work.heads[0] = (const char *)((const uint16_t *)params.k + work.item.kv_head * params.k_head_stride);
        work.heads[1] = (const char *)((const uint16_t *)params.v + work.item.kv_head * params.v_head_stride);
        return work;
    }

    /** The slice that is taken `turn`-th, item after item. */
    static __device__ void work_on(const pod_kernel_params &params, smem_type &smem, int32_t turn, int lane) {
        const pod_schedule_header *header = new_header(params);
        int32_t slice = pod_core_slice_at(&params.shape, header, turn);
        int32_t position = pod_core_slice_begin(header, slice);
        int32_t slice_end = pod_core_slice_begin(header, slice + 1);
        while (position < slice_end) {
            decode_work work = find_work(params, position, slice, slice_end, lane);
            if (lane == 0) smem.work = work;
            __syncwarp();
            if (MAX_N_TILES == 1 || smem.work.num_rows <= 8)
                work_on_item<1>(params, smem, lane);
            else
                work_on_item<MAX_N_TILES>(params, smem, lane);
            position += smem.work.item.num_tiles;
            __syncwarp(); /* all have read the work before the next one stands there */
        }
    }
};

#endif
