/* SPDX-License-Identifier: Apache-2.0 */
/* The order of calls, the workspace and the tensors: what pod_attention() and its neighbours refuse. */
#include "call_fixture.h"

#include <math.h>
#include <stdio.h>

static const char NOT_BUILT[] = "pod_plan_build() has not succeeded on this plan yet";
static const char OTHER_WORKSPACE[] = "workspace is not the one that the plan was built in";

static void assert_attention_refused(call_fixture *call, pod_status status, const char *message) {
    assert_fails(call_attention(call), status, message);
    assert_true(call_outputs_untouched(call));
}

#define REFUSES(change, status, message)                                                                               \
    do {                                                                                                               \
        call_fixture call;                                                                                             \
        call_open(&call, "cpu:1");                                                                                     \
        assert_ok(call_build(&call));                                                                                  \
        call.change;                                                                                                   \
        assert_attention_refused(&call, status, message);                                                              \
        call_close(&call);                                                                                             \
    } while (0)

static void null_plans(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    void *workspace = call.workspace.data;
    size_t bytes = call.workspace.bytes;
    pod_plan_info info = pod_plan_info_init();
    assert_fails(pod_plan_build(NULL, &call.batch, workspace, bytes, NULL), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_attention(NULL, &call.tensors, workspace, bytes, NULL), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_plan_get_info(NULL, &info), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_plan_status(NULL, NULL), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_plan_visit(NULL, NULL, NULL), POD_E_ARGUMENT, "plan is NULL");
    call_close(&call);
}

static void everything_needs_a_built_plan(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    pod_plan_info info = pod_plan_info_init();
    assert_attention_refused(&call, POD_E_STATE, NOT_BUILT);
    assert_fails(pod_plan_get_info(call.plan, &info), POD_E_STATE, NOT_BUILT);
    assert_fails(pod_plan_status(call.plan, NULL), POD_E_STATE, NOT_BUILT);
    assert_fails(pod_plan_visit(call.plan, NULL, NULL), POD_E_STATE, NOT_BUILT);
    call_close(&call);
}

static void a_failed_build_undoes_the_last_one(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    call.kv_len[0] = -1;
    assert_fails(call_build(&call), POD_E_ARGUMENT, "kv_len[0] = -1 is negative");
    assert_attention_refused(&call, POD_E_STATE, NOT_BUILT);
    call.kv_len[0] = 7;
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    assert_ok(pod_plan_status(call.plan, NULL));
    call_close(&call);
}

static void looking_inside_checks_its_arguments(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    assert_fails(pod_plan_get_info(call.plan, NULL), POD_E_ARGUMENT, "info is NULL");
    assert_fails(pod_plan_visit(call.plan, NULL, NULL), POD_E_ARGUMENT, "visit is NULL");
    pod_plan_info info = pod_plan_info_init();
    info.struct_size = 1;
    char message[128];
    snprintf(message, sizeof message, "info.struct_size = 1 is not %zu; start from pod_plan_info_init()", sizeof info);
    assert_fails(pod_plan_get_info(call.plan, &info), POD_E_ARGUMENT, message);
    call_close(&call);
}

static int stop_at_second(void *count, const pod_work_item *item) {
    (void)item;
    return ++*(int *)count == 2;
}

static void a_visit_stops_when_asked(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    int count = 0;
    assert_ok(pod_plan_visit(call.plan, stop_at_second, &count));
    assert_int_equal(count, 2);
    call_close(&call);
}

static void build_needs_all_of_its_workspace(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    unsigned char *data = call.workspace.data;
    size_t bytes = call.workspace.bytes;
    char message[128];
    snprintf(message, sizeof message, "workspace_bytes = %zu is smaller than the %zu that the limits need", bytes - 1,
             bytes);
    assert_fails(pod_plan_build(call.plan, &call.batch, data, bytes - 1, NULL), POD_E_WORKSPACE, message);
    assert_fails(pod_plan_build(call.plan, &call.batch, NULL, bytes, NULL), POD_E_WORKSPACE, "workspace is NULL");
    assert_fails(pod_plan_build(call.plan, &call.batch, data + 128, bytes, NULL), POD_E_WORKSPACE,
                 "workspace is not aligned to 256 bytes");
    assert_true(call_workspace_untouched(&call));
    assert_attention_refused(&call, POD_E_STATE, NOT_BUILT);
    call_close(&call);
}

