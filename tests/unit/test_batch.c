/* SPDX-License-Identifier: Apache-2.0 */
/* What pod_plan_build() and the oracle refuse of a batch, and with which words; nothing is written then. */
#include "call_fixture.h"

#include <math.h>
#include <stdio.h>

/** Build and oracle refuse the batch, the plan counts as not built, and no byte was written. */
static void assert_batch_refused(call_fixture *call, const pod_batch *batch, pod_status status, const char *message) {
    assert_fails(pod_plan_build(call->plan, batch, NULL), status, message);
    assert_true(call_workspace_untouched(call));
    assert_fails(call_attention(call), POD_E_STATE, "pod_plan_build() has not succeeded on this plan yet");
    assert_true(call_outputs_untouched(call));

    double out[CALL_Q_ELEMENTS], before[CALL_Q_ELEMENTS];
    memset(out, CALL_POISON, sizeof out);
    memset(before, CALL_POISON, sizeof before);
    assert_fails(pod_reference_attention(&call->limits, batch, &call->tensors, &call->cache, -1, out, NULL), status,
                 message);
    assert_memory_equal(out, before, sizeof out);
}

#define REFUSES(change, status, message)                                                                               \
    do {                                                                                                               \
        call_fixture call;                                                                                             \
        call_open(&call, "cpu:1");                                                                                     \
        call.change;                                                                                                   \
        assert_batch_refused(&call, &call.batch, status, message);                                                     \
        call_close(&call);                                                                                             \
    } while (0)

static const int32_t *misaligned(const int32_t *array) {
    return (const int32_t *)(const void *)((const char *)array + 2);
}

static void the_struct(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_batch_refused(&call, NULL, POD_E_ARGUMENT, "batch is NULL");
    call_close(&call);
    char message[128];
    snprintf(message, sizeof message,
             "batch.struct_size = 8 is not a size of this struct (%zu); start from pod_batch_init()",
             sizeof(pod_batch));
    REFUSES(batch.struct_size = 8, POD_E_ARGUMENT, message);
    REFUSES(batch.memory = (pod_memory)2, POD_E_ARGUMENT,
            "memory = 2 is neither POD_MEMORY_HOST nor POD_MEMORY_DEVICE");
    REFUSES(batch.num_requests = -1, POD_E_ARGUMENT, "num_requests = -1 is negative");
    REFUSES(batch.num_requests = 4, POD_E_LIMIT, "num_requests = 4 exceeds max_requests = 3");
    REFUSES(batch.num_q_tokens = -1, POD_E_ARGUMENT, "num_q_tokens = -1 is negative");
    REFUSES(batch.num_q_tokens = 6, POD_E_LIMIT, "num_q_tokens = 6 exceeds max_q_tokens = 5");
    REFUSES(batch.num_q_tokens = 4, POD_E_ARGUMENT, "q_start[3] = 5 exceeds num_q_tokens = 4");
    REFUSES(batch.num_pages = -1, POD_E_ARGUMENT, "num_pages = -1 is negative");
    REFUSES(batch.q_start = NULL, POD_E_ARGUMENT, "q_start is NULL");
    REFUSES(batch.kv_len = NULL, POD_E_ARGUMENT, "kv_len is NULL");
    REFUSES(batch.max_pages = -1, POD_E_ARGUMENT, "max_pages = -1 is negative");
    REFUSES(batch.page_table_stride = 3, POD_E_ARGUMENT, "page_table_stride = 3 is smaller than max_pages = 4");
    REFUSES(batch.page_table_stride = -4, POD_E_ARGUMENT, "page_table_stride = -4 is smaller than max_pages = 4");
    REFUSES(batch.page_table_stride = INT64_C(1) << 62, POD_E_ARGUMENT,
            "page_table_stride = 4611686018427387904 reaches past the 144115188075855872 bytes that addresses count");
    REFUSES(batch.page_table_stride = INT64_C(1) << 55, POD_E_ARGUMENT,
            "page_table_stride = 36028797018963968 reaches past the 144115188075855872 bytes that addresses count");
    REFUSES(batch.q_start = misaligned(call.q_start), POD_E_ARGUMENT,
            "q_start is not aligned to its element of 4 bytes");
    REFUSES(batch.kv_len = misaligned(call.kv_len), POD_E_ARGUMENT, "kv_len is not aligned to its element of 4 bytes");
    REFUSES(batch.page_table = misaligned(call.page_table), POD_E_ARGUMENT,
            "page_table is not aligned to its element of 4 bytes");
}

