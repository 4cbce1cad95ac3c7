/* SPDX-License-Identifier: Apache-2.0 */
#include "api/plan_parts.h"

#include "base/fork_lock.h"
#include "base/status.h"

static pod_plan *first; /* under the fork lock: plans of one process may be in many threads */

pod_status pod__plan_parts_add(pod_plan *plan) {
    POD_TRY(pod__fork_lock_open());
    pod__fork_lock();
    plan->next = first;
    first = plan;
    pod__fork_unlock();
    return POD_OK;
}

void pod__plan_parts_remove(pod_plan *plan) {
    pod__fork_lock();
    pod_plan **at = &first;
    while (*at != plan) at = &(*at)->next;
    *at = plan->next;
    pod__fork_unlock();
}

void pod__plan_parts_attach(pod_plan *plan, const pod_workspace *workspace) {
    pod__fork_lock();
    plan->workspace = *workspace;
    plan->is_attached = 1;
    pod__fork_unlock();
}

static int share_memory(const pod_plan *a, const pod_plan *b) {
    uintptr_t a_begin = (uintptr_t)a->workspace.plan, b_begin = (uintptr_t)b->workspace.plan;
    return a_begin < b_begin + b->layout.plan_bytes && b_begin < a_begin + a->layout.plan_bytes;
}

void pod__plan_parts_claim(pod_plan *plan) {
    pod__fork_lock();
    for (pod_plan *other = first; other != NULL; other = other->next) {
        if (other == plan) {
            __atomic_store_n(&other->is_overwritten, 0, __ATOMIC_RELAXED);
        } else if (other->is_attached && share_memory(plan, other)) {
            __atomic_store_n(&other->is_overwritten, 1, __ATOMIC_RELAXED);
        }
    }
    pod__fork_unlock();
}

pod_status pod__plan_parts_check(const pod_plan *plan) {
    if (__atomic_load_n(&plan->is_overwritten, __ATOMIC_RELAXED) == 0) return POD_OK;
    return pod__fail(POD_E_WORKSPACE, "another plan was built in this plan's workspace.plan since; every plan needs a "
                                      "plan part of its own");
}