static void attention_needs_the_same_workspace(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    unsigned char *data = call.workspace.data;
    size_t bytes = call.workspace.bytes;
    char message[128];
    snprintf(message, sizeof message, "workspace_bytes = %zu is smaller than the %zu that the limits need", bytes - 1,
             bytes);
    assert_fails(pod_attention(call.plan, &call.tensors, data, bytes - 1, NULL), POD_E_WORKSPACE, message);
    assert_fails(pod_attention(call.plan, &call.tensors, NULL, bytes, NULL), POD_E_WORKSPACE, "workspace is NULL");
    assert_fails(pod_attention(call.plan, &call.tensors, data + 4, bytes, NULL), POD_E_WORKSPACE,
                 "workspace is not aligned to 256 bytes");
    guarded other = guarded_alloc(bytes, CALL_POISON);
    assert_fails(pod_attention(call.plan, &call.tensors, other.data, bytes, NULL), POD_E_WORKSPACE, OTHER_WORKSPACE);
    guarded_free(&other);
    assert_true(call_outputs_untouched(&call));
    assert_ok(call_attention(&call));
    call_close(&call);
}

static void a_workspace_planned_for_other_limits_is_noticed(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    pod_limits smaller = call.limits;
    smaller.max_kv_len--;
    pod_plan *other;
    assert_ok(pod_plan_create(call.device, &smaller, &other));
    assert_ok(pod_plan_build(other, &call.batch, call.workspace.data, call.workspace.bytes, NULL));
    assert_attention_refused(&call, POD_E_WORKSPACE,
                             "workspace was overwritten, or planned for other limits, since this plan was built");
    pod_plan_destroy(other);
    call_close(&call);
}

static void tensors_are_checked(void **state) {
    (void)state;
    char message[128];
    snprintf(message, sizeof message, "tensors.struct_size = 0 is not %zu; start from pod_tensors_init()",
             sizeof(pod_tensors));
    REFUSES(tensors.struct_size = 0, POD_E_ARGUMENT, message);
    REFUSES(tensors.q = NULL, POD_E_ARGUMENT, "q is NULL");
    REFUSES(tensors.k = NULL, POD_E_ARGUMENT, "k is NULL");
    REFUSES(tensors.v = NULL, POD_E_ARGUMENT, "v is NULL");
    REFUSES(tensors.out = NULL, POD_E_ARGUMENT, "out is NULL");
    REFUSES(tensors.q = (char *)call.q + 2, POD_E_ARGUMENT, "q is not aligned to its element of 4 bytes");
    REFUSES(tensors.k = (char *)call.k + 1, POD_E_ARGUMENT, "k is not aligned to its element of 4 bytes");
    REFUSES(tensors.v = (char *)call.v + 3, POD_E_ARGUMENT, "v is not aligned to its element of 4 bytes");
    REFUSES(tensors.out = (char *)call.out + 2, POD_E_ARGUMENT, "out is not aligned to its element of 4 bytes");
    REFUSES(tensors.lse = (float *)(void *)((char *)call.lse + 2), POD_E_ARGUMENT,
            "lse is not aligned to its element of 4 bytes");
}

