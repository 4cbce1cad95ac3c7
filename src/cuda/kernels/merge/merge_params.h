/* SPDX-License-Identifier: Apache-2.0 */
/* What the merging kernel is launched with, by value. */
#ifndef POD_CUDA_MERGE_PARAMS_H
#define POD_CUDA_MERGE_PARAMS_H

#include <stdint.h>

#define POD_MERGE_KERNEL "pod_merge_rows"

enum {
    POD_MERGE_THREADS = 256,
    POD_MERGE_MAX_PARTS = 16,
    POD_MERGE_ELEMENTS = 8, /**< of a lane; a warp merges a row */
    POD_MERGE_MAX_HEAD_DIM = 32 * POD_MERGE_ELEMENTS
};

typedef struct pod_merge_params {
    const void *part_outs[POD_MERGE_MAX_PARTS];
    const float *part_lses[POD_MERGE_MAX_PARTS];
    void *out;
    float *lse; /**< NULL: not wanted */
    int64_t part_token_stride, part_head_stride;
    int64_t part_lse_token_stride, part_lse_head_stride;
    int64_t out_token_stride, out_head_stride;
    int64_t lse_token_stride, lse_head_stride;
    int64_t num_rows; /**< tokens x heads */
    int32_t num_parts;
    int32_t q_heads;
    int32_t head_dim;
    int32_t part_dtype, out_dtype; /**< pod_dtypes */
} pod_merge_params;

#endif
