/* SPDX-License-Identifier: Apache-2.0 */
/* The order of calls, the workspace and the tensors: what pod_attention() and its neighbours refuse. */
#include "call_fixture.h"

#include <math.h>
#include <stdio.h>

static const char NOT_BUILT[] = "pod_plan_build() has not succeeded on this plan yet";
static const char OTHERS_PLAN[] =
    "another plan was built in this plan's workspace.plan since; every plan needs a plan part of its own";

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
    pod_plan_info info = pod_plan_info_init();
    assert_fails(pod_plan_attach(NULL, &call.workspace.given), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_plan_build(NULL, &call.batch, NULL), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_attention(NULL, &call.tensors, &call.cache, NULL), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_plan_get_info(NULL, 0, &info), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_plan_check(NULL, NULL), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_plan_visit(NULL, 0, NULL, NULL), POD_E_ARGUMENT, "plan is NULL");
    call_close(&call);
}

static void everything_needs_a_built_plan(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    pod_plan_info info = pod_plan_info_init();
    assert_attention_refused(&call, POD_E_STATE, NOT_BUILT);
    assert_fails(pod_plan_get_info(call.plan, 0, &info), POD_E_STATE, NOT_BUILT);
    assert_fails(pod_plan_check(call.plan, NULL), POD_E_STATE, NOT_BUILT);
    assert_fails(pod_plan_visit(call.plan, 0, NULL, NULL), POD_E_STATE, NOT_BUILT);
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
    assert_ok(pod_plan_check(call.plan, NULL));
    call_close(&call);
}

static int stop_at_second(void *count, const pod_work_item *item) {
    (void)item;
    return ++*(int *)count == 2;
}

static void looking_inside_checks_its_arguments(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    assert_fails(pod_plan_get_info(call.plan, 0, NULL), POD_E_ARGUMENT, "plan_info is NULL");
    assert_fails(pod_plan_visit(call.plan, 0, NULL, NULL), POD_E_ARGUMENT, "visit is NULL");
    pod_plan_info info = pod_plan_info_init();
    info.struct_size = 1;
    char message[128];
    snprintf(message, sizeof message,
             "plan_info.struct_size = 1 is not a size of this struct (%zu); start from pod_plan_info_init()",
             sizeof info);
    assert_fails(pod_plan_get_info(call.plan, 0, &info), POD_E_ARGUMENT, message);
    info = pod_plan_info_init();
    assert_fails(pod_plan_get_info(call.plan, 1, &info), POD_E_ARGUMENT,
                 "mask = 1 is outside [0, 1), the masks of the batch");
    assert_fails(pod_plan_visit(call.plan, -1, stop_at_second, NULL), POD_E_ARGUMENT,
                 "mask = -1 is outside [0, 1), the masks of the batch");
    call_close(&call);
}

static void a_visit_stops_when_asked(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    int count = 0;
    assert_ok(pod_plan_visit(call.plan, 0, stop_at_second, &count));
    assert_int_equal(count, 2);
    call_close(&call);
}

/** Attaching is refused; the plan keeps what it had. */
static void assert_attach_refused(call_fixture *call, pod_workspace workspace, const char *message) {
    assert_fails(pod_plan_attach(call->plan, &workspace), POD_E_WORKSPACE, message);
    assert_ok(call_attention(call));
}

static void a_workspace_is_checked(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    const pod_workspace given = call.workspace.given;
    pod_workspace wrong = given;
    char message[128];
    snprintf(message, sizeof message, "workspace.plan_bytes = %zu is smaller than the %zu that the limits need",
             --wrong.plan_bytes, given.plan_bytes);
    assert_attach_refused(&call, wrong, message);
    wrong = given;
    snprintf(message, sizeof message, "workspace.scratch_bytes = %zu is smaller than the %zu that the limits need",
             --wrong.scratch_bytes, given.scratch_bytes);
    assert_attach_refused(&call, wrong, message);
    wrong = given;
    wrong.plan = NULL;
    assert_attach_refused(&call, wrong, "workspace.plan is NULL");
    wrong = given;
    wrong.scratch = NULL;
    assert_attach_refused(&call, wrong, "workspace.scratch is NULL");
    wrong = given;
    wrong.plan = (char *)given.plan + 128;
    assert_attach_refused(&call, wrong, "workspace.plan is not aligned to 256 bytes");
    wrong = given;
    wrong.scratch = (char *)given.scratch + 4;
    assert_attach_refused(&call, wrong, "workspace.scratch is not aligned to 256 bytes");
    wrong = given;
    wrong.bad_request = (int32_t *)(void *)((char *)given.plan + 1);
    assert_attach_refused(&call, wrong, "workspace.bad_request is not aligned to its word");
    wrong = given;
    wrong.scratch = given.plan;
    assert_attach_refused(&call, wrong, "workspace.plan and workspace.scratch overlap");
    wrong = given;
    wrong.plan = (char *)given.scratch + (given.scratch_bytes - 1) / 256 * 256;
    assert_attach_refused(&call, wrong, "workspace.plan and workspace.scratch overlap");
    assert_fails(pod_plan_attach(call.plan, NULL), POD_E_ARGUMENT, "workspace is NULL");
    call_close(&call);
}

