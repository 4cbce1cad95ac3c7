/* SPDX-License-Identifier: Apache-2.0 */
/* What pod_workspace_size() and pod_plan_create() refuse, and with which words. */
#include "unit.h"

#include <stdio.h>

static pod_limits valid_limits(void) {
    pod_limits limits = pod_limits_init();
    limits.q_heads = 32;
    limits.kv_heads = 8;
    limits.head_dim = 128;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = POD_BF16;
    limits.page_size = 16;
    limits.max_requests = 64;
    limits.max_q_tokens = 512;
    limits.max_kv_len = 4096;
    return limits;
}

static pod_device *device;

static int open_device(void **state) {
    (void)state;
    return pod_device_open("cpu:1", &device) != POD_OK;
}

static int close_device(void **state) {
    (void)state;
    pod_device_close(device);
    return 0;
}

/** Both calls refuse the limits in the same words and leave what they would have written. */
static void assert_limits_refused(const pod_device *on, const pod_limits *limits, pod_status status,
                                  const char *message) {
    pod_workspace workspace = pod_workspace_init();
    workspace.plan_bytes = workspace.scratch_bytes = 12345;
    pod_plan *plan = (pod_plan *)&workspace;
    assert_fails(pod_workspace_size(on, limits, &workspace), status, message);
    assert_true(workspace.plan_bytes == 12345 && workspace.scratch_bytes == 12345);
    assert_fails(pod_plan_create((pod_device *)on, limits, &plan), status, message);
    assert_null(plan);
}

#define REFUSES(change, status, message)                                                                               \
    do {                                                                                                               \
        pod_limits limits = valid_limits();                                                                            \
        limits.change;                                                                                                 \
        assert_limits_refused(device, &limits, status, message);                                                       \
    } while (0)

static void null_arguments(void **state) {
    (void)state;
    pod_limits limits = valid_limits();
    assert_limits_refused(NULL, &limits, POD_E_ARGUMENT, "device is NULL");
    assert_limits_refused(device, NULL, POD_E_ARGUMENT, "limits is NULL");
    assert_fails(pod_workspace_size(device, &limits, NULL), POD_E_ARGUMENT, "workspace is NULL");
    assert_fails(pod_plan_create(device, &limits, NULL), POD_E_ARGUMENT, "plan is NULL");
    pod_plan_destroy(NULL);
}

static void wrong_struct_size(void **state) {
    (void)state;
    char message[128];
    snprintf(message, sizeof message,
             "limits.struct_size = 0 is not a size of this struct (%zu); start from pod_limits_init()",
             sizeof(pod_limits));
    REFUSES(struct_size = 0, POD_E_ARGUMENT, message);
    snprintf(message, sizeof message,
             "limits.struct_size = %zu is not a size of this struct (%zu); start from pod_limits_init()",
             sizeof(pod_limits) - 4, sizeof(pod_limits));
    REFUSES(struct_size -= 4, POD_E_ARGUMENT, message);
}

static void optional_fields(void **state) {
    (void)state;
    REFUSES(v_head_dim = 584, POD_E_ARGUMENT, "v_head_dim = 584 is outside [8, 576]");
    REFUSES(v_head_dim = 12, POD_E_ARGUMENT, "v_head_dim = 12 is not a multiple of 8");
    REFUSES(max_masks = 9, POD_E_ARGUMENT, "max_masks = 9 is outside [1, 8]");
    REFUSES(max_masks = -1, POD_E_ARGUMENT, "max_masks = -1 is outside [1, 8]");
    REFUSES(tree_masks = 2, POD_E_ARGUMENT, "tree_masks = 2 is outside [0, 1]");
    REFUSES(alibi = -1, POD_E_ARGUMENT, "alibi = -1 is outside [0, 1]");
    REFUSES(right_windows = 3, POD_E_ARGUMENT, "right_windows = 3 is outside [0, 1]");
    REFUSES(batch_memory = (pod_memory)3, POD_E_ARGUMENT,
            "batch_memory = 3 is neither POD_MEMORY_HOST nor POD_MEMORY_DEVICE");
    REFUSES(batch_memory = POD_MEMORY_DEVICE, POD_E_UNSUPPORTED,
            "batch_memory = POD_MEMORY_DEVICE is not supported by the cpu backend");
}

