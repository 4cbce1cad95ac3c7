/* SPDX-License-Identifier: Apache-2.0 */
/* Who allocates, and what happens when there is no memory. The linker leads the library's malloc, calloc, realloc
 * and aligned_alloc here (--wrap). */
#include "call_fixture.h"

#include <stdlib.h>

/* The linker chooses these names. NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

static int num_allocations; /**< since it was set to 0 */
static int failing = -1;    /**< the allocation that fails, from 0 up; -1: none */

static int fails_now(void) {
    return num_allocations++ == failing;
}

void *__wrap_malloc(size_t bytes) {
    return fails_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
    return fails_now() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes) {
    return fails_now() ? NULL : __real_realloc(memory, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return fails_now() ? NULL : __real_aligned_alloc(alignment, bytes);
}

static void fail_allocation(int index) {
    num_allocations = 0;
    failing = index;
}

static void a_step_allocates_nothing(void **state) {
    (void)state;
    static const char *const names[] = {"cpu:1", "cpu:3"};
    for (int i = 0; i < 2; i++) {
        call_fixture call;
        call_open(&call, names[i]);
        for (int step = i == 0 ? 1 : 0; step < 3; step++) { /* the first of several threads starts them */
            num_allocations = 0;
            assert_ok(call_build(&call));
            assert_ok(call_attention(&call));
            if (step > 0) assert_int_equal(num_allocations, 0);
        }
        call_close(&call);
    }
}

static void opening_a_device_without_memory(void **state) {
    (void)state;
    static const char *const names[] = {"cpu", "sim:h100"};
    for (int i = 0; i < 2; i++) {
        pod_device *device = (pod_device *)names;
        fail_allocation(0);
        pod_status status = pod_device_open(names[i], &device);
        fail_allocation(-1);
        assert_int_equal(status, POD_E_NO_MEMORY);
        assert_string_equal(pod_error_message(), "no memory for a device");
        assert_null(device);
    }
}

/** Helpers have no memory: the caller computes alone. */
static void a_call_without_memory_for_its_threads(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:3");
    assert_ok(call_build(&call));
    fail_allocation(0);
    pod_status status = call_attention(&call);
    fail_allocation(-1);
    assert_int_equal(status, POD_OK);
    assert_false(call_outputs_untouched(&call));
    call_close(&call);
}

/** The call fails for the first allocation, then for the second, ... until it needs no more. */
static void assert_survives_each_failure(pod_status (*attempt)(void *context), void *context) {
    pod_status status = POD_E_NO_MEMORY;
    int index = 0;
    for (; status != POD_OK; index++) {
        fail_allocation(index);
        status = attempt(context);
        int was_reached = num_allocations > index;
        fail_allocation(-1);
        assert_int_equal(status, was_reached ? POD_E_NO_MEMORY : POD_OK);
    }
    assert_true(index > 1);
}

static pod_status attempt_device(void *context) {
    pod_device *device = context;
    pod_status status = pod_device_open("cpu:3", &device);
    if (status != POD_OK) assert_null(device);
    pod_device_close(device);
    return status;
}

static pod_status attempt_plan(void *context) {
    call_fixture *call = context;
    pod_plan *plan = call->plan;
    pod_status status = pod_plan_create(call->device, &call->limits, &plan);
    if (status != POD_OK) assert_null(plan);
    pod_plan_destroy(plan);
    return status;
}

static pod_status attempt_oracle(void *context) {
    call_fixture *call = context;
    double out[CALL_Q_ELEMENTS], before[CALL_Q_ELEMENTS];
    memset(out, CALL_POISON, sizeof out);
    memset(before, CALL_POISON, sizeof before);
    pod_status status =
        pod_reference_attention(&call->limits, &call->batch, &call->tensors, &call->cache, -1, out, NULL);
    if (status != POD_OK) assert_memory_equal(out, before, sizeof out);
    return status;
}

static void device_plans_and_oracle_without_memory(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_survives_each_failure(attempt_device, call.device);
    assert_survives_each_failure(attempt_plan, &call);
    assert_survives_each_failure(attempt_oracle, &call);
    call_close(&call);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(opening_a_device_without_memory),
        cmocka_unit_test(a_call_without_memory_for_its_threads),
        cmocka_unit_test(device_plans_and_oracle_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
