/* SPDX-License-Identifier: Apache-2.0 */
/* The end of split work. Parts are kept in the workspace and counted; the threads that count the last one join all of
 * them, in the order of the parts, so that the result does not depend on which ones were last. */
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

/* ---- where a queue keeps its parts ---- */

/** Of an item of the prefill or of the decode queue. Asked for anew where it is needed: it is one load, while a
 * register that held it through the joining would be one too many. */
template <class ITEM> struct part_queue;

template <> struct part_queue<pod_prefill_item> {
    static __device__ __forceinline__ const float *sums(const pod_kernel_params &params) {
        return params.schedule.prefill_partial_sum;
    }
    static __device__ __forceinline__ const float *outs(const pod_kernel_params &params) {
        return params.schedule.prefill_partial_out;
    }
    static __device__ __forceinline__ int32_t slot(const pod_prefill_item &item, int32_t part) {
        return item.first_slot + part;
    }
    static __device__ __forceinline__ int32_t num_parts(const pod_prefill_item &item) {
        return item.entry.num_parts;
    }
    /** The request's row that is the first one of a slot. */
    static __device__ __forceinline__ int32_t row_begin(const pod_prefill_item &item) {
        return item.entry.row_begin;
    }
};

template <> struct part_queue<pod_decode_item> {
    static __device__ __forceinline__ const float *sums(const pod_kernel_params &params) {
        return params.schedule.decode_partial_sum;
    }
    static __device__ __forceinline__ const float *outs(const pod_kernel_params &params) {
        return params.schedule.decode_partial_out;
    }
    static __device__ __forceinline__ int32_t slot(const pod_decode_item &item, int32_t part) {
        return pod_core_decode_slot(&item, part);
    }
    static __device__ __forceinline__ int32_t num_parts(const pod_decode_item &item) {
        return item.num_parts;
    }
    static __device__ __forceinline__ int32_t row_begin(const pod_decode_item &) {
        return 0;
    }
};

/* ---- joining ---- */

/** How threads share the joining: a warp has ROWS rows at a time, COLUMNS neighbouring columns to a lane, and reads
 * PARTS parts of them in one trip to memory. Of rows that are longer than a warp's columns, one piece after the other.
 */
template <int HEAD_DIM_, int THREADS, int ROWS_, int PARTS_, bool PADS_ = false> struct merge_shape {
    static constexpr bool PADS = PADS_; /* values may have fewer than HEAD_DIM elements */
    static constexpr int HEAD_DIM = HEAD_DIM_, ROWS = ROWS_, PARTS = PARTS_;
    static constexpr int COLUMNS = HEAD_DIM < 128 ? HEAD_DIM / 32 : 4;
    static constexpr int PIECE = 32 * COLUMNS, ROW_STEP = THREADS / 32; /* a warp has every so many-th row */
    static_assert(COLUMNS == 2 || COLUMNS == 4, "one vector load");
    static_assert(HEAD_DIM % PIECE == 0, "whole pieces");
};

/** The rows that a warp joins: `row` and every ROW_STEP-th, ROWS of them. Those from `row_end` on repeat the last. */
template <class SHAPE, class WORK> struct merge_place {
    typedef part_queue<decltype(WORK::item)> queue;
    const WORK &work;
    int slot_rows, row, row_end;
    /** Where a part's first row is in the arrays, which have fewer than 2^31 elements. */
    __device__ __forceinline__ int32_t begin(int part) const {
        return queue::slot(work.item, part) * slot_rows;
    }
    /** Row `i` of a part, from there. */
    __device__ __forceinline__ int32_t row_at(int i) const {
        return min(row + i * SHAPE::ROW_STEP, row_end - 1);
    }
    __device__ __forceinline__ int64_t at(int part, int i) const {
        return begin(part) + row_at(i);
    }
};

/** Joined rows: this lane has COLUMNS columns of each. */
template <class SHAPE> struct merged_rows {
    float out[SHAPE::ROWS][SHAPE::COLUMNS];
    float max[SHAPE::ROWS], sum[SHAPE::ROWS];
};

/** Some parts as they are in memory. */
template <class SHAPE> struct loaded_parts {
    alignas(16) float out[SHAPE::PARTS][SHAPE::ROWS][SHAPE::COLUMNS];
    float2 sum[SHAPE::PARTS][SHAPE::ROWS];
};

/** Reads PARTS parts from `first` on; those from `num_parts` on repeat the last. All loads are under way before one is
 * waited for. */
template <class SHAPE, class PLACE>
static __device__ __forceinline__ void load_parts(const pod_kernel_params &params, const PLACE &place, int first,
                                                  int num_parts, int column, loaded_parts<SHAPE> &parts) {
    const float2 *sums = (const float2 *)PLACE::queue::sums(params);
    const float *outs = PLACE::queue::outs(params) + column;
#pragma unroll
    for (int j = 0; j < SHAPE::PARTS; j++) {
        int32_t begin = place.begin(min(first + j, num_parts - 1));
#pragma unroll
        for (int i = 0; i < SHAPE::ROWS; i++) {
            uint32_t at = begin + place.row_at(i);
            parts.sum[j][i] = __ldcg(sums + at);
            const float *from = outs + at * (uint32_t)SHAPE::HEAD_DIM;
            if (SHAPE::COLUMNS == 4) {
                *(float4 *)parts.out[j][i] = __ldcg((const float4 *)from);
            } else {
                *(float2 *)parts.out[j][i] = __ldcg((const float2 *)from);
            }
        }
    }
}

