/* SPDX-License-Identifier: Apache-2.0 */
/* A small valid call (three requests, paged, grouped) that tests spoil in one place at a time. */
#ifndef POD_TEST_CALL_FIXTURE_H
#define POD_TEST_CALL_FIXTURE_H

#include "test_workspace.h"
#include "unit.h"

enum {
    CALL_Q_HEADS = 4,
    CALL_KV_HEADS = 2,
    CALL_HEAD_DIM = 8,
    CALL_PAGE_SIZE = 4,
    CALL_Q_TOKENS = 5,
    CALL_NUM_PAGES = 6,
    CALL_Q_ELEMENTS = CALL_Q_TOKENS * CALL_Q_HEADS * CALL_HEAD_DIM,
    CALL_KV_ELEMENTS = CALL_NUM_PAGES * CALL_PAGE_SIZE * CALL_KV_HEADS * CALL_HEAD_DIM,
    CALL_POISON = 0xcd
};

typedef struct call_fixture {
    pod_device *device;
    pod_limits limits;
    pod_batch batch;
    pod_mask mask; /**< the batch's only one */
    pod_tensors tensors;
    pod_cache cache;
    pod_plan *plan;
    test_workspace workspace;
    int32_t q_start[4], kv_len[3], page_table[3 * 4];
    float q[CALL_Q_ELEMENTS], k[CALL_KV_ELEMENTS], v[CALL_KV_ELEMENTS];
    float out[CALL_Q_ELEMENTS + 1], lse[CALL_Q_TOKENS * CALL_Q_HEADS + 1];
} call_fixture;

/** An open device ("cpu:1" computes, "sim:..." only plans), a plan and a workspace, filled with CALL_POISON. */
void call_open(call_fixture *call, const char *device_name);
void call_close(call_fixture *call);

pod_status call_build(call_fixture *call);
pod_status call_attention(call_fixture *call);

/** The workspace still holds nothing but CALL_POISON. */
int call_workspace_untouched(const call_fixture *call);

/** `out` and `lse` still hold nothing but CALL_POISON. */
int call_outputs_untouched(const call_fixture *call);

#endif
