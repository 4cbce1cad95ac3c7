/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that compute: attention of a planned batch, merging of partial results, and the oracle's attention. Each
 * validates, fills in defaults and hands over. */
#include "api/overlap.h"
#include "api/structs.h"
#include "api/validate.h"
#include "backend/backend.h"
#include "base/status.h"
#include "oracle/oracle.h"

pod_status pod_attention(pod_plan *plan, const pod_tensors *tensors, const pod_cache *cache, pod_stream stream) {
    POD_TRY(pod__validate_built(plan));
    pod_call call = {.plan = plan, .stream = stream};
    POD_TRY(pod__take_tensors(&plan->limits, &plan->batch, tensors, &call.tensors));
    POD_TRY(pod__take_cache(&plan->limits, plan->batch.num_pages, cache, &call.cache));
    POD_TRY(pod__validate_tokens(&plan->batch, &call.tensors));
    POD_TRY(pod__check_overlaps(plan, &call.tensors, &call.cache));
    call.shape = &plan->shapes[call.tensors.mask];
    call.schedule = &plan->schedules[call.tensors.mask];
    POD_TRY(plan->device->backend->check_call(&call));
    if (plan->device->backend->plan_build == NULL) POD_TRY(pod__validate_scales(&plan->limits, &call.cache));
    POD_TRY(pod__check_workspace(plan, call.tensors.mask));
    return plan->device->backend->attention(&call);
}

pod_status pod_merge(const pod_device *device, const pod_parts *parts, pod_stream stream) {
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    pod_parts taken;
    POD_TRY(pod__take_parts(parts, &taken));
    POD_TRY(pod__check_merge_overlaps(&taken));
    if (device->backend->merge == NULL) {
        return pod__fail(POD_E_UNSUPPORTED, "this device plans only; it computes nothing");
    }
    if (taken.num_tokens == 0) return POD_OK;
    return device->backend->merge(device, &taken, stream);
}

pod_status pod_reference_attention(const pod_limits *limits, const pod_batch *batch, const pod_tensors *tensors,
                                   const pod_cache *cache, int32_t request, double *out, double *lse) {
    pod_limits filled;
    pod_mask masks[POD_MAX_MASKS];
    pod_oracle_job job = {.out = out, .lse = lse};
    POD_TRY(pod__take_limits(limits, &filled));
    POD_TRY(pod__take_batch(&filled, batch, &job.batch, masks));
    pod_tensors given;
    POD_TRY(pod__take_struct(&pod__tensors_layouts, tensors, &given));
    POD_TRY(pod__check_doubles("out", out));
    if (lse != NULL) POD_TRY(pod__check_doubles("lse", lse));
    if (job.batch.memory != POD_MEMORY_HOST) {
        return pod__fail(POD_E_UNSUPPORTED, "memory = POD_MEMORY_DEVICE is not supported by the oracle");
    }
    if (filled.q_dtype == POD_F8E4M3) {
        return pod__fail(POD_E_UNSUPPORTED, "q_dtype f8e4m3 is not supported by the oracle");
    }
    if (request < -1 || request >= job.batch.num_requests) {
        return pod__fail(POD_E_ARGUMENT, "request = %d is outside [-1, %d)", request, job.batch.num_requests);
    }
    given.out = out; /* packed, whatever the strides say of the tensors' own */
    given.lse = NULL;
    given.out_token_stride = given.out_head_stride = 0;
    given.out_tokens = 0;
    POD_TRY(pod__take_tensors(&filled, &job.batch, &given, &job.tensors));
    POD_TRY(pod__validate_tokens(&job.batch, &job.tensors));
    POD_TRY(pod__take_cache(&filled, job.batch.num_pages, cache, &job.cache));
    POD_TRY(pod__validate_scales(&filled, &job.cache));
    job.limits = filled;
    job.mask = masks[job.tensors.mask];
    return pod__oracle(&job, request);
}
