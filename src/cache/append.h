/* SPDX-License-Identifier: Apache-2.0 */
/* One pod_cache_append() as a backend gets it: validated, defaults filled in. On a GPU it is what the kernel is
 * launched with, by value. */
#ifndef POD_CACHE_APPEND_H
#define POD_CACHE_APPEND_H

#include "cache/rope.h"
#include "podattn.h"
#include "schedule/schedule.h"

typedef struct pod_append_job {
    pod_append given;     /**< `rope` is not NULL if something is rotated; by what is below */
    pod_rope rope;        /**< its tables, if it has some */
    pod_rope_turns turns; /**< if it has none */
    pod_cache cache;
    pod_dtype q_dtype, kv_dtype;
    int32_t q_heads, kv_heads, head_dim, v_head_dim;
    int32_t page_size, num_pages;
    int32_t page_shift;  /**< log2(page_size), -1 if that is no power of two */
    int32_t told_tokens; /**< num_tokens as the caller said it; 0: not told */
    /* The planned batch; requests is NULL where nothing depends on it. */
    const pod_request *requests;
    const uint32_t *page_errors; /**< NULL, or a GPU's: requests with wrong pages */
    int32_t num_requests;
    const int32_t *page_table; /**< NULL: request r has the one page r */
    int64_t page_table_stride;
} pod_append_job;

#endif
