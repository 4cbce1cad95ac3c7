/* SPDX-License-Identifier: Apache-2.0 */
/* The last finisher's work: joining the parts of split rows, in the order of the parts, so that the result does not
 * depend on who was last. Several rows at once, so that a trip to memory is paid once for all of them. */
#ifndef POD_CUDA_MERGE_PARTS_CUH
#define POD_CUDA_MERGE_PARTS_CUH

#include "schedule/merge_core.h"

/** Some neighbouring columns of ROWS rows. */
template <int ROWS, int COLUMNS> struct merged_rows {
    float out[ROWS][COLUMNS];
    float max[ROWS], sum[ROWS];
};

/** `sums` and `outs` are the partial arrays of a queue, `slot_of(part)` is where a part stands in them, slots have
 * `slot_rows` rows of `head_dim` columns. Takes rows row_begin + i * row_step; those from row_end on are not read. */
template <int ROWS, int COLUMNS, class SLOT_OF>
static __device__ __forceinline__ void merge_parts(merged_rows<ROWS, COLUMNS> &merged, const float *sums,
                                                   const float *outs, SLOT_OF slot_of, int num_parts, int slot_rows,
                                                   int head_dim, int row_begin, int row_step, int row_end, int column) {
    static_assert(COLUMNS == 2 || COLUMNS == 4, "one vector load");
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        merged.max[i] = -INFINITY;
        merged.sum[i] = 0.0f;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) merged.out[i][c] = 0.0f;
    }
#pragma unroll 2
    for (int part = 0; part < num_parts; part++) {
        int64_t slot_begin = (int64_t)slot_of(part) * slot_rows;
        float2 sum[ROWS];
        alignas(16) float out[ROWS][COLUMNS];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            int64_t row = slot_begin + min(row_begin + i * row_step, row_end - 1);
            sum[i] = __ldcg((const float2 *)(sums + row * 2));
            const float *from = outs + row * head_dim + column;
            if (COLUMNS == 4) {
                *(float4 *)out[i] = __ldcg((const float4 *)from);
            } else {
                *(float2 *)out[i] = __ldcg((const float2 *)from);
            }
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            float max = fmaxf(merged.max[i], sum[i].x);
            float before = pod_merge_factor(merged.max[i], max), now = pod_merge_factor(sum[i].x, max);
            merged.max[i] = max;
            merged.sum[i] = merged.sum[i] * before + sum[i].y * now;
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) merged.out[i][c] = merged.out[i][c] * before + out[i][c] * now;
        }
    }
}

#endif
