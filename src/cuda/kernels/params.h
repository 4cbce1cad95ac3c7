/* SPDX-License-Identifier: Apache-2.0 */
/* What every attention kernel is launched with, by value; filled in by the host (C) and read by the kernels. */
#ifndef POD_CUDA_PARAMS_H
#define POD_CUDA_PARAMS_H

#include "schedule/schedule_core.h"

#include <stdint.h>

/** A CUtensorMap, opaque here: the hardware copies boxes of a tensor that it describes. */
typedef struct pod_tensor_map {
    uint64_t words[16];
} __attribute__((aligned(64))) pod_tensor_map;

/** A probability may reach 2^8 before its row's origin is raised: rescaling is rare, and f16 reaches 2^16. */
#define POD_RESCALE_LOG2 8.0f

typedef struct pod_kernel_params {
    pod_shape shape; /**< q_start and kv_len are not read: the planned requests are */
    pod_tiling tiling;
    pod_schedule schedule; /**< device addresses */

    const int32_t *page_table; /**< NULL: request r has the one page r */
    int64_t page_table_stride;
    int32_t page_size;
    int32_t page_shift; /**< log2(page_size), -1 if that is no power of two */
    int32_t head_dim;
    int32_t v_head_dim; /**< of v and out: padded kernels alone look at the two */

    const void *q, *k, *v;
    void *out;
    float *lse;                            /**< NULL: not wanted */
    const float *sinks;                    /**< NULL: none */
    const float *k_scale, *v_scale;        /**< of e4m3 caches, one per KV head; NULL: 1 */
    int64_t scale_stride;                  /**< floats from one KV head's scale to the next */
    int64_t q_token_stride, q_head_stride; /**< all strides in elements */
    int64_t k_page_stride, k_token_stride, k_head_stride;
    int64_t v_page_stride, v_token_stride, v_head_stride;
    int64_t out_token_stride, out_head_stride;
    int64_t lse_token_stride, lse_head_stride;

    float softcap_log2;     /**< softcap * log2(e), or the largest float; 0: off */
    float softcap_argument; /**< scale / softcap, or the largest float; 0 without a softcap */
    float softcap_slope;    /**< scale * log2(e): of scores far below the softcap; 0 without one */
    float score_scale;      /**< scores to log2 units: scale * log2(e), or 1 with a softcap or ALiBi */
    int32_t policy;         /**< a pod_policy; sm80 alone */

    /* sm90 alone. Maps of K and V come in two kinds, both of rank 5:
     *   wide     (64, token % 8, half, token / 8, page), boxes of (64, 8, halves, box_tokens / 8, 1): whole rows of a
     *            head, whose halves of 64 elements count through all heads, head_halves apart
     *   narrow   (head_dim, token, head, page, 1), boxes of (64, 8, 1, 1, 1); for what wide ones cannot express
     * and that of Q is (head_dim, head, token), boxes of (64, group, 64 / group).
     * sm90mla has k_map alone, a narrow one with boxes of (64, box_tokens, 1, 1, 1), or none and box_tokens 0. */
    int32_t is_wide;
    int32_t box_tokens; /**< a power of two from 8 to 64 */
    int32_t box_shift;  /**< log2(box_tokens) */
    int32_t k_head_halves, v_head_halves;
    int32_t has_q_map; /**< 0: a tile of 64 rows is no whole number of tokens */
    pod_tensor_map k_map, v_map, q_map;

    /* The padded kernels of sm80 alone. */
    const float *alibi_slopes; /**< NULL: none. With slopes score_scale is 1, and the next is what it would be */
    float alibi_scale;
    const uint64_t *tree_mask; /**< NULL: none */
} pod_kernel_params;

#endif
