/* SPDX-License-Identifier: Apache-2.0 */
#include "call_fixture.h"

static const int32_t Q_START[] = {0, 3, 3, 5};
static const int32_t KV_LEN[] = {7, 0, 9};
static const int32_t PAGE_TABLE[] = {5, 0, -1, -1, -1, -1, -1, -1, 4, 1, 3, -1};

static void fill(float *array, size_t count) {
    for (size_t i = 0; i < count; i++) array[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
}

void call_open(call_fixture *call, const char *device_name) {
    memset(call, 0, sizeof *call);
    call->limits = pod_limits_init();
    call->limits.q_heads = CALL_Q_HEADS;
    call->limits.kv_heads = CALL_KV_HEADS;
    call->limits.head_dim = CALL_HEAD_DIM;
    call->limits.page_size = CALL_PAGE_SIZE;
    call->limits.max_requests = 3;
    call->limits.max_q_tokens = CALL_Q_TOKENS;
    call->limits.max_kv_len = 16;

    memcpy(call->q_start, Q_START, sizeof Q_START);
    memcpy(call->kv_len, KV_LEN, sizeof KV_LEN);
    memcpy(call->page_table, PAGE_TABLE, sizeof PAGE_TABLE);
    call->batch = pod_batch_init();
    call->batch.num_requests = 3;
    call->batch.q_start = call->q_start;
    call->batch.kv_len = call->kv_len;
    call->batch.page_table = call->page_table;
    call->batch.page_table_stride = 4;
    call->batch.max_pages = 4;
    call->batch.num_pages = CALL_NUM_PAGES;
    call->mask = pod_mask_init();
    call->mask.causal = 1;
    call->batch.num_masks = 1;
    call->batch.masks = &call->mask;

    fill(call->q, CALL_Q_ELEMENTS);
    fill(call->k, CALL_KV_ELEMENTS);
    fill(call->v, CALL_KV_ELEMENTS);
    memset(call->out, CALL_POISON, sizeof call->out);
    memset(call->lse, CALL_POISON, sizeof call->lse);
    call->tensors = pod_tensors_init();
    call->tensors.q = call->q;
    call->tensors.out = call->out;
    call->tensors.lse = call->lse;
    call->cache = pod_cache_init();
    call->cache.k = call->k;
    call->cache.v = call->v;

    assert_ok(pod_device_open(device_name, &call->device));
    assert_ok(test_workspace_plan(call->device, &call->limits, CALL_POISON, &call->workspace, &call->plan));
}

void call_close(call_fixture *call) {
    assert_true(test_workspace_intact(&call->workspace));
    test_workspace_free(&call->workspace);
    pod_plan_destroy(call->plan);
    pod_device_close(call->device);
}

pod_status call_build(call_fixture *call) {
    return pod_plan_build(call->plan, &call->batch, NULL);
}

pod_status call_attention(call_fixture *call) {
    return pod_attention(call->plan, &call->tensors, &call->cache, NULL);
}

static int holds_only_poison(const void *memory, size_t bytes) {
    const unsigned char *byte = memory;
    for (size_t i = 0; i < bytes; i++) {
        if (byte[i] != CALL_POISON) return 0;
    }
    return 1;
}

int call_workspace_untouched(const call_fixture *call) {
    return test_workspace_untouched(&call->workspace, CALL_POISON);
}

int call_outputs_untouched(const call_fixture *call) {
    return holds_only_poison(call->out, sizeof call->out) && holds_only_poison(call->lse, sizeof call->lse);
}
