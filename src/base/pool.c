/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the C library reads it */
#include "base/pool.h"

#include "base/status.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    STACK_BYTES = 512 << 10, /* whatever the limits of the process say: scratch is not on the stack */
    SPIN_NS = 30000,         /* looks this long for what comes next before it sleeps: a layer's call follows another */
    SCRATCH_ALIGN = 64
};

/** A task that is under way, on its caller's stack. */
typedef struct pool_job {
    pod_pool_task *task;
    void *context;
    int32_t num_wanted; /**< helpers that may still join; 0: it is not in the list */
    int32_t num_joined; /**< threads so far, the caller included */
    int32_t num_active; /**< helpers that have not returned from the task */
    int is_awaited;     /**< the caller sleeps */
    pthread_cond_t finished;
    struct pool_job *next;
} pool_job;

/** A caller's scratch between two calls. */
typedef struct pool_scratch {
    struct pool_scratch *next;
} pool_scratch;

typedef struct pool_helper {
    pod_pool *pool;
    pthread_t thread;
    void *scratch;
} pool_helper;

struct pod_pool {
    pod_pool *next; /**< in the list of all */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pool_job *jobs;       /**< that want helpers */
    int32_t num_jobs;     /**< of them; what helpers look at while they spin */
    int32_t num_sleeping; /**< helpers */
    int is_closing;
    size_t scratch_bytes;
    pool_scratch *spare; /**< callers' scratch that no call uses */
    int32_t num_helpers, max_helpers;
    pool_helper helpers[];
};

/* ---- a forked child has none of the helpers, and begins anew ---- */

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static pod_pool *list;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static int fork_error;

/** So that the child finds no pool half changed. */
static void before_fork(void) {
    pthread_mutex_lock(&list_mutex);
    for (pod_pool *pool = list; pool != NULL; pool = pool->next) pthread_mutex_lock(&pool->mutex);
}

static void after_fork_in_parent(void) {
    for (pod_pool *pool = list; pool != NULL; pool = pool->next) pthread_mutex_unlock(&pool->mutex);
    pthread_mutex_unlock(&list_mutex);
}

static void after_fork_in_child(void) {
    for (pod_pool *pool = list; pool != NULL; pool = pool->next) {
        pthread_mutex_init(&pool->mutex, NULL);
        pthread_cond_init(&pool->wake, NULL);
        for (int32_t i = 0; i < pool->num_helpers; i++) free(pool->helpers[i].scratch);
        pool->jobs = NULL;
        pool->num_jobs = pool->num_sleeping = pool->num_helpers = 0;
    }
    pthread_mutex_init(&list_mutex, NULL);
}

