/* SPDX-License-Identifier: Apache-2.0 */
/* Attention on the CPU from where a thread library could fail: a forked child, a thread with a small stack. */
#include "call_fixture.h"
#include "sanitized.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL_STACK_BYTES = 128 << 10 };

/** Computes again; 1 if it is the same as before. */
static int computes_the_same(call_fixture *call) {
    float before[CALL_Q_ELEMENTS];
    memcpy(before, call->out, sizeof before);
    memset(call->out, CALL_POISON, sizeof call->out);
    if (call_build(call) != POD_OK || call_attention(call) != POD_OK) return 0;
    for (int i = 0; i < CALL_Q_ELEMENTS; i++) {
        if (call->out[i] != before[i]) return 0;
    }
    return 1;
}

static void assert_child_succeeds(pid_t child) {
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void a_forked_child_computes(void **state) {
    (void)state;
    if (POD_TEST_SANITIZED) skip();
    call_fixture call;
    call_open(&call, "cpu:3");
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60); /* instead of hanging */
        int is_same = computes_the_same(&call);
        pod_plan_destroy(call.plan);
        pod_device_close(call.device);
        _exit(!is_same);
    }
    assert_child_succeeds(child);
    assert_true(computes_the_same(&call));
    call_close(&call);
}

typedef struct building {
    call_fixture call;
    int ends;
} building;

static void *build_until_told(void *context) {
    building *other = context;
    while (!__atomic_load_n(&other->ends, __ATOMIC_RELAXED)) {
        if (call_build(&other->call) != POD_OK) return context;
    }
    return NULL;
}

/** A fork in the middle of another thread's build leaves no lock behind in the child. */
static void a_child_forked_during_a_build_builds(void **state) {
    (void)state;
    if (POD_TEST_SANITIZED) skip();
    building other = {.ends = 0};
    call_fixture call;
    pthread_t thread;
    call_open(&other.call, "cpu:1");
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    assert_int_equal(pthread_create(&thread, NULL, build_until_told, &other), 0);
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(20); /* instead of hanging */
            _exit(!computes_the_same(&call));
        }
        assert_child_succeeds(child);
    }
    __atomic_store_n(&other.ends, 1, __ATOMIC_RELAXED);
    void *failed = NULL;
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    call_close(&call);
    call_close(&other.call);
}

static void *compute_in_thread(void *context) {
    return computes_the_same(context) ? NULL : context;
}

static void a_small_stack_is_enough(void **state) {
    (void)state;
    static const char *const names[] = {"cpu:1", "cpu:3"};
    for (int i = 0; i < 2; i++) {
        call_fixture call;
        pthread_attr_t attributes;
        pthread_t thread;
        void *failed;
        call_open(&call, names[i]);
        assert_ok(call_build(&call));
        assert_ok(call_attention(&call));
        assert_int_equal(pthread_attr_init(&attributes), 0);
        assert_int_equal(pthread_attr_setstacksize(&attributes, SMALL_STACK_BYTES), 0);
        assert_int_equal(pthread_create(&thread, &attributes, compute_in_thread, &call), 0);
        pthread_join(thread, &failed);
        assert_null(failed);
        pthread_attr_destroy(&attributes);
        call_close(&call);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forked_child_computes),
        cmocka_unit_test(a_child_forked_during_a_build_builds),
        cmocka_unit_test(a_small_stack_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