static void a_plan_needs_a_workspace(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    pod_plan *plan;
    assert_ok(pod_plan_create(call.device, &call.limits, &plan));
    assert_fails(pod_plan_build(plan, &call.batch, NULL), POD_E_STATE, "no workspace was attached to this plan");
    assert_fails(pod_attention(plan, &call.tensors, &call.cache, NULL), POD_E_STATE, NOT_BUILT);
    pod_plan_destroy(plan);
    call_close(&call);
}

static void attaching_again_asks_for_a_new_build(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    assert_ok(pod_plan_attach(call.plan, &call.workspace.given));
    assert_attention_refused(&call, POD_E_STATE, NOT_BUILT);
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    call_close(&call);
}

/** Two plans, even with equal limits, need a plan part each; one that is used twice is noticed. Scratch may be shared.
 */
static void a_plan_part_is_one_plans(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    pod_plan *other;
    assert_ok(pod_plan_create(call.device, &call.limits, &other));
    assert_ok(pod_plan_attach(other, &call.workspace.given));
    assert_ok(pod_plan_build(other, &call.batch, NULL));
    assert_attention_refused(&call, POD_E_WORKSPACE, OTHERS_PLAN);
    assert_ok(pod_attention(other, &call.tensors, &call.cache, NULL));
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    assert_fails(pod_attention(other, &call.tensors, &call.cache, NULL), POD_E_WORKSPACE, OTHERS_PLAN);

    test_workspace own;
    assert_ok(test_workspace_make(call.device, &call.limits, CALL_POISON, &own));
    pod_workspace shared = own.given;
    shared.scratch = call.workspace.given.scratch;
    assert_ok(pod_plan_attach(other, &shared));
    assert_ok(pod_plan_build(other, &call.batch, NULL));
    assert_ok(call_build(&call));
    assert_ok(pod_attention(other, &call.tensors, &call.cache, NULL));
    assert_ok(call_attention(&call));
    assert_true(test_workspace_intact(&own));
    test_workspace_free(&own);
    pod_plan_destroy(other);
    call_close(&call);
}

static void the_numbers_of_tokens_are_checked(void **state) {
    (void)state;
    REFUSES(tensors.q_tokens = 4, POD_E_ARGUMENT, "q_tokens = 4 is smaller than the 5 query tokens of the batch");
    REFUSES(tensors.out_tokens = 4, POD_E_ARGUMENT, "out_tokens = 4 is smaller than the 5 query tokens of the batch");
    REFUSES(tensors.q_tokens = -1, POD_E_ARGUMENT, "q_tokens = -1 is negative");
    REFUSES(tensors.out_tokens = -1, POD_E_ARGUMENT, "out_tokens = -1 is negative");
    REFUSES(tensors.mask = 1, POD_E_ARGUMENT, "mask = 1 is outside [0, 1), the masks of the batch");
    REFUSES(tensors.mask = -1, POD_E_ARGUMENT, "mask = -1 is outside [0, 1), the masks of the batch");
    call_fixture call;
    call_open(&call, "cpu:1");
    call.tensors.q_tokens = call.tensors.out_tokens = 5;
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    call_close(&call);
}

static void tensors_are_checked(void **state) {
    (void)state;
    char message[128];
    snprintf(message, sizeof message,
             "tensors.struct_size = 0 is not a size of this struct (%zu); start from pod_tensors_init()",
             sizeof(pod_tensors));
    REFUSES(tensors.struct_size = 0, POD_E_ARGUMENT, message);
    REFUSES(tensors.q = NULL, POD_E_ARGUMENT, "q is NULL");
    REFUSES(cache.k = NULL, POD_E_ARGUMENT, "k is NULL");
    REFUSES(tensors.out = NULL, POD_E_ARGUMENT, "out is NULL");
    REFUSES(tensors.q = (char *)call.q + 2, POD_E_ARGUMENT, "q is not aligned to its element of 4 bytes");
    REFUSES(cache.k = (char *)call.k + 1, POD_E_ARGUMENT, "k is not aligned to its element of 4 bytes");
    REFUSES(cache.v = (char *)call.v + 3, POD_E_ARGUMENT, "v is not aligned to its element of 4 bytes");
    REFUSES(tensors.out = (char *)call.out + 2, POD_E_ARGUMENT, "out is not aligned to its element of 4 bytes");
    REFUSES(tensors.lse = (float *)(void *)((char *)call.lse + 2), POD_E_ARGUMENT,
            "lse is not aligned to its element of 4 bytes");
}

