/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers of a caller: who joins, what is waited for, and what happens without threads, without memory, after a fork.
 */
#include "base/pool.h"
#include "sanitized.h"
#include "unit.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NUM_TICKETS = 1000, MAX_THREADS = 8, SCRATCH_BYTES = 64 };

typedef struct count_job {
    int32_t next, done[NUM_TICKETS];
    int32_t was_thread[MAX_THREADS];
    int32_t rendezvous; /**< threads that a task waits for before it begins; 0: none */
    int32_t num_here;
} count_job;

static pod_pool *make_pool(int32_t max_threads, size_t scratch_bytes) {
    pod_pool *pool = NULL;
    assert_ok(pod__pool_create(max_threads, scratch_bytes, &pool));
    return pool;
}

/** Does each ticket once; scratch must be the thread's alone. */
static void count(void *context, int32_t thread, void *scratch) {
    count_job *job = context;
    int32_t ticket, *mine = scratch;
    job->was_thread[thread]++;
    __atomic_add_fetch(&job->num_here, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&job->num_here, __ATOMIC_RELAXED) < job->rendezvous) sched_yield();
    if (mine != NULL) *mine = 0;
    int32_t num_mine = 0;
    while ((ticket = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < NUM_TICKETS) {
        job->done[ticket]++;
        num_mine++;
        if (mine != NULL) *mine += 1;
    }
    if (mine != NULL && *mine != num_mine) job->done[0] = -1;
}

static int all_done_once(const count_job *job) {
    for (int32_t i = 0; i < NUM_TICKETS; i++) {
        if (job->done[i] != 1) return 0;
    }
    return job->was_thread[0] == 1;
}

static void every_ticket_is_done_once(void **state) {
    (void)state;
    for (int32_t threads = 1; threads <= MAX_THREADS; threads++) {
        pod_pool *pool = make_pool(threads, SCRATCH_BYTES);
        for (int round = 0; round < 50; round++) {
            count_job job = {0};
            assert_ok(pod__pool_run(pool, threads, count, &job));
            assert_true(all_done_once(&job));
        }
        pod__pool_destroy(pool);
    }
}

static void as_many_threads_join_as_are_asked_for(void **state) {
    (void)state;
    pod_pool *pool = make_pool(4, 0);
    for (int32_t threads = 1; threads <= 4; threads++) {
        count_job job = {.rendezvous = threads};
        assert_ok(pod__pool_run(pool, threads, count, &job));
        assert_true(all_done_once(&job));
        for (int32_t i = 0; i < MAX_THREADS; i++) assert_int_equal(job.was_thread[i], i < threads);
    }
    count_job job = {.rendezvous = 4}; /* no more than there are */
    assert_ok(pod__pool_run(pool, MAX_THREADS, count, &job));
    assert_true(all_done_once(&job));
    pod__pool_destroy(pool);
}

static void *call_often(void *context) {
    for (int round = 0; round < 200; round++) {
        count_job job = {0};
        if (pod__pool_run(context, 3, count, &job) != POD_OK || !all_done_once(&job)) return context;
    }
    return NULL;
}

static void many_callers_share_a_pool(void **state) {
    (void)state;
    pod_pool *pool = make_pool(3, SCRATCH_BYTES);
    pthread_t callers[5];
    for (int i = 0; i < 5; i++) assert_int_equal(pthread_create(&callers[i], NULL, call_often, pool), 0);
    for (int i = 0; i < 5; i++) {
        void *failed;
        pthread_join(callers[i], &failed);
        assert_null(failed);
    }
    pod__pool_destroy(pool);
}

static void idle_helpers_use_no_time(void **state) {
    (void)state;
    pod_pool *pool = make_pool(4, 0);
    count_job job = {.rendezvous = 4};
    assert_ok(pod__pool_run(pool, 4, count, &job));
    const struct timespec short_while = {.tv_nsec = 10000000}, while_idle = {.tv_nsec = 200000000};
    nanosleep(&short_while, NULL);
    clock_t begin = clock();
    nanosleep(&while_idle, NULL);
    assert_true(clock() - begin < CLOCKS_PER_SEC / 50);
    pod__pool_destroy(pool);
}

static void without_memory_nothing_is_made(void **state) {
    (void)state;
    if (POD_TEST_SANITIZED) skip(); /* its malloc aborts */
    pod_pool *pool = NULL;
    assert_fails(pod__pool_create(2, (size_t)1 << 62, &pool), POD_E_NO_MEMORY,
                 "no memory for threads and their 4611686018427387904 bytes of scratch");
    assert_null(pool);
    pod__pool_destroy(NULL);
}

#if !POD_TEST_SANITIZED

/** Runs `test` in a forked child, which has to return 1 there. */
static void assert_in_child(int (*test)(void *context), void *context) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60); /* instead of hanging */
        _exit(test(context) ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static int works_with_threads(void *context) {
    for (int round = 0; round < 20; round++) {
        count_job job = {.rendezvous = 3};
        if (pod__pool_run(context, 3, count, &job) != POD_OK || !all_done_once(&job)) return 0;
    }
    pod__pool_destroy(context);
    return 1;
}

/** What threads need is not to be had: no memory beyond what is mapped. */
static int works_without_threads(void *context) {
    const struct rlimit none = {0, 0};
    count_job job = {0};
    if (setrlimit(RLIMIT_AS, &none) != 0) return 0;
    if (pod__pool_run(context, 3, count, &job) != POD_OK || !all_done_once(&job)) return 0;
    return job.was_thread[1] == 0;
}

#endif

static void a_forked_child_starts_its_own_helpers(void **state) {
    (void)state;
#if POD_TEST_SANITIZED
    skip(); /* ThreadSanitizer allows no threads after a fork */
#else
    pod_pool *pool = make_pool(3, SCRATCH_BYTES);
    count_job job = {.rendezvous = 3};
    assert_ok(pod__pool_run(pool, 3, count, &job));
    assert_in_child(works_with_threads, pool);
    pthread_t callers[2]; /* in the middle of calls of other threads */
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&callers[i], NULL, call_often, pool), 0);
    for (int i = 0; i < 20; i++) assert_in_child(works_with_threads, pool);
    for (int i = 0; i < 2; i++) pthread_join(callers[i], NULL);
    pod__pool_destroy(pool);
#endif
}

static void without_threads_the_caller_does_all(void **state) {
    (void)state;
#if POD_TEST_SANITIZED
    skip(); /* it needs memory itself */
#else
    pod_pool *pool = make_pool(3, SCRATCH_BYTES);
    assert_in_child(works_without_threads, pool);
    pod__pool_destroy(pool);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_ticket_is_done_once),           cmocka_unit_test(as_many_threads_join_as_are_asked_for),
        cmocka_unit_test(many_callers_share_a_pool),           cmocka_unit_test(idle_helpers_use_no_time),
        cmocka_unit_test(without_memory_nothing_is_made),      cmocka_unit_test(a_forked_child_starts_its_own_helpers),
        cmocka_unit_test(without_threads_the_caller_does_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
