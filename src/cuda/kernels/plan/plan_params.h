/* SPDX-License-Identifier: Apache-2.0 */
/* What the planning kernel is launched with, by value. */
#ifndef POD_CUDA_PLAN_PARAMS_H
#define POD_CUDA_PLAN_PARAMS_H

#include "schedule/schedule.h"

#define POD_PLAN_KERNEL "pod_plan"

enum {
    POD_PLAN_THREADS = 256,
    POD_PLAN_MAX_MASKS = 8,
    POD_PLAN_CHECKERS_PER_SM = 2 /**< CTAs that check page tables beside those that plan, at most */
};

typedef struct pod_plan_params {
    int32_t num_masks;
    int32_t num_pages;
    int32_t page_size;
    int32_t max_pages;
    const int32_t *page_table; /**< NULL: request r has the one page r */
    int64_t page_table_stride;
    uint64_t signature;   /**< of the plan */
    int32_t *bad_request; /**< NULL, or where 1 + r goes for some wrong request r */
    pod_tiling tiling;
    pod_shape shapes[POD_PLAN_MAX_MASKS];       /**< q_start, kv_len, causal_per_request: device addresses */
    pod_schedule schedules[POD_PLAN_MAX_MASKS]; /**< device addresses */
} pod_plan_params;

#endif