static void caches_are_checked(void **state) {
    (void)state;
    char message[128];
    snprintf(message, sizeof message,
             "cache.struct_size = 0 is not a size of this struct (%zu); start from pod_cache_init()",
             sizeof(pod_cache));
    REFUSES(cache.struct_size = 0, POD_E_ARGUMENT, message);
    REFUSES(cache.scale_stride = -1, POD_E_ARGUMENT, "scale_stride = -1 is negative");
    REFUSES(cache.k_scale = (float *)(void *)((char *)call.k + 2), POD_E_ARGUMENT,
            "k_scale is not aligned to its element of 4 bytes");
    static float scales[] = {1, 2, -3};
    REFUSES(cache.v_scale = scales;
            call.cache.scale_stride = 2, POD_E_ARGUMENT, "v_scale of KV head 1 = -3 is not a finite number above 0");
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    assert_fails(pod_attention(call.plan, &call.tensors, NULL, NULL), POD_E_ARGUMENT, "cache is NULL");
    call_close(&call);
}

static void strides_are_checked(void **state) {
    (void)state;
    REFUSES(tensors.q_token_stride = -1, POD_E_ARGUMENT, "q_token_stride = -1 is negative");
    REFUSES(tensors.q_head_stride = -8, POD_E_ARGUMENT, "q_head_stride = -8 is negative");
    REFUSES(cache.k_page_stride = -1, POD_E_ARGUMENT, "k_page_stride = -1 is negative");
    REFUSES(cache.k_token_stride = -1, POD_E_ARGUMENT, "k_token_stride = -1 is negative");
    REFUSES(cache.k_head_stride = -1, POD_E_ARGUMENT, "k_head_stride = -1 is negative");
    REFUSES(cache.v_page_stride = -1, POD_E_ARGUMENT, "v_page_stride = -1 is negative");
    REFUSES(cache.v_token_stride = -1, POD_E_ARGUMENT, "v_token_stride = -1 is negative");
    REFUSES(cache.k_token_stride = INT64_MAX, POD_E_ARGUMENT,
            "k_token_stride = 9223372036854775807 reaches past the 144115188075855872 bytes that addresses count");
    REFUSES(cache.v_head_stride = INT64_MIN, POD_E_ARGUMENT, "v_head_stride = -9223372036854775808 is negative");
    REFUSES(tensors.out_token_stride = -1, POD_E_ARGUMENT, "out_token_stride = -1 is negative");
    REFUSES(tensors.out_head_stride = -1, POD_E_ARGUMENT, "out_head_stride = -1 is negative");
    REFUSES(tensors.lse_token_stride = -1, POD_E_ARGUMENT, "lse_token_stride = -1 is negative");
    REFUSES(tensors.lse_head_stride = -1, POD_E_ARGUMENT, "lse_head_stride = -1 is negative");
}

static void numbers_are_checked(void **state) {
    (void)state;
    REFUSES(tensors.scale = INFINITY, POD_E_ARGUMENT, "scale = inf is not finite");
    REFUSES(tensors.scale = NAN, POD_E_ARGUMENT, "scale = nan is not finite");
    REFUSES(tensors.scale = -2.1e38f, POD_E_ARGUMENT, "scale = -2.1e+38 is outside [-2e+38, 2e+38]");
    REFUSES(tensors.softcap = -1, POD_E_ARGUMENT, "softcap = -1 is not a finite number from 0 up");
    REFUSES(tensors.softcap = NAN, POD_E_ARGUMENT, "softcap = nan is not a finite number from 0 up");
    REFUSES(tensors.softcap = INFINITY, POD_E_ARGUMENT, "softcap = inf is not a finite number from 0 up");
}

static void null_tensors(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    assert_fails(pod_attention(call.plan, NULL, &call.cache, NULL), POD_E_ARGUMENT, "tensors is NULL");
    assert_true(call_outputs_untouched(&call));
    call_close(&call);
}

static void the_oracle_checks_its_own_arguments(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    double out[CALL_Q_ELEMENTS];
    assert_fails(pod_reference_attention(NULL, &call.batch, &call.tensors, &call.cache, -1, out, NULL), POD_E_ARGUMENT,
                 "limits is NULL");
    assert_fails(pod_reference_attention(&call.limits, &call.batch, NULL, &call.cache, -1, out, NULL), POD_E_ARGUMENT,
                 "tensors is NULL");
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, -1, NULL, NULL),
                 POD_E_ARGUMENT, "out is NULL");
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, 3, out, NULL),
                 POD_E_ARGUMENT, "request = 3 is outside [-1, 3)");
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, -2, out, NULL),
                 POD_E_ARGUMENT, "request = -2 is outside [-1, 3)");
    call.limits.q_dtype = POD_F8E4M3;
    assert_fails(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, -1, out, NULL),
                 POD_E_UNSUPPORTED, "q_dtype f8e4m3 is not supported by the oracle");
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
        cmocka_unit_test(a_workspace_is_checked),
        cmocka_unit_test(a_plan_needs_a_workspace),
        cmocka_unit_test(attaching_again_asks_for_a_new_build),
        cmocka_unit_test(a_plan_part_is_one_plans),
        cmocka_unit_test(the_numbers_of_tokens_are_checked),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(caches_are_checked),
        cmocka_unit_test(strides_are_checked),
        cmocka_unit_test(numbers_are_checked),
        cmocka_unit_test(null_tensors),
        cmocka_unit_test(the_oracle_checks_its_own_arguments),
        cmocka_unit_test(a_sim_device_computes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
