/* SPDX-License-Identifier: Apache-2.0 */
/* Any batch within its limits gets a plan that covers its work exactly once, inside a workspace of exactly
 * pod_workspace_size() bytes. */
#include "plan_check.h"
#include "property.h"
#include "random_batch.h"
#include "test_workspace.h"

enum { POISON = 0xcd, KEYS_COUNTED_ONE_BY_ONE = 1 << 18 };

/** A device, and elements that it takes: the planner does not look at them, so workspaces are kept small. */
static pod_device *open_random_device(test_rng *rng, pod_limits *limits) {
    char name[32];
    random_gpu_elements(rng, limits);
    int kind = rng_range(rng, 0, 9);
    switch (kind <= 2 && has_values_in_keys(limits) ? 0 : kind) {
    case 0:
        snprintf(name, sizeof name, "sim:h100");
        break;
    case 1:
    case 2:
        snprintf(name, sizeof name, "sim:a100");
        break;
    case 3:
    case 4:
    case 5:
        snprintf(name, sizeof name, "sim:cpu");
        limits->head_dim = limits->v_head_dim = 8;
        break;
    default:
        snprintf(name, sizeof name, "sim:sms=%d", 1 + rng_log_range(rng, 0, 255));
    }
    if (has_values_in_keys(limits)) { /* kernels of Hopper alone, without these masks */
        limits->tree_masks = limits->alibi = limits->right_windows = 0;
        if (strcmp(name, "sim:a100") == 0) limits->head_dim = limits->v_head_dim = 128;
    }
    pod_device *device = NULL;
    pod_device_open(name, &device);
    return device;
}

static pod_limits plan_limits(test_rng *rng) {
    pod_limits limits;
    switch (rng_range(rng, 0, 3)) {
    case 0: /* tiny: every key is counted */
        limits = random_limits(rng, rng_range(rng, 1, 6), rng_range(rng, 1, 60), rng_range(rng, 1, 400));
        break;
    case 1: /* a server's step */
        limits = random_limits(rng, 1 + rng_log_range(rng, 0, 255), 1 + rng_log_range(rng, 0, 2047),
                               1 + rng_log_range(rng, 0, 1 << 17));
        break;
    case 2: /* one long prompt */
        limits = random_limits(rng, rng_range(rng, 1, 3), 1 + rng_log_range(rng, 0, 1 << 15), 1 << 16);
        break;
    default:
        limits = random_limits(rng, rng_range(rng, 1, 40), rng_range(rng, 1, 300), rng_range(rng, 1, 3000));
    }
    limits.max_masks = rng_chance(rng, 30) ? rng_range(rng, 2, 4) : 1;
    random_mask_limits(rng, &limits);
    return limits;
}

static int64_t work_size(const pod_limits *limits, const pod_batch *batch) {
    int64_t size = 0;
    for (int32_t r = 0; r < batch->num_requests; r++) {
        size += (int64_t)(batch->q_start[r + 1] - batch->q_start[r]) * batch->kv_len[r] * limits->q_heads;
    }
    return size;
}

static int check_plan(test_rng *rng, plan_check *check, pod_plan *plan, const pod_limits *limits, test_batch *batch,
                      const test_workspace *workspace) {
    for (int round = 0; round < 4; round++) { /* the same plan again and again: nothing of the last batch stays */
        test_batch_fill(batch, rng, limits, (batch_mix)rng_range(rng, 0, MIX_COUNT - 1));
        pod_status status = pod_plan_build(plan, &batch->batch, NULL);
        PROPERTY(status == POD_OK, "%s", pod_error_message());
        PROPERTY(test_workspace_intact(workspace), "written outside of the workspace");
        PROPERTY(plan_check_all(check, plan), "%s", check->message);
        for (int32_t m = 0; m < plan->num_masks; m++) {
            int32_t first_error = plan->schedules[m].header->first_error;
            PROPERTY(first_error == INT32_MAX, "request %d", first_error);
        }
        if (work_size(limits, &batch->batch) > KEYS_COUNTED_ONE_BY_ONE) continue;
        PROPERTY(plan_check_each_key(check, plan), "%s", check->message);
    }
    return 0;
}

static int plan_case(test_rng *rng, void *context) {
    plan_check *check = context;
    pod_limits limits = plan_limits(rng);
    pod_device *device = open_random_device(rng, &limits);
    pod_plan *plan = NULL;
    test_workspace workspace;
    test_batch batch;
    PROPERTY(device != NULL, "%s", pod_error_message());
    PROPERTY(test_workspace_plan(device, &limits, POISON, &workspace, &plan) == POD_OK, "%s", pod_error_message());
    PROPERTY(test_batch_alloc(&batch, &limits), "no memory");
    int failed = check_plan(rng, check, plan, &limits, &batch, &workspace);
    test_batch_free(&batch);
    test_workspace_free(&workspace);
    pod_plan_destroy(plan);
    pod_device_close(device);
    return failed;
}

int main(void) {
    plan_check check = {0};
    int code = property_run("plan", 3000, plan_case, &check);
    plan_check_free(&check);
    return code;
}