static void watch_forks(void) {
    fork_error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---- jobs ---- */

static void set_num_jobs(pod_pool *pool, int32_t num_jobs) {
    __atomic_store_n(&pool->num_jobs, num_jobs, __ATOMIC_RELAXED);
}

static void add_job(pod_pool *pool, pool_job *job) {
    job->next = pool->jobs;
    pool->jobs = job;
    set_num_jobs(pool, pool->num_jobs + 1);
}

static void remove_job(pod_pool *pool, pool_job *job) {
    pool_job **place = &pool->jobs;
    while (*place != job) place = &(*place)->next;
    *place = job->next;
    job->num_wanted = 0;
    set_num_jobs(pool, pool->num_jobs - 1);
}

/** Waits until `*number` is 0 or is not, as told, but not for long. */
static void spin(const int32_t *number, int until_zero) {
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        for (int i = 0; i < 8; i++) {
            if ((__atomic_load_n(number, __ATOMIC_RELAXED) == 0) == until_zero) return;
#ifdef __x86_64__
            __builtin_ia32_pause();
#endif
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000000000 + (now.tv_nsec - begin.tv_nsec) < SPIN_NS);
}

/* ---- helpers ---- */

/** One job; the mutex is held before and after. */
static void help_with(pod_pool *pool, pool_job *job, void *scratch) {
    int32_t thread = job->num_joined++;
    __atomic_store_n(&job->num_active, job->num_active + 1, __ATOMIC_RELAXED);
    if (job->num_wanted > 1)
        job->num_wanted--;
    else
        remove_job(pool, job);
    pthread_mutex_unlock(&pool->mutex);
    job->task(job->context, thread, scratch);
    pthread_mutex_lock(&pool->mutex);
    __atomic_store_n(&job->num_active, job->num_active - 1, __ATOMIC_RELAXED);
    if (job->num_active == 0 && job->is_awaited) pthread_cond_signal(&job->finished);
}

static void *help(void *argument) {
    const pool_helper *self = argument;
    pod_pool *pool = self->pool;
    pthread_mutex_lock(&pool->mutex);
    while (!pool->is_closing) {
        if (pool->jobs != NULL) help_with(pool, pool->jobs, self->scratch);
        pthread_mutex_unlock(&pool->mutex);
        spin(&pool->num_jobs, 0);
        pthread_mutex_lock(&pool->mutex);
        while (pool->jobs == NULL && !pool->is_closing) {
            pool->num_sleeping++;
            pthread_cond_wait(&pool->wake, &pool->mutex);
            pool->num_sleeping--;
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/** Signals are for the program's own threads, but for those that a thread causes itself. */
static void block_signals(sigset_t *before) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, before);
}

static int create_thread(pool_helper *helper) {
    pthread_attr_t attributes;
    sigset_t signals;
    if (pthread_attr_init(&attributes) != 0) return 0;
    block_signals(&signals);
    int error = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (error == 0) error = pthread_create(&helper->thread, &attributes, help, helper);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

/** Returns 0 if the system has no more threads or memory. */
static int start_helper(pod_pool *pool) {
    pool_helper *helper = &pool->helpers[pool->num_helpers];
    helper->pool = pool;
    helper->scratch = NULL;
    if (pool->scratch_bytes > 0 && (helper->scratch = aligned_alloc(SCRATCH_ALIGN, pool->scratch_bytes)) == NULL)
        return 0;
    if (!create_thread(helper)) {
        free(helper->scratch);
        return 0;
    }
    pool->num_helpers++;
    return 1;
}

/* ---- callers ---- */

/** The caller's scratch for one call; the mutex is held. */
static void *take_scratch(pod_pool *pool) {
    pool_scratch *scratch = pool->spare;
    if (scratch == NULL) return aligned_alloc(SCRATCH_ALIGN, pool->scratch_bytes);
    pool->spare = scratch->next;
    return scratch;
}

static void give_scratch(pod_pool *pool, void *memory) {
    pool_scratch *scratch = memory;
    if (scratch == NULL) return;
    scratch->next = pool->spare;
    pool->spare = scratch;
}

/** Lets helpers join. */
static void open_job(pod_pool *pool, pool_job *job, int32_t num_wanted) {
    if (num_wanted > pool->max_helpers) num_wanted = pool->max_helpers;
    while (pool->num_helpers < num_wanted && start_helper(pool)) {
    }
    if (num_wanted > pool->num_helpers) num_wanted = pool->num_helpers;
    if (num_wanted == 0) return;
    job->num_wanted = num_wanted;
    add_job(pool, job);
    if (num_wanted >= pool->num_sleeping) {
        pthread_cond_broadcast(&pool->wake);
        return;
    }
    for (int32_t i = 0; i < num_wanted; i++) pthread_cond_signal(&pool->wake);
}

/** Nobody joins from here on, and all who did have returned. */
static void close_job(pod_pool *pool, pool_job *job) {
    if (job->num_wanted > 0) remove_job(pool, job);
    if (job->num_active == 0) return;
    pthread_mutex_unlock(&pool->mutex);
    spin(&job->num_active, 1);
    pthread_mutex_lock(&pool->mutex);
    job->is_awaited = 1;
    while (job->num_active > 0) pthread_cond_wait(&job->finished, &pool->mutex);
}

pod_status pod__pool_run(pod_pool *pool, int32_t num_threads, pod_pool_task *task, void *context) {
    pool_job job = {.task = task, .context = context, .num_joined = 1, .finished = PTHREAD_COND_INITIALIZER};
    void *scratch = NULL;
    int cancel_state; /* the job is on this stack: a cancelled thread would leave helpers with it */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    pthread_mutex_lock(&pool->mutex);
    if (pool->scratch_bytes > 0 && (scratch = take_scratch(pool)) == NULL) {
        pthread_mutex_unlock(&pool->mutex);
        pthread_setcancelstate(cancel_state, NULL);
        return pod__fail(POD_E_NO_MEMORY, "no memory for a thread's %zu bytes of scratch", pool->scratch_bytes);
    }
    open_job(pool, &job, num_threads - 1);
    pthread_mutex_unlock(&pool->mutex);
    task(context, 0, scratch);
    pthread_mutex_lock(&pool->mutex);
    close_job(pool, &job);
    give_scratch(pool, scratch);
    pthread_mutex_unlock(&pool->mutex);
    pthread_setcancelstate(cancel_state, NULL);
    return POD_OK;
}

/* ---- the pool ---- */

pod_status pod__pool_create(int32_t max_threads, size_t scratch_bytes, pod_pool **pool) {
    size_t max_helpers = (size_t)max_threads - 1;
    pthread_once(&fork_once, watch_forks);
    pod_pool *made = calloc(1, sizeof *made + max_helpers * sizeof(pool_helper));
    void *scratch = scratch_bytes > 0 ? aligned_alloc(SCRATCH_ALIGN, scratch_bytes) : NULL;
    if (made == NULL || (scratch == NULL && scratch_bytes > 0) || fork_error != 0) {
        free(made);
        free(scratch);
        return pod__fail(POD_E_NO_MEMORY, "no memory for threads and their %zu bytes of scratch", scratch_bytes);
    }
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->wake, NULL);
    made->scratch_bytes = scratch_bytes;
    give_scratch(made, scratch);
    made->max_helpers = (int32_t)max_helpers;
    pthread_mutex_lock(&list_mutex);
    made->next = list;
    list = made;
    pthread_mutex_unlock(&list_mutex);
    *pool = made;
    return POD_OK;
}

void pod__pool_destroy(pod_pool *pool) {
    if (pool == NULL) return;
    pthread_mutex_lock(&list_mutex);
    pod_pool **place = &list;
    while (*place != pool) place = &(*place)->next;
    *place = pool->next;
    pthread_mutex_unlock(&list_mutex);

    pthread_mutex_lock(&pool->mutex);
    pool->is_closing = 1;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (int32_t i = 0; i < pool->num_helpers; i++) {
        pthread_join(pool->helpers[i].thread, NULL);
        free(pool->helpers[i].scratch);
    }
    while (pool->spare != NULL) free(take_scratch(pool));
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

int32_t pod__pool_num_cores(void) {
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* of more cores than the set holds */
    return online < 1 ? 1 : (int32_t)online;
}