static void the_masks(void **state) {
    (void)state;
    char message[128];
    REFUSES(batch.num_masks = -1, POD_E_ARGUMENT, "num_masks = -1 is outside [0, 1]");
    REFUSES(batch.num_masks = 2, POD_E_ARGUMENT, "num_masks = 2 is outside [0, 1]");
    REFUSES(batch.masks = NULL, POD_E_ARGUMENT, "masks is NULL");
    snprintf(message, sizeof message,
             "masks[0].struct_size = 7 is not a size of this struct (%zu); start from pod_mask_init()",
             sizeof(pod_mask));
    REFUSES(mask.struct_size = 7, POD_E_ARGUMENT, message);
    REFUSES(mask.causal = 2, POD_E_ARGUMENT, "masks[0].causal = 2 is outside [0, 1]");
    REFUSES(mask.causal = -1, POD_E_ARGUMENT, "masks[0].causal = -1 is outside [0, 1]");
    REFUSES(mask.window_tokens = -1, POD_E_ARGUMENT, "masks[0].window_tokens = -1 is negative");
    REFUSES(mask.right_window_tokens = -1, POD_E_ARGUMENT,
            "masks[0].right_window_tokens = -1 is outside [0, 1073741824]");
    REFUSES(mask.causal_per_request = misaligned(call.q_start), POD_E_ARGUMENT,
            "masks[0].causal_per_request is not aligned to its element of 4 bytes");
    REFUSES(batch.masks = (const pod_mask *)(const void *)((const char *)&call.mask + 4), POD_E_ARGUMENT,
            "masks is not aligned to its element of 8 bytes");
    static const int32_t causal[] = {0, 1, 2};
    REFUSES(mask.causal_per_request = causal, POD_E_ARGUMENT, "masks[0].causal_per_request[2] = 2 is neither 0 nor 1");
}

/** Each mask of an array is named by its place, and is as long as the first. */
static void the_second_mask(void **state) {
    (void)state;
    struct {
        pod_mask mask;
        size_t of_newer; /* zero, so that a longer mask is one of a newer header */
    } masks[2] = {{pod_mask_init(), 0}, {pod_mask_init(), 0}};
    call_fixture call;
    char message[128];
    call_open(&call, "cpu:1");
    pod_plan *plan;
    test_workspace workspace;
    call.limits.max_masks = 2;
    assert_ok(test_workspace_plan(call.device, &call.limits, CALL_POISON, &workspace, &plan));
    call.batch.num_masks = 2;
    call.batch.masks = &masks[0].mask;
    masks[0].mask.struct_size = sizeof masks[0];
    masks[1].mask.struct_size = 7;
    snprintf(message, sizeof message,
             "masks[1].struct_size = 7 is not a size of this struct (%zu); start from pod_mask_init()",
             sizeof(pod_mask));
    assert_fails(pod_plan_build(plan, &call.batch, NULL), POD_E_ARGUMENT, message);
    masks[1].mask.struct_size = sizeof(pod_mask);
    snprintf(message, sizeof message, "masks[1].struct_size = %zu is not that of masks[0], %zu", sizeof(pod_mask),
             sizeof masks[0]);
    assert_fails(pod_plan_build(plan, &call.batch, NULL), POD_E_ARGUMENT, message);
    masks[1].mask.struct_size = sizeof masks[0];
    masks[1].mask.causal_per_request = misaligned(call.q_start);
    assert_fails(pod_plan_build(plan, &call.batch, NULL), POD_E_ARGUMENT,
                 "masks[1].causal_per_request is not aligned to its element of 4 bytes");
    masks[1].mask.causal_per_request = NULL;
    assert_ok(pod_plan_build(plan, &call.batch, NULL));
    pod_plan_destroy(plan);
    test_workspace_free(&workspace);
    call_close(&call);
}

