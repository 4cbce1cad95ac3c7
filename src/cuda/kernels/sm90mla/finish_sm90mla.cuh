/* SPDX-License-Identifier: Apache-2.0 */
/* The end of split work, by all threads of a CTA that have rows. A row's part has 2 KB, and a long context a part of
 * every CTA: one CTA that read them all would take longer than they did. So many parts are joined in groups of eight,
 * each by the CTA that counts the group's last one, and then the groups. Which parts are joined in which order depends
 * on the plan alone. */
#ifndef POD_SM90MLA_FINISH_CUH
#define POD_SM90MLA_FINISH_CUH

#include "cuda/kernels/parts.cuh"
#include "cuda/kernels/sm90mla/pipeline_sm90mla.cuh"

enum { GROUP_PARTS = 8, MOST_SINGLE_PARTS = 16 /* that are joined at once */ };

/** Every `step`-th part of an item, from `begin` on. */
template <class ITEM> struct part_run : ITEM { int32_t begin, step, count; };

template <class ITEM> struct part_queue<part_run<ITEM>> {
    typedef part_queue<ITEM> all;
    static __device__ __forceinline__ const float *sums(const pod_kernel_params &params) {
        return all::sums(params);
    }
    static __device__ __forceinline__ const float *outs(const pod_kernel_params &params) {
        return all::outs(params);
    }
    static __device__ __forceinline__ int32_t slot(const part_run<ITEM> &run, int32_t part) {
        return all::slot(run, run.begin + part * run.step);
    }
    static __device__ __forceinline__ int32_t num_parts(const part_run<ITEM> &run) {
        return run.count;
    }
    static __device__ __forceinline__ int32_t row_begin(const part_run<ITEM> &run) {
        return all::row_begin(run);
    }
};

/** The threads of both warpgroups with rows. */
struct part_cta {
    uint32_t *is_last_smem;
    __device__ __forceinline__ void sync() const {
        ptx_bar_sync(BARRIER_ROWS, ROW_THREADS);
    }
    __device__ __forceinline__ bool is_first() const {
        return ptx_tid() == WARPGROUP_THREADS;
    }
    __device__ __forceinline__ uint32_t share(uint32_t is_last) const {
        if (is_first()) *is_last_smem = is_last;
        sync();
        return *is_last_smem;
    }
};

template <class ELEMENT, int V_HEAD_DIM> struct finish_sm90mla {
    typedef merge_shape<V_HEAD_DIM, ROW_THREADS, 2, 4> few_parts;
    typedef merge_shape<V_HEAD_DIM, ROW_THREADS, 2, GROUP_PARTS> many_parts;

    const pod_kernel_params &params;
    uint32_t &is_last;

    static __device__ __forceinline__ int own_thread() {
        return ptx_tid() - WARPGROUP_THREADS;
    }

    __device__ __forceinline__ bool count(uint32_t *cell, int32_t num_parts) {
        return count_part(part_cta{&is_last}, part_counter{cell, 0, ~0u}, num_parts);
    }

    /** Joins the parts of a run and writes their rows. */
    template <class ITEM>
    __device__ __forceinline__ void merge(const item_work<part_run<ITEM>> &run, int32_t num_rows) {
        if (run.item.count > few_parts::PARTS)
            merge_parts<ELEMENT, many_parts>(params, run, TILE_ROWS, 0, num_rows, own_thread());
        else
            merge_parts<ELEMENT, few_parts>(params, run, TILE_ROWS, 0, num_rows, own_thread());
    }

    /** Joins the parts of a run, at most GROUP_PARTS, into the first one's place. A warp has whole rows, all of a row's
     * columns: so it writes the sums when it has read them for the last time. */
    template <class ITEM> __device__ __forceinline__ void join(const item_work<part_run<ITEM>> &run, int32_t num_rows) {
        typedef many_parts shape;
        typedef part_queue<part_run<ITEM>> queue;
#pragma unroll 1
        for (int row = own_thread() / 32; row < num_rows; row += shape::ROW_STEP * shape::ROWS) {
            const merge_place<shape, item_work<part_run<ITEM>>> place = {run, TILE_ROWS, row, num_rows};
#pragma unroll 1
            for (int column = own_thread() % 32 * shape::COLUMNS; column < V_HEAD_DIM; column += shape::PIECE) {
                merged_rows<shape> merged;
                join_parts<shape>(params, place, run.item.count, column, merged);
                __syncwarp();
#pragma unroll
                for (int i = 0; i < shape::ROWS; i++) {
                    if (row + i * shape::ROW_STEP >= num_rows) break;
                    float *out = (float *)queue::outs(params) + place.at(0, i) * V_HEAD_DIM + column;
                    *(float4 *)out = *(const float4 *)merged.out[i];
                    if (column == V_HEAD_DIM - shape::COLUMNS) {
                        float *sum = (float *)queue::sums(params) + place.at(0, i) * 2;
                        *(float2 *)sum = make_float2(merged.max[i], merged.sum[i]);
                    }
                }
            }
        }
    }

    /** After a part is written. `cells` count from the item's first part on; those of parts that are neither its first
     * nor its last are nobody else's. */
    template <class ITEM>
    __device__ __forceinline__ void part(const item_work<ITEM> &work, int32_t num_rows, int32_t part, uint32_t *cells) {
        int32_t num_parts = part_queue<ITEM>::num_parts(work.item);
        if (num_parts <= MOST_SINGLE_PARTS) {
            if (count(cells, num_parts)) merge<ITEM>({work.request, {work.item, 0, 1, num_parts}}, num_rows);
            return;
        }
        int32_t begin = part / GROUP_PARTS * GROUP_PARTS, own_parts = min((int32_t)GROUP_PARTS, num_parts - begin);
        if (own_parts > 1) {
            if (!count(cells + max(begin, 1), own_parts)) return;
            join<ITEM>({work.request, {work.item, begin, 1, own_parts}}, num_rows);
        }
        int32_t num_groups = pod_core_ceil_div(num_parts, GROUP_PARTS);
        if (count(cells, num_groups)) merge<ITEM>({work.request, {work.item, 0, GROUP_PARTS, num_groups}}, num_rows);
    }
};

#endif