static void strides_are_checked(void **state) {
    (void)state;
    REFUSES(tensors.q_token_stride = -1, POD_E_ARGUMENT, "q_token_stride = -1 is negative");
    REFUSES(tensors.q_head_stride = -8, POD_E_ARGUMENT, "q_head_stride = -8 is negative");
    REFUSES(tensors.k_page_stride = -1, POD_E_ARGUMENT, "k_page_stride = -1 is negative");
    REFUSES(tensors.k_token_stride = -1, POD_E_ARGUMENT, "k_token_stride = -1 is negative");
    REFUSES(tensors.k_head_stride = -1, POD_E_ARGUMENT, "k_head_stride = -1 is negative");
    REFUSES(tensors.v_page_stride = -1, POD_E_ARGUMENT, "v_page_stride = -1 is negative");
    REFUSES(tensors.v_token_stride = -1, POD_E_ARGUMENT, "v_token_stride = -1 is negative");
    REFUSES(tensors.k_token_stride = INT64_MAX, POD_E_ARGUMENT,
            "k_page_stride: 9223372036854775807 elements a token times page_size = 4 is more than 64 bits count");
    REFUSES(tensors.v_head_stride = INT64_MIN, POD_E_ARGUMENT, "v_head_stride = -9223372036854775808 is negative");
    REFUSES(tensors.out_token_stride = -1, POD_E_ARGUMENT, "out_token_stride = -1 is negative");
    REFUSES(tensors.out_head_stride = -1, POD_E_ARGUMENT, "out_head_stride = -1 is negative");
    REFUSES(tensors.lse_token_stride = -1, POD_E_ARGUMENT, "lse_token_stride = -1 is negative");
    REFUSES(tensors.lse_head_stride = -1, POD_E_ARGUMENT, "lse_head_stride = -1 is negative");
}

static void numbers_are_checked(void **state) {
    (void)state;
    REFUSES(tensors.scale = INFINITY, POD_E_ARGUMENT, "scale = inf is not finite");
    REFUSES(tensors.scale = NAN, POD_E_ARGUMENT, "scale = nan is not finite");
    REFUSES(tensors.softcap = -1, POD_E_ARGUMENT, "softcap = -1 is not a finite number from 0 up");
    REFUSES(tensors.softcap = NAN, POD_E_ARGUMENT, "softcap = nan is not a finite number from 0 up");
    REFUSES(tensors.softcap = INFINITY, POD_E_ARGUMENT, "softcap = inf is not a finite number from 0 up");
}

static void null_tensors(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    assert_fails(pod_attention(call.plan, NULL, call.workspace.data, call.workspace.bytes, NULL), POD_E_ARGUMENT,
                 "tensors is NULL");
    assert_true(call_outputs_untouched(&call));
    call_close(&call);
}

static void the_oracle_checks_its_own_arguments(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    double out[CALL_Q_ELEMENTS];
    assert_fails(pod_reference_attention(NULL, &call.batch, &call.tensors, -1, out, NULL), POD_E_ARGUMENT,
                 "limits is NULL");
    assert_fails(pod_reference_attention(&call.limits, &call.batch, NULL, -1, out, NULL), POD_E_ARGUMENT,
                 "tensors is NULL");
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, -1, NULL, NULL), POD_E_ARGUMENT,
                 "out is NULL");
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, 3, out, NULL), POD_E_ARGUMENT,
                 "request = 3 is outside [-1, 3)");
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, -2, out, NULL), POD_E_ARGUMENT,
                 "request = -2 is outside [-1, 3)");
    call.limits.kv_dtype = POD_F8E4M3;
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, -1, out, NULL), POD_E_UNSUPPORTED,
                 "dtype f8e4m3 is not supported by the oracle");
    call_close(&call);
}

static void a_sim_device_computes_nothing(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "sim:cpu");
    assert_ok(call_build(&call));
    assert_attention_refused(&call, POD_E_UNSUPPORTED, "device sim:cpu plans only; it computes no attention");
    call_close(&call);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_plans),
        cmocka_unit_test(everything_needs_a_built_plan),
        cmocka_unit_test(a_failed_build_undoes_the_last_one),
        cmocka_unit_test(looking_inside_checks_its_arguments),
        cmocka_unit_test(a_visit_stops_when_asked),
        cmocka_unit_test(build_needs_all_of_its_workspace),
        cmocka_unit_test(attention_needs_the_same_workspace),
        cmocka_unit_test(a_workspace_planned_for_other_limits_is_noticed),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(strides_are_checked),
        cmocka_unit_test(numbers_are_checked),
        cmocka_unit_test(null_tensors),
        cmocka_unit_test(the_oracle_checks_its_own_arguments),
        cmocka_unit_test(a_sim_device_computes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