static void heads(void **state) {
    (void)state;
    REFUSES(q_heads = 0, POD_E_ARGUMENT, "q_heads = 0 is outside [1, 1024]");
    REFUSES(q_heads = -8, POD_E_ARGUMENT, "q_heads = -8 is outside [1, 1024]");
    REFUSES(q_heads = 1025, POD_E_ARGUMENT, "q_heads = 1025 is outside [1, 1024]");
    REFUSES(kv_heads = 0, POD_E_ARGUMENT, "kv_heads = 0 is outside [1, 32]");
    REFUSES(kv_heads = 33, POD_E_ARGUMENT, "kv_heads = 33 is outside [1, 32]");
    REFUSES(kv_heads = 5, POD_E_ARGUMENT, "q_heads = 32 is not a multiple of kv_heads = 5");
    REFUSES(head_dim = 0, POD_E_ARGUMENT, "head_dim = 0 is outside [8, 576]");
    REFUSES(head_dim = 584, POD_E_ARGUMENT, "head_dim = 584 is outside [8, 576]");
    REFUSES(head_dim = 12, POD_E_ARGUMENT, "head_dim = 12 is not a multiple of 8");
}

static void dtypes(void **state) {
    (void)state;
    REFUSES(q_dtype = (pod_dtype)4, POD_E_ARGUMENT, "q_dtype = 4 is no dtype");
    REFUSES(kv_dtype = (pod_dtype)77, POD_E_ARGUMENT, "kv_dtype = 77 is no dtype");
    REFUSES(out_dtype = (pod_dtype)5, POD_E_ARGUMENT, "out_dtype = 5 is no dtype");
    REFUSES(q_dtype = POD_F8E4M3, POD_E_UNSUPPORTED,
            "q_dtype f8e4m3 is not supported by the cpu backend; f32, f16 and bf16 are");
    REFUSES(out_dtype = POD_F8E4M3, POD_E_UNSUPPORTED,
            "out_dtype f8e4m3 is not supported by the cpu backend; f32, f16 and bf16 are");
}

static void maxima(void **state) {
    (void)state;
    REFUSES(page_size = 0, POD_E_ARGUMENT, "page_size = 0 is outside [1, 1073741824]");
    REFUSES(page_size = -16, POD_E_ARGUMENT, "page_size = -16 is outside [1, 1073741824]");
    REFUSES(max_requests = 0, POD_E_ARGUMENT, "max_requests = 0 is outside [1, 16777216]");
    REFUSES(max_requests = 16777217, POD_E_ARGUMENT, "max_requests = 16777217 is outside [1, 16777216]");
    REFUSES(max_q_tokens = 0, POD_E_ARGUMENT, "max_q_tokens = 0 is outside [1, 536870655]");
    REFUSES(max_q_tokens = INT32_MAX, POD_E_ARGUMENT, "max_q_tokens = 2147483647 is outside [1, 536870655]");
    REFUSES(max_kv_len = 0, POD_E_ARGUMENT, "max_kv_len = 0 is outside [1, 1073741824]");
    REFUSES(max_kv_len = INT32_MAX, POD_E_ARGUMENT, "max_kv_len = 2147483647 is outside [1, 1073741824]");
}

