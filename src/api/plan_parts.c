/* SPDX-License-Identifier: Apache-2.0 */
#include "api/plan_parts.h"

#include "base/status.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* plans of one process may be in many threads */
static pod_plan *first;

/* A fork waits until no other thread is at the list, which a child would find locked for good. */

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static int fork_error;

static void before_fork(void) {
    pthread_mutex_lock(&lock);
}
static void after_fork(void) {
    pthread_mutex_unlock(&lock);
}
static void watch_forks(void) {
    fork_error = pthread_atfork(before_fork, after_fork, after_fork);
}

pod_status pod__plan_parts_add(pod_plan *plan) {
    pthread_once(&fork_once, watch_forks);
    if (fork_error != 0) return pod__fail(POD_E_NO_MEMORY, "no memory to be told of forks");
    pthread_mutex_lock(&lock);
    plan->next = first;
    first = plan;
    pthread_mutex_unlock(&lock);
    return POD_OK;
}

void pod__plan_parts_remove(pod_plan *plan) {
    pthread_mutex_lock(&lock);
    pod_plan **at = &first;
    while (*at != plan) at = &(*at)->next;
    *at = plan->next;
    pthread_mutex_unlock(&lock);
}

void pod__plan_parts_attach(pod_plan *plan, const pod_workspace *workspace) {
    pthread_mutex_lock(&lock);
    plan->workspace = *workspace;
    plan->is_attached = 1;
    pthread_mutex_unlock(&lock);
}

static int share_memory(const pod_plan *a, const pod_plan *b) {
    uintptr_t a_begin = (uintptr_t)a->workspace.plan, b_begin = (uintptr_t)b->workspace.plan;
    return a_begin < b_begin + b->layout.plan_bytes && b_begin < a_begin + a->layout.plan_bytes;
}

void pod__plan_parts_claim(pod_plan *plan) {
    pthread_mutex_lock(&lock);
    for (pod_plan *other = first; other != NULL; other = other->next) {
        if (other == plan) {
            __atomic_store_n(&other->is_overwritten, 0, __ATOMIC_RELAXED);
        } else if (other->is_attached && share_memory(plan, other)) {
            __atomic_store_n(&other->is_overwritten, 1, __ATOMIC_RELAXED);
        }
    }
    pthread_mutex_unlock(&lock);
}

pod_status pod__plan_parts_check(const pod_plan *plan) {
    if (__atomic_load_n(&plan->is_overwritten, __ATOMIC_RELAXED) == 0) return POD_OK;
    return pod__fail(POD_E_WORKSPACE, "another plan was built in this plan's workspace.plan since; every plan needs a "
                                      "plan part of its own");
}
