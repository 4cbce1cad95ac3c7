/* SPDX-License-Identifier: Apache-2.0 */
/* The end of split work. Parts are kept in the workspace and counted; the threads that count the last one join all of
 * them, in the order of the parts, so that the result does not depend on who was last. */
#ifndef POD_CUDA_PARTS_CUH
#define POD_CUDA_PARTS_CUH

#include "cuda/kernels/softmax_row.cuh"

/* ---- counting ---- */

/** Parts that are done: the bits of `mask` in a word of the workspace, from bit `shift` on. */
struct part_counter {
    uint32_t *word;
    uint32_t shift, mask;
};

/** A warp that ends a part. */
struct part_warp {
    __device__ __forceinline__ void sync() const {
        __syncwarp();
    }
    __device__ __forceinline__ bool is_first() const {
        return ptx_tid() % 32 == 0;
    }
    /** What the first thread says, for all. */
    __device__ __forceinline__ uint32_t share(uint32_t is_last) const {
        return __shfl_sync(~0u, is_last, 0);
    }
};

/** Four neighbouring warps that end a part together, with a named barrier and a word of shared memory. */
struct part_warps {
    enum { THREADS = 128 };
    int barrier;
    uint32_t *is_last_smem;
    __device__ __forceinline__ void sync() const {
        ptx_bar_sync(barrier, THREADS);
    }
    __device__ __forceinline__ bool is_first() const {
        return ptx_tid() % THREADS == 0;
    }
    __device__ __forceinline__ uint32_t share(uint32_t is_last) const {
        if (is_first()) *is_last_smem = is_last;
        sync();
        return *is_last_smem;
    }
};

/** Counts a part that these threads have written. True for those that count the last one: then they see all parts, and
 * the counter is zero again. */
template <class THREADS>
static __device__ __forceinline__ bool count_part(const THREADS &threads, part_counter counter, int32_t num_parts) {
    __threadfence();
    threads.sync();
    uint32_t is_last = 0;
    if (threads.is_first()) {
        uint32_t before = atomicAdd(counter.word, 1u << counter.shift) >> counter.shift & counter.mask;
        is_last = before == (uint32_t)num_parts - 1;
        if (is_last) atomicSub(counter.word, (before + 1) << counter.shift);
    }
    if (!threads.share(is_last)) return false;
    __threadfence();
    return true;
}

/* ---- joining ---- */

/** How threads share the joining: each has COLUMNS neighbouring columns of ROWS rows at a time, so that a trip to
 * memory is paid once for all of them. */
template <int HEAD_DIM_, int THREADS, int COLUMNS_, int ROWS_> struct merge_shape {
    static constexpr int HEAD_DIM = HEAD_DIM_, COLUMNS = COLUMNS_, ROWS = ROWS_;
    static constexpr int LANES = HEAD_DIM / COLUMNS, ROW_STEP = THREADS / LANES; /* a thread has every so many-th row */
    static_assert(COLUMNS == 2 || COLUMNS == 4, "one vector load");
    static_assert(THREADS % LANES == 0, "whole rows");
};

/** Split rows of a request and KV head: rows [row_begin, row_end) of its partial slots. */
struct split_rows {
    const pod_request &request;
    int32_t kv_head;
    int32_t first_row;        /* row of the request that the slots' first one is */
    const float *sums, *outs; /* the partial arrays of the queue */
    int32_t num_parts, slot_rows;
    int32_t row_begin, row_end;
};

template <class SHAPE> struct merged_rows {
    float out[SHAPE::ROWS][SHAPE::COLUMNS];
    float max[SHAPE::ROWS], sum[SHAPE::ROWS];
};

/** Joins the part in `slot` to the rows from `row` on. Rows that do not exist repeat the last one. */
template <class SHAPE>
static __device__ __forceinline__ void join_part(merged_rows<SHAPE> &merged, const split_rows &split, int32_t slot,
                                                 int row, int column) {
    int64_t slot_begin = (int64_t)slot * split.slot_rows;
    float2 sum[SHAPE::ROWS];
    alignas(16) float out[SHAPE::ROWS][SHAPE::COLUMNS];
#pragma unroll
    for (int i = 0; i < SHAPE::ROWS; i++) {
        int64_t at = slot_begin + min(row + i * SHAPE::ROW_STEP, split.row_end - 1);
        sum[i] = __ldcg((const float2 *)(split.sums + at * 2));
        const float *from = split.outs + at * SHAPE::HEAD_DIM + column;
        if (SHAPE::COLUMNS == 4) {
            *(float4 *)out[i] = __ldcg((const float4 *)from);
        } else {
            *(float2 *)out[i] = __ldcg((const float2 *)from);
        }
    }
#pragma unroll
    for (int i = 0; i < SHAPE::ROWS; i++) {
        pod_merge_factors factors = pod_merge_part(&merged.max[i], &merged.sum[i], sum[i].x, sum[i].y);
#pragma unroll
        for (int c = 0; c < SHAPE::COLUMNS; c++) {
            merged.out[i][c] = merged.out[i][c] * factors.row + out[i][c] * factors.part;
        }
    }
}

/** Ends a row and writes the thread's columns of it. */
template <class ELEMENT, int COLUMNS>
static __device__ __forceinline__ void write_merged(const pod_kernel_params &params, const split_rows &split, int row,
                                                    int column, const float (&out)[COLUMNS], float max, float sum) {
    row_place place = place_row(params, split.first_row + row);
    float factor = finish_row(params, split.request, split.kv_head, place, max, sum, column == 0);
    uint16_t *to = (uint16_t *)params.out + out_offset(params, split.request, split.kv_head, place) + column;
    uint32_t low = ELEMENT::pack(out[0] * factor, out[1] * factor);
    if constexpr (COLUMNS == 4) {
        *(uint2 *)to = make_uint2(low, ELEMENT::pack(out[2] * factor, out[3] * factor));
    } else {
        *(uint32_t *)to = low;
    }
}

/** Joins the parts of split rows and writes the rows; `slot_of(part)` is the slot that keeps a part. */
template <class ELEMENT, class SHAPE, class SLOT_OF>
static __device__ __forceinline__ void merge_parts(const pod_kernel_params &params, const split_rows &split, int thread,
                                                   SLOT_OF slot_of) {
    int column = thread % SHAPE::LANES * SHAPE::COLUMNS;
    for (int first_row = split.row_begin + thread / SHAPE::LANES; first_row < split.row_end;
         first_row += SHAPE::ROW_STEP * SHAPE::ROWS) {
        merged_rows<SHAPE> merged;
#pragma unroll
        for (int i = 0; i < SHAPE::ROWS; i++) {
            merged.max[i] = -INFINITY;
            merged.sum[i] = 0.0f;
#pragma unroll
            for (int c = 0; c < SHAPE::COLUMNS; c++) merged.out[i][c] = 0.0f;
        }
#pragma unroll 2
        for (int part = 0; part < split.num_parts; part++) join_part(merged, split, slot_of(part), first_row, column);
#pragma unroll
        for (int i = 0; i < SHAPE::ROWS; i++) {
            int row = first_row + i * SHAPE::ROW_STEP;
            if (row >= split.row_end) break;
            write_merged<ELEMENT>(params, split, row, column, merged.out[i], merged.max[i], merged.sum[i]);
        }
    }
}

#endif
