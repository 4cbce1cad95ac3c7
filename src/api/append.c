/* SPDX-License-Identifier: Apache-2.0 */
/* Appending to the cache, and the oracle's appending. */
#include "api/overlap.h"
#include "api/structs.h"
#include "api/take_append.h"
#include "api/validate.h"
#include "backend/backend.h"
#include "base/status.h"
#include "oracle/oracle_append.h"

pod_status pod_cache_append(const pod_plan *plan, const pod_append *append, const pod_cache *cache, pod_stream stream) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    const pod_backend *backend = plan->device->backend;
    pod_append_job job = {0};
    POD_TRY(pod__take_append(&plan->limits, plan->is_built ? &plan->batch : NULL, append, cache, &job));
    int needs_batch = pod__append_needs_batch(&job.given);
    POD_TRY(pod__check_append_overlaps(plan, &job));
    if (backend->append == NULL) {
        return pod__fail(POD_E_UNSUPPORTED, "pod_cache_append() is not supported: this device plans only; it computes "
                                            "nothing");
    }
    POD_TRY(backend->check_append(&job));
    if (needs_batch) {
        POD_TRY(pod__check_workspace(plan, 0));
        job.requests = plan->schedules[0].requests;
        job.page_errors = backend->plan_build != NULL ? plan->schedules[0].page_errors : NULL;
    }
    if (backend->plan_build == NULL) {
        POD_TRY(pod__validate_scales(&plan->limits, &job.cache));
        POD_TRY(pod__check_append_tokens(&job));
    }
    if (job.given.num_tokens == 0) return POD_OK;
    return backend->append(plan->device, &job, stream);
}

pod_status pod_reference_append(const pod_limits *limits, const pod_batch *batch, const pod_append *append,
                                const pod_cache *cache, int64_t *slots, double *k, double *v, double *q) {
    pod_limits filled;
    pod_mask masks[POD_MAX_MASKS];
    pod_batch taken;
    pod_append_job job = {0};
    pod_oracle_append_job oracle = {.slots = slots, .k = k, .v = v, .q = q};
    POD_TRY(pod__take_limits(limits, &filled));
    if (batch != NULL) {
        POD_TRY(pod__take_batch(&filled, batch, &taken, masks));
        if (taken.memory != POD_MEMORY_HOST) {
            return pod__fail(POD_E_UNSUPPORTED, "memory = POD_MEMORY_DEVICE is not supported by the oracle");
        }
        oracle.batch = &taken;
    }
    POD_TRY(pod__take_append(&filled, oracle.batch, append, cache, &job));
    POD_TRY(pod__validate_scales(&filled, &job.cache));
    if (slots == NULL) return pod__fail(POD_E_ARGUMENT, "slots is NULL");
    if (job.given.k != NULL) {
        POD_TRY(pod__check_doubles("k", k));
        if (job.given.v != NULL) POD_TRY(pod__check_doubles("v", v));
    }
    if (q != NULL && job.given.q == NULL) return pod__fail(POD_E_ARGUMENT, "q is not NULL, but append.q is");
    if (q != NULL) POD_TRY(pod__check_doubles("q", q));
    oracle.limits = filled;
    oracle.append = job.given;
    oracle.rope = job.rope;
    oracle.cache = job.cache;
    oracle.num_pages = job.num_pages;
    pod__oracle_append(&oracle);
    return POD_OK;
}