/** Joins the first `count` of the loaded parts. */
template <class SHAPE>
static __device__ __forceinline__ void add_parts(const loaded_parts<SHAPE> &parts, int count,
                                                 merged_rows<SHAPE> &merged) {
#pragma unroll
    for (int i = 0; i < SHAPE::ROWS; i++) {
        float max = merged.max[i];
#pragma unroll
        for (int j = 0; j < SHAPE::PARTS; j++) max = fmaxf(max, parts.sum[j][i].x); /* a repeated part raises nothing */
        float factor = pod_merge_factor(merged.max[i], max);
        merged.max[i] = max;
        merged.sum[i] *= factor;
#pragma unroll
        for (int c = 0; c < SHAPE::COLUMNS; c++) merged.out[i][c] *= factor;
#pragma unroll
        for (int j = 0; j < SHAPE::PARTS; j++) {
            if (j >= count) continue; /* and not a weight of 0: the repeated part may hold an infinity */
            float weight = pod_merge_factor(parts.sum[j][i].x, max);
            merged.sum[i] = fmaf(weight, parts.sum[j][i].y, merged.sum[i]);
#pragma unroll
            for (int c = 0; c < SHAPE::COLUMNS; c++)
                merged.out[i][c] = fmaf(weight, parts.out[j][i][c], merged.out[i][c]);
        }
    }
}

/** Joins all parts of the place's rows. Every thread for itself: a shuffle or a vote in here, though rarely reached,
 * makes the compiler keep a barrier at every branch of the loops around it, which no longer count as uniform. */
template <class SHAPE, class PLACE>
static __device__ __forceinline__ void join_parts(const pod_kernel_params &params, const PLACE &place, int num_parts,
                                                  int column, merged_rows<SHAPE> &merged) {
#pragma unroll
    for (int i = 0; i < SHAPE::ROWS; i++) {
        merged.max[i] = -INFINITY;
        merged.sum[i] = 0.0f;
#pragma unroll
        for (int c = 0; c < SHAPE::COLUMNS; c++) merged.out[i][c] = 0.0f;
    }
#pragma unroll 1
    for (int first = 0; first < num_parts; first += SHAPE::PARTS) {
        loaded_parts<SHAPE> parts;
        load_parts<SHAPE>(params, place, first, num_parts, column, parts);
        add_parts<SHAPE>(parts, num_parts - first, merged);
    }
}

/** merge_parts() of COLUMNS columns from `column` on. */
template <class ELEMENT, class SHAPE, class WORK>
static __device__ __forceinline__ void merge_columns(const pod_kernel_params &params, const WORK &work, int slot_rows,
                                                     int row_begin, int row_end, int thread, int column) {
    typedef part_queue<decltype(WORK::item)> queue;
    for (int first_row = row_begin + thread / 32; first_row < row_end; first_row += SHAPE::ROW_STEP * SHAPE::ROWS) {
        merged_rows<SHAPE> merged;
        const merge_place<SHAPE, WORK> from = {work, slot_rows, first_row, row_end};
        join_parts<SHAPE>(params, from, queue::num_parts(work.item), column, merged);
#pragma unroll
        for (int i = 0; i < SHAPE::ROWS; i++) {
            int row = first_row + i * SHAPE::ROW_STEP;
            if (row >= row_end) break;
            row_place place = place_row(params, queue::row_begin(work.item) + row);
            float factor = finish_row(params, work.request, work.item.kv_head, place,
                                      make_float2(merged.max[i], merged.sum[i]), column == 0) *
                           ELEMENT::value_unit(params, work.item.kv_head);
            if (SHAPE::PADS && column >= params.v_head_dim) continue;
            const float(&out)[SHAPE::COLUMNS] = merged.out[i];
            uint32_t *to = (uint32_t *)((uint16_t *)params.out +
                                        out_offset(params, work.request, work.item.kv_head, place) + column);
            if constexpr (SHAPE::COLUMNS == 4) {
                *(uint2 *)to = make_uint2(ELEMENT::pack(out[0] * factor, out[1] * factor),
                                          ELEMENT::pack(out[2] * factor, out[3] * factor));
            } else {
                *to = ELEMENT::pack(out[0] * factor, out[1] * factor);
            }
        }
    }
}

/** Joins the parts of the rows [row_begin, row_end) of the work's slots, of `slot_rows` rows each, and writes the rows.
 * By whole warps. */
template <class ELEMENT, class SHAPE, class WORK>
static __device__ __forceinline__ void merge_parts(const pod_kernel_params &params, const WORK &work, int slot_rows,
                                                   int row_begin, int row_end, int thread) {
    int column = thread % 32 * SHAPE::COLUMNS;
    if constexpr (SHAPE::PIECE == SHAPE::HEAD_DIM) {
        merge_columns<ELEMENT, SHAPE>(params, work, slot_rows, row_begin, row_end, thread, column);
    } else {
#pragma unroll 1
        for (; column < SHAPE::HEAD_DIM; column += SHAPE::PIECE)
            merge_columns<ELEMENT, SHAPE>(params, work, slot_rows, row_begin, row_end, thread, column);
    }
}

#endif