static void causal_per_request_says_who_needs_keys(void **state) {
    (void)state;
    static const int32_t none[] = {0, 0, 0}, last[] = {0, 0, 1};
    call_fixture call;
    call_open(&call, "cpu:1");
    call.kv_len[0] = 2; /* of 3 query tokens */
    call.mask.causal_per_request = last;
    assert_ok(call_build(&call));
    call.mask.causal_per_request = none;
    assert_ok(call_build(&call));
    call_close(&call);
    REFUSES(kv_len[2] = (call.mask.causal_per_request = last, 1), POD_E_ARGUMENT,
            "kv_len[2] = 1 is smaller than q_len[2] = 2");
}

static void the_lengths(void **state) {
    (void)state;
    REFUSES(q_start[0] = 1, POD_E_ARGUMENT, "q_start[0] = 1 is not 0");
    REFUSES(q_start[0] = -1, POD_E_ARGUMENT, "q_start[0] = -1 is not 0");
    REFUSES(q_start[2] = 2, POD_E_ARGUMENT, "q_start[2] = 2 is smaller than q_start[1] = 3");
    REFUSES(q_start[1] = INT32_MIN, POD_E_ARGUMENT, "q_start[1] = -2147483648 is smaller than q_start[0] = 0");
    REFUSES(q_start[3] = 6, POD_E_LIMIT, "q_start[3] = 6 exceeds max_q_tokens = 5");
    REFUSES(q_start[1] = INT32_MAX, POD_E_LIMIT, "q_start[1] = 2147483647 exceeds max_q_tokens = 5");
    REFUSES(kv_len[1] = -1, POD_E_ARGUMENT, "kv_len[1] = -1 is negative");
    REFUSES(kv_len[2] = 17, POD_E_LIMIT, "kv_len[2] = 17 exceeds max_kv_len = 16");
    REFUSES(kv_len[2] = INT32_MAX, POD_E_LIMIT, "kv_len[2] = 2147483647 exceeds max_kv_len = 16");
    REFUSES(kv_len[0] = 2, POD_E_ARGUMENT, "kv_len[0] = 2 is smaller than q_len[0] = 3");
    REFUSES(kv_len[2] = 0, POD_E_ARGUMENT, "kv_len[2] = 0 is smaller than q_len[2] = 2");
}

static void the_page_table(void **state) {
    (void)state;
    REFUSES(page_table[1] = 6, POD_E_ARGUMENT, "page_table[0][1] = 6 is outside [0, 6)");
    REFUSES(page_table[2 * 4 + 2] = -1, POD_E_ARGUMENT, "page_table[2][2] = -1 is outside [0, 6)");
    REFUSES(page_table[0] = INT32_MAX, POD_E_ARGUMENT, "page_table[0][0] = 2147483647 is outside [0, 6)");
    REFUSES(batch.num_pages = 0, POD_E_ARGUMENT, "page_table[0][0] = 5 is outside [0, 0)");
    REFUSES(batch.max_pages = 2, POD_E_ARGUMENT, "kv_len[2] = 9 needs 3 pages of 4 tokens, but max_pages = 2");
}

static void a_contiguous_cache(void **state) {
    (void)state;
    REFUSES(batch.page_table = NULL, POD_E_ARGUMENT, "kv_len[0] = 7 exceeds page_size = 4 without a page_table");
    call_fixture call;
    call_open(&call, "cpu:1");
    call.batch.page_table = NULL;
    call.batch.num_pages = 2;
    call.kv_len[0] = call.kv_len[2] = 4;
    assert_batch_refused(&call, &call.batch, POD_E_ARGUMENT, "request 2 needs page 2, but num_pages = 2");
    call.batch.num_pages = 3;
    assert_ok(call_build(&call));
    call_close(&call);
}

static void device_memory_needs_a_device(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    call.batch.memory = POD_MEMORY_DEVICE;
    assert_fails(call_build(&call), POD_E_UNSUPPORTED,
                 "memory = POD_MEMORY_DEVICE is not supported by a device on the host");
    assert_true(call_workspace_untouched(&call));
    double out[CALL_Q_ELEMENTS];
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, -1, out, NULL),
                 POD_E_UNSUPPORTED, "memory = POD_MEMORY_DEVICE is not supported by the oracle");
    call_close(&call);
}

