/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a plan: made for limits, given a workspace, built for each step's batch. */
#include "api/plan_parts.h"
#include "api/structs.h"
#include "api/validate.h"
#include "backend/backend.h"
#include "base/status.h"
#include "schedule/planner.h"
#include "schedule/soundness.h"

#include <stdlib.h>

enum { RADIX_BITS = 8 }; /* one lane: 256 counters */

/** What follows from the limits on a device; `filled` gets their defaults. */
static pod_status prepare(const pod_device *device, const pod_limits *limits, pod_limits *filled, pod_choice *choice,
                          pod_layout *layout) {
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    POD_TRY(pod__take_limits(limits, filled));
    POD_TRY(device->backend->choose(device, filled, choice));
    POD_TRY(pod__layout_make(filled, &choice->tiling, layout));
    /* A GPU cannot read the host's arrays; what plays one tells how much room they take there. */
    int copies_batch = choice->kernel >= 0 && filled->batch_memory == POD_MEMORY_HOST;
    return copies_batch ? pod__layout_add_batch(filled, layout) : POD_OK;
}

pod_status pod_workspace_size(const pod_device *device, const pod_limits *limits, pod_workspace *workspace) {
    pod_workspace sizes;
    POD_TRY(pod__take_struct(&pod__workspace_layouts, workspace, &sizes));
    pod_limits filled;
    pod_choice choice;
    pod_layout layout = {0};
    POD_TRY(prepare(device, limits, &filled, &choice, &layout));
    sizes.plan_bytes = layout.plan_bytes;
    sizes.scratch_bytes = layout.scratch_bytes;
    return pod__give_struct(&pod__workspace_layouts, &sizes, workspace);
}

/** Differs for every plan of the process and every layout, so that a schedule tells whose it is. */
static uint64_t make_signature(const pod_layout *layout) {
    static uint64_t num_plans;
    uint64_t number = __atomic_add_fetch(&num_plans, 1, __ATOMIC_RELAXED);
    return layout->signature ^ number * UINT64_C(0x9e3779b97f4a7c15);
}

pod_status pod_plan_create(pod_device *device, const pod_limits *limits, pod_plan **plan) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    *plan = NULL;
    pod_limits filled;
    pod_choice choice;
    pod_layout layout = {0};
    POD_TRY(prepare(device, limits, &filled, &choice, &layout));
    pod_plan *made = calloc(1, sizeof *made);
    int32_t *digits = calloc((size_t)1 << RADIX_BITS, sizeof *digits);
    if (made == NULL || digits == NULL) {
        free(made);
        free(digits);
        return pod__fail(POD_E_NO_MEMORY, "no memory for a plan");
    }
    made->device = device;
    made->limits = filled;
    made->choice = choice;
    made->layout = layout;
    made->signature = make_signature(&layout);
    made->sort_digits = digits;
    pod_status status = pod__plan_parts_add(made);
    if (status != POD_OK) {
        free(made);
        free(digits);
        return status;
    }
    *plan = made;
    return POD_OK;
}

void pod_plan_destroy(pod_plan *plan) {
    if (plan == NULL) return;
    pod__plan_parts_remove(plan);
    free(plan->sort_digits);
    free(plan);
}

pod_status pod_plan_attach(pod_plan *plan, const pod_workspace *workspace) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    pod_workspace taken;
    POD_TRY(pod__take_struct(&pod__workspace_layouts, workspace, &taken));
    POD_TRY(pod__validate_workspace(&taken, &plan->layout));
    pod__plan_parts_attach(plan, &taken);
    plan->is_built = 0;
    return POD_OK;
}

static pod_shape make_shape(const pod_plan *plan, const pod_mask *mask) {
    const pod_limits *limits = &plan->limits;
    const pod_batch *batch = &plan->batch;
    pod_shape shape = {
        .num_requests = batch->num_requests,
        .group = limits->q_heads / limits->kv_heads,
        .kv_heads = limits->kv_heads,
        .causal = mask->causal,
        .window_tokens = mask->window_tokens,
        .right_window_tokens = mask->right_window_tokens,
        .max_q_tokens = batch->num_q_tokens,
        .max_kv_len = limits->max_kv_len,
        .q_start = batch->q_start,
        .kv_len = batch->kv_len,
        .causal_per_request = mask->causal_per_request,
    };
    return shape;
}

static void plan_on_host(pod_plan *plan) {
    pod_team team = {0, 1, RADIX_BITS, plan->sort_digits};
    for (int32_t m = 0; m < plan->num_masks; m++) {
        pod_core_plan(&team, &plan->shapes[m], &plan->choice.tiling, &plan->schedules[m]);
        plan->schedules[m].header->signature = plan->signature;
    }
}

pod_status pod_plan_build(pod_plan *plan, const pod_batch *batch, pod_stream stream) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    plan->is_built = 0;
    if (!plan->is_attached) return pod__fail(POD_E_STATE, "no workspace was attached to this plan");
    const pod_backend *backend = plan->device->backend;
    pod_mask masks[POD_MAX_MASKS];
    pod_batch taken;
    POD_TRY(pod__take_batch(&plan->limits, batch, &taken, masks));
    if (backend->plan_build == NULL && taken.memory == POD_MEMORY_DEVICE) {
        return pod__fail(POD_E_UNSUPPORTED, "memory = POD_MEMORY_DEVICE is not supported by a device on the host");
    }
    if (taken.memory == POD_MEMORY_HOST && plan->limits.batch_memory == POD_MEMORY_DEVICE) {
        return pod__fail(POD_E_UNSUPPORTED, "memory = POD_MEMORY_HOST is not supported by a plan whose limits have "
                                            "batch_memory = POD_MEMORY_DEVICE");
    }
    POD_TRY(pod__choice_check_masks(&plan->choice, masks, taken.num_masks));
    plan->batch = taken;
    plan->batch.masks = NULL; /* the caller's array may be gone after this call */
    plan->stream = stream;
    plan->num_masks = taken.num_masks;
    for (int32_t m = 0; m < plan->num_masks; m++) {
        plan->shapes[m] = make_shape(plan, &masks[m]);
        plan->schedules[m] = pod__layout_place(&plan->layout, &plan->workspace, m);
    }
    pod__plan_parts_claim(plan);
    if (backend->plan_build != NULL) {
        POD_TRY(backend->plan_build(plan));
    } else {
        plan_on_host(plan);
        for (int32_t m = 0; m < plan->num_masks; m++) {
            plan->digests[m] = pod__schedule_digest(&plan->shapes[m], &plan->schedules[m]);
        }
    }
    plan->is_built = 1;
    return POD_OK;
}

pod_status pod_plan_check(const pod_plan *plan, pod_stream stream) {
    POD_TRY(pod__validate_built(plan));
    const pod_backend *backend = plan->device->backend;
    if (backend->plan_check != NULL) return backend->plan_check(plan, stream);
    for (int32_t m = 0; m < plan->num_masks; m++) POD_TRY(pod__check_schedule(plan, m, &plan->schedules[m]));
    return POD_OK;
}
