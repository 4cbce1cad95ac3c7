/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls from a batch to its attention: validate, plan, hand to the backend. */
#include "api/validate.h"
#include "backend/backend.h"
#include "base/status.h"
#include "schedule/planner.h"

#include <stdlib.h>

enum { RADIX_BITS = 8 }; /* one lane: 256 counters */

/** Everything that pod_workspace_size() and pod_plan_create() both need to know. */
static pod_status prepare(const pod_device *device, const pod_limits *limits, pod_choice *choice, pod_layout *layout) {
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    POD_TRY(pod__validate_limits(limits));
    POD_TRY(device->backend->choose(device, limits, choice));
    POD_TRY(pod__layout_make(limits, &choice->tiling, layout));
    return device->backend->plan_build != NULL ? pod__layout_add_batch(limits, layout) : POD_OK;
}

pod_status pod_workspace_size(const pod_device *device, const pod_limits *limits, size_t *bytes) {
    if (bytes == NULL) return pod__fail(POD_E_ARGUMENT, "bytes is NULL");
    pod_choice choice;
    pod_layout layout = {0};
    POD_TRY(prepare(device, limits, &choice, &layout));
    *bytes = layout.total_bytes;
    return POD_OK;
}

pod_status pod_plan_create(pod_device *device, const pod_limits *limits, pod_plan **plan) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    *plan = NULL;
    pod_choice choice;
    pod_layout layout = {0};
    POD_TRY(prepare(device, limits, &choice, &layout));
    pod_plan *made = calloc(1, sizeof *made);
    int32_t *digits = calloc((size_t)1 << RADIX_BITS, sizeof *digits);
    if (made == NULL || digits == NULL) {
        free(made);
        free(digits);
        return pod__fail(POD_E_NO_MEMORY, "no memory for a plan");
    }
    made->device = device;
    made->limits = *limits;
    made->choice = choice;
    made->layout = layout;
    made->sort_digits = digits;
    *plan = made;
    return POD_OK;
}

void pod_plan_destroy(pod_plan *plan) {
    if (plan == NULL) return;
    free(plan->sort_digits);
    free(plan);
}

static pod_shape make_shape(const pod_limits *limits, const pod_batch *batch) {
    pod_shape shape = {
        .num_requests = batch->num_requests,
        .group = limits->q_heads / limits->kv_heads,
        .kv_heads = limits->kv_heads,
        .causal = batch->causal,
        .window_tokens = batch->window_tokens,
        .max_q_tokens = limits->max_q_tokens,
        .max_kv_len = limits->max_kv_len,
        .q_start = batch->q_start,
        .kv_len = batch->kv_len,
    };
    return shape;
}

pod_status pod_plan_build(pod_plan *plan, const pod_batch *batch, void *workspace, size_t workspace_bytes,
                          pod_stream stream) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    plan->is_built = 0;
    const pod_backend *backend = plan->device->backend;
    POD_TRY(pod__validate_batch(&plan->limits, batch));
    POD_TRY(pod__validate_workspace(workspace, workspace_bytes, plan->layout.total_bytes));
    if (backend->plan_build == NULL && batch->memory == POD_MEMORY_DEVICE) {
        return pod__fail(POD_E_UNSUPPORTED, "memory = POD_MEMORY_DEVICE is not supported by a backend on the host");
    }
    plan->batch = *batch;
    plan->workspace = workspace;
    plan->stream = stream;
    plan->shape = make_shape(&plan->limits, batch);
    plan->schedule = pod__layout_place(&plan->layout, workspace);
    if (backend->plan_build != NULL) {
        POD_TRY(backend->plan_build(plan, batch, stream));
    } else {
        pod_team team = {0, 1, RADIX_BITS, plan->sort_digits};
        plan->schedule.header->signature = plan->layout.signature;
        pod_core_plan(&team, &plan->shape, &plan->choice.tiling, &plan->schedule);
    }
    plan->is_built = 1;
    return POD_OK;
}

pod_status pod_plan_status(const pod_plan *plan, pod_stream stream) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    if (!plan->is_built) return pod__fail(POD_E_STATE, "pod_plan_build() has not succeeded on this plan yet");
    const pod_backend *backend = plan->device->backend;
    return backend->plan_status != NULL ? backend->plan_status(plan, stream) : POD_OK;
}

pod_status pod_attention(pod_plan *plan, const pod_tensors *tensors, void *workspace, size_t workspace_bytes,
                         pod_stream stream) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    if (!plan->is_built) return pod__fail(POD_E_STATE, "pod_plan_build() has not succeeded on this plan yet");
    pod_tensors filled;
    POD_TRY(pod__copy_tensors(tensors, &filled));
    POD_TRY(pod__validate_workspace(workspace, workspace_bytes, plan->layout.total_bytes));
    if (workspace != plan->workspace) {
        return pod__fail(POD_E_WORKSPACE, "workspace is not the one that the plan was built in");
    }
    POD_TRY(pod__validate_tensors(&plan->limits, &filled));
    POD_TRY(plan->device->backend->check_tensors(plan->device, &plan->limits, &filled));
    if (plan->device->backend->plan_build == NULL && plan->schedule.header->signature != plan->layout.signature) {
        return pod__fail(POD_E_WORKSPACE, "workspace was overwritten, or planned for other limits, since this plan "
                                          "was built");
    }
    return plan->device->backend->attention(plan, &filled, stream);
}
