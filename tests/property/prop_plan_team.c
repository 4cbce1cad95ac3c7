/* SPDX-License-Identifier: Apache-2.0 */
/* The plan does not depend on the number of lanes that make it, and lengths that nobody validated (as on a device)
 * neither break it nor leave the workspace: wrong requests are marked, the others planned. */
#include "plan_check.h"
#include "property.h"
#include "random_batch.h"
#include "schedule/planner.h"
#include "team_plan.h"
#include "test_workspace.h"

enum { POISON = 0xcd, HOST_RADIX_BITS = 8 };

typedef struct team_case {
    pod_plan *plan;
    test_batch batch;
    test_workspace workspace, other;
    int32_t mask; /**< that is planned */
} team_case;

static int same(const char *name, const void *one, const void *many, size_t bytes) {
    PROPERTY(bytes == 0 || memcmp(one, many, bytes) == 0, "%s differs", name);
    return 0;
}

#define SAME(field, count) same(#field, one->field, many->field, (size_t)(count) * sizeof *one->field)

static int same_schedules(const pod_shape *shape, const pod_schedule *one, const pod_schedule *many) {
    if (SAME(header, 1)) return 1;
    const pod_schedule_header *header = one->header;
    return SAME(requests, header->num_requests) || SAME(decode_begin, header->num_requests + 1) ||
           SAME(row_tile_begin, header->num_requests + 1) || SAME(entries, header->num_prefill_entries) ||
           SAME(sm_tickets, POD_MAX_SMS) || SAME(slice_counters, header->num_slices) ||
           SAME(part_counters, plan_num_prefill_slots(shape, one));
}

/** Plans one mask of the batch, validated or not, with one lane and with many. */
static int check_lanes(test_rng *rng, team_case *c) {
    static const int32_t lane_counts[] = {1, 2, 3, 7, 32};
    pod_plan *plan = c->plan;
    const pod_shape *shape = &plan->shapes[c->mask];
    pod_schedule *one = &plan->schedules[c->mask], many = pod__layout_place(&plan->layout, &c->other.given, c->mask);
    int32_t digits[1 << HOST_RADIX_BITS];
    pod_team team = {0, 1, HOST_RADIX_BITS, digits};
    *one = pod__layout_place(&plan->layout, &c->workspace.given, c->mask);
    one->header->signature = many.header->signature = plan->signature;
    pod_core_plan(&team, shape, &plan->choice.tiling, one);
    PROPERTY(test_workspace_intact(&c->workspace), "written outside of the workspace");
    int lanes = rng_pick(rng, lane_counts, 5), radix_bits = rng_range(rng, 1, 8);
    PROPERTY(team_plan(lanes, radix_bits, shape, &plan->choice.tiling, &many), "no threads");
    PROPERTY(test_workspace_intact(&c->other), "written outside of the workspace by %d lanes", lanes);
    PROPERTY(same_schedules(shape, one, &many) == 0, "%d lanes, %d bits a pass", lanes, radix_bits);
    return 0;
}

/** Overwrites some lengths with anything. */
static void spoil(test_rng *rng, const pod_limits *limits, test_batch *batch) {
    static const int32_t wild[] = {INT32_MIN, -1, 0, 1, INT32_MAX};
    int32_t n = batch->batch.num_requests, times = rng_range(rng, 1, 1 + n);
    for (int32_t i = 0; i < times && n > 0; i++) {
        int32_t r = rng_range(rng, 0, n - 1);
        int32_t value = rng_chance(rng, 50) ? rng_pick(rng, wild, 5) : rng_range(rng, 0, limits->max_q_tokens);
        if (rng_chance(rng, 50)) {
            batch->q_start[r + 1] = value;
        } else {
            batch->kv_len[r] = value;
        }
    }
}

static int check_spoiled(test_rng *rng, plan_check *check, team_case *c) {
    pod_plan *plan = c->plan;
    spoil(rng, &plan->limits, &c->batch);
    for (c->mask = plan->num_masks - 1; c->mask > 0; c->mask--) {
        if (check_lanes(rng, c)) return 1;
    }
    if (check_lanes(rng, c)) return 1;
    PROPERTY(plan_check_all(check, plan), "%s", check->message);
    int32_t first_error = INT32_MAX;
    for (int32_t r = plan->shapes[0].num_requests - 1; r >= 0; r--) {
        const pod_request *request = &plan->schedules[0].requests[r];
        if (request->error != POD_REQUEST_OK) first_error = r;
        PROPERTY(request->q_begin >= 0 && request->q_len >= 0 &&
                     (int64_t)request->q_begin + request->q_len <= plan->limits.max_q_tokens,
                 "request %d writes tokens [%d, +%d)", r, request->q_begin, request->q_len);
        PROPERTY(request->kv_len >= 0 && request->kv_len <= plan->limits.max_kv_len, "request %d reads %d keys", r,
                 request->kv_len);
    }
    PROPERTY(plan->schedules[0].header->first_error == first_error, "%d, not %d",
             plan->schedules[0].header->first_error, first_error);
    return 0;
}

static int run_rounds(test_rng *rng, plan_check *check, team_case *c) {
    pod_limits *limits = &c->plan->limits;
    for (int round = 0; round < 3; round++) {
        test_batch_fill(&c->batch, rng, limits, (batch_mix)rng_range(rng, 0, MIX_COUNT - 1));
        pod_status status = pod_plan_build(c->plan, &c->batch.batch, NULL);
        PROPERTY(status == POD_OK, "%s", pod_error_message());
        if (check_lanes(rng, c) || check_spoiled(rng, check, c)) return 1;
    }
    return 0;
}

static int team_plan_case(test_rng *rng, void *context) {
    static const char *const names[] = {"sim:cpu", "sim:a100", "sim:sms=1", "sim:sms=20"};
    pod_limits limits = random_limits(rng, 1 + rng_log_range(rng, 0, 63), 1 + rng_log_range(rng, 0, 4095),
                                      1 + rng_log_range(rng, 0, 1 << 14));
    random_gpu_elements(rng, &limits);
    limits.max_masks = rng_range(rng, 1, 3);
    team_case c = {0};
    pod_device *device = NULL;
    const char *name = names[rng_range(rng, 0, 3)];
    if (has_values_in_keys(&limits) && strcmp(name, "sim:a100") == 0) limits.head_dim = limits.v_head_dim = 128;
    PROPERTY(pod_device_open(name, &device) == POD_OK, "%s", pod_error_message());
    PROPERTY(test_workspace_plan(device, &limits, POISON, &c.workspace, &c.plan) == POD_OK, "%s", pod_error_message());
    PROPERTY(test_workspace_make(device, &limits, POISON, &c.other) == POD_OK, "%s", pod_error_message());
    PROPERTY(test_batch_alloc(&c.batch, &limits), "no memory");
    int failed = run_rounds(rng, context, &c);
    test_batch_free(&c.batch);
    test_workspace_free(&c.workspace);
    test_workspace_free(&c.other);
    pod_plan_destroy(c.plan);
    pod_device_close(device);
    return failed;
}

int main(void) {
    plan_check check = {0};
    int code = property_run("plan_team", 400, team_plan_case, &check);
    plan_check_free(&check);
    return code;
}