static void entries_that_are_not_read_may_be_anything(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    call.page_table[3] = INT32_MIN;
    call.page_table[2 * 4 + 3] = INT32_MAX;
    call.kv_len[1] = 1; /* without a query */
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    call_close(&call);
}

/** The queries of request 0 are at positions 4 to 6, those of request 2 at 7 and 8; pages hold 4 tokens. */
static void entries_before_every_window_may_be_anything(void **state) {
    (void)state;
    static const int32_t marks[] = {-1, INT32_MIN, INT32_MAX, CALL_NUM_PAGES};
    for (int i = 0; i < 4; i++) {
        call_fixture call;
        double out[CALL_Q_ELEMENTS];
        call_open(&call, "cpu:1");
        call.mask.window_tokens = 1;
        call.page_table[0] = call.page_table[2 * 4] = marks[i];
        assert_ok(call_build(&call));
        assert_ok(call_attention(&call));
        assert_ok(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, -1, out, NULL));
        for (int e = 0; e < CALL_Q_ELEMENTS; e++) assert_true(fabs((double)call.out[e] - out[e]) < 1e-5);
        call_close(&call);
    }
    REFUSES(page_table[0] = (call.mask.window_tokens = 2, -1), POD_E_ARGUMENT,
            "page_table[0][0] = -1 is outside [0, 6)");
    REFUSES(page_table[2 * 4] = (call.mask.window_tokens = 5, -1), POD_E_ARGUMENT,
            "page_table[2][0] = -1 is outside [0, 6)");
    REFUSES(page_table[2 * 4 + 1] = (call.mask.window_tokens = 4, -1), POD_E_ARGUMENT,
            "page_table[2][1] = -1 is outside [0, 6)");
}

static void the_widest_of_the_masks_says_which_pages_are_needed(void **state) {
    (void)state;
    call_fixture call;
    pod_plan *plan;
    test_workspace workspace;
    pod_mask masks[2];
    call_open(&call, "cpu:1");
    call.limits.max_masks = 2;
    assert_ok(test_workspace_plan(call.device, &call.limits, CALL_POISON, &workspace, &plan));
    masks[0] = masks[1] = call.mask;
    call.batch.num_masks = 2;
    call.batch.masks = masks;
    call.page_table[2 * 4] = -1;
    masks[0].window_tokens = 1;
    masks[1].window_tokens = 4; /* the query at position 7 sees from 4 on */
    assert_ok(pod_plan_build(plan, &call.batch, NULL));
    masks[1].window_tokens = 5;
    assert_fails(pod_plan_build(plan, &call.batch, NULL), POD_E_ARGUMENT, "page_table[2][0] = -1 is outside [0, 6)");
    masks[1].window_tokens = 0;
    assert_fails(pod_plan_build(plan, &call.batch, NULL), POD_E_ARGUMENT, "page_table[2][0] = -1 is outside [0, 6)");
    test_workspace_free(&workspace);
    pod_plan_destroy(plan);
    call_close(&call);
}

static void one_row_of_pages_has_no_stride(void **state) {
    (void)state;
    static const int64_t strides[] = {0, -1, 3, INT64_C(1) << 62};
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++) {
        call_fixture call;
        call_open(&call, "cpu:1");
        call.batch.num_requests = 1;
        call.batch.page_table_stride = strides[i];
        assert_ok(call_build(&call));
        assert_ok(call_attention(&call));
        call_close(&call);
    }
}

static void no_request_at_all_is_a_batch(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    call.batch.num_requests = 0;
    call.batch.kv_len = NULL;
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    assert_true(call_outputs_untouched(&call));
    call_close(&call);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_struct),
        cmocka_unit_test(the_masks),
        cmocka_unit_test(the_second_mask),
        cmocka_unit_test(causal_per_request_says_who_needs_keys),
        cmocka_unit_test(the_lengths),
        cmocka_unit_test(the_page_table),
        cmocka_unit_test(a_contiguous_cache),
        cmocka_unit_test(device_memory_needs_a_device),
        cmocka_unit_test(entries_that_are_not_read_may_be_anything),
        cmocka_unit_test(entries_before_every_window_may_be_anything),
        cmocka_unit_test(the_widest_of_the_masks_says_which_pages_are_needed),
        cmocka_unit_test(one_row_of_pages_has_no_stride),
        cmocka_unit_test(no_request_at_all_is_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