static void what_32_bits_cannot_count(void **state) {
    (void)state;
    pod_limits limits = valid_limits();
    limits.max_requests = 1 << 24;
    limits.max_kv_len = 1 << 30;
    assert_limits_refused(device, &limits, POD_E_LIMIT,
                          "max_requests = 16777216 of max_kv_len = 1073741824 and kv_heads = 8 are more KV tiles than "
                          "32 bits count");
    limits = valid_limits();
    limits.q_heads = limits.kv_heads = 1024;
    limits.max_requests = 1 << 18;
    limits.max_kv_len = 1;
    limits.max_q_tokens = INT32_MAX - 1024;
    assert_limits_refused(device, &limits, POD_E_LIMIT,
                          "max_q_tokens = 2147482623 with q_heads = 1024 is more row tiles than 32 bits count");
}

static void the_smallest_and_the_largest_are_taken(void **state) {
    (void)state;
    pod_workspace small = pod_workspace_init(), large = pod_workspace_init();
    pod_limits limits = pod_limits_init();
    limits.q_heads = limits.kv_heads = limits.page_size = 1;
    limits.head_dim = 8;
    limits.max_requests = limits.max_q_tokens = limits.max_kv_len = 1;
    assert_ok(pod_workspace_size(device, &limits, &small));
    assert_int_equal(small.plan_bytes % POD_WORKSPACE_ALIGN, 0);
    assert_int_equal(small.scratch_bytes % POD_WORKSPACE_ALIGN, 0);
    limits.q_heads = 1024;
    limits.head_dim = 576;
    limits.page_size = 1 << 30;
    limits.max_kv_len = 1 << 30;
    limits.max_requests = 100;
    limits.max_q_tokens = (INT32_MAX - 1024) / 1024;
    assert_ok(pod_workspace_size(device, &limits, &large));
    assert_true(large.plan_bytes > small.plan_bytes && large.scratch_bytes > small.scratch_bytes);
}

/** A plan for masks holds a schedule for each; partial results are shared by them. */
static void masks_take_room_in_the_plan_alone(void **state) {
    (void)state;
    pod_limits limits = valid_limits();
    pod_workspace one = pod_workspace_init(), four = pod_workspace_init();
    assert_ok(pod_workspace_size(device, &limits, &one));
    limits.max_masks = 4;
    assert_ok(pod_workspace_size(device, &limits, &four));
    assert_true(four.plan_bytes > 3 * one.plan_bytes && four.plan_bytes <= 4 * one.plan_bytes);
    assert_int_equal(four.scratch_bytes, one.scratch_bytes);
}

/** A GPU copies them; what plays one says how much that takes. */
static void host_batches_take_room_on_a_simulated_gpu(void **state) {
    (void)state;
    static const char *const names[] = {"sim:h100", "sim:a100"};
    /* q_start, kv_len, causal_per_request and 1000 pages of 64 requests */
    const size_t copies_bytes = 512 + 256 + 256 + (size_t)64 * 1000 * 4;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        pod_device *sim = NULL;
        pod_limits limits = valid_limits();
        pod_workspace host = pod_workspace_init(), on_device = pod_workspace_init();
        limits.page_size = 16;
        limits.max_requests = 64;
        limits.max_kv_len = 16000;
        assert_ok(pod_device_open(names[i], &sim));
        assert_ok(pod_workspace_size(sim, &limits, &host));
        limits.batch_memory = POD_MEMORY_DEVICE;
        assert_ok(pod_workspace_size(sim, &limits, &on_device));
        assert_int_equal(host.plan_bytes - on_device.plan_bytes, copies_bytes);
        assert_int_equal(host.scratch_bytes, on_device.scratch_bytes);
        pod_device_close(sim);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_arguments),
        cmocka_unit_test(wrong_struct_size),
        cmocka_unit_test(optional_fields),
        cmocka_unit_test(heads),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(maxima),
        cmocka_unit_test(what_32_bits_cannot_count),
        cmocka_unit_test(the_smallest_and_the_largest_are_taken),
        cmocka_unit_test(masks_take_room_in_the_plan_alone),
        cmocka_unit_test(host_batches_take_room_on_a_simulated_gpu),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
