/* SPDX-License-Identifier: Apache-2.0 */
/* What the planning kernel is launched with, by value. */
#ifndef POD_CUDA_PLAN_PARAMS_H
#define POD_CUDA_PLAN_PARAMS_H

#include "schedule/schedule.h"

#define POD_PLAN_KERNEL "pod_plan"

enum {
    POD_PLAN_THREADS = 256,
    POD_PLAN_CHECKERS_PER_SM = 2 /**< CTAs that check page tables beside the one that plans, at most */
};

typedef struct pod_plan_params {
    pod_shape shape; /**< q_start and kv_len: device addresses */
    pod_tiling tiling;
    pod_schedule schedule;     /**< device addresses */
    uint64_t signature;        /**< of the workspace's layout */
    const int32_t *page_table; /**< NULL: request r has the one page r */
    int64_t page_table_stride;
    int32_t max_pages;
    int32_t num_pages;
    int32_t page_size;
} pod_plan_params;

#endif
