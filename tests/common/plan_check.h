/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that must hold for a plan, checked over pod_plan_visit() and the workspace, with arithmetic of its own. */
#ifndef POD_TEST_PLAN_CHECK_H
#define POD_TEST_PLAN_CHECK_H

#include "backend/backend.h"

/** Keeps its memory from one plan to the next. Starts zeroed. */
typedef struct plan_check {
    pod_work_item *items;
    size_t num_items, capacity;
    unsigned char *marks;
    size_t marks_capacity;
    /* The mask that is being checked. */
    int32_t mask;
    const pod_shape *shape;
    const pod_schedule *schedule;
    char message[256]; /**< what did not hold */
} plan_check;

/** Partial slots that the split prefill tiles of a schedule have, by its queue. */
int32_t plan_num_prefill_slots(const pod_shape *shape, const pod_schedule *schedule);

/** 1 if the plan is consistent: work covered exactly once, parts and slots and queues in order, bounds kept. */
int plan_check_all(plan_check *check, const pod_plan *plan);

/** 1 if every key that a query row sees is in exactly one item, counted key by key: for small batches. */
int plan_check_each_key(plan_check *check, const pod_plan *plan);

void plan_check_free(plan_check *check);

#endif
