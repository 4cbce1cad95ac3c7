/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_plan.h"

#include "schedule/planner.h"

#include "plan_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RADIX_BITS = 8 };

#define REQUIRE(condition, ...)                                                                                        \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        fprintf(stderr, "%s: ", #condition);                                                                           \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fprintf(stderr, "\n");                                                                                         \
        return 0;                                                                                                      \
    } while (0)

/** The GPU's plan as a plan of the host, in a copy of its workspace. */
typedef struct twin {
    pod_device *device;
    pod_plan plan;
    pod_workspace copy;  /**< what the GPU planned */
    pod_workspace other; /**< what the host plans */
} twin;

/** Room for the plan's part alone: nothing is computed. */
static void *copy_room(const gpu_case *c) {
    size_t bytes = c->workspace.plan_bytes;
    return aligned_alloc(POD_WORKSPACE_ALIGN,
                         (bytes + POD_WORKSPACE_ALIGN - 1) / POD_WORKSPACE_ALIGN * POD_WORKSPACE_ALIGN);
}

static int make_twin(const gpu_case *c, const gpu *gpu, twin *t) {
    t->copy.plan = copy_room(c);
    t->other.plan = copy_room(c);
    REQUIRE(t->copy.plan != NULL && t->other.plan != NULL, "no memory");
    REQUIRE(pod_device_open("sim:cpu", &t->device) == POD_OK, "%s", pod_error_message());
    GPU_CHECK(gpu, ctx_synchronize());
    gpu_download(gpu, t->copy.plan, c->workspace.plan, c->workspace.plan_bytes);
    t->plan = *c->plan;
    t->plan.device = t->device;
    t->plan.workspace = t->copy;
    for (int32_t m = 0; m < t->plan.num_masks; m++) {
        t->plan.schedules[m] = pod__layout_place(&t->plan.layout, &t->copy, m);
        t->plan.shapes[m].q_start = c->batch.batch.q_start;
        t->plan.shapes[m].kv_len = c->batch.batch.kv_len;
        t->plan.shapes[m].causal_per_request = c->batch.masks[m].causal_per_request;
    }
    return 1;
}

static int same_bytes(const char *what, const void *left, const void *right, size_t bytes) {
    REQUIRE(bytes == 0 || memcmp(left, right, bytes) == 0, "%s of the GPU's plan is not the host's", what);
    return 1;
}

static int check_bytes(const twin *t, int32_t mask) {
    int32_t digits[1 << RADIX_BITS];
    pod_team team = {0, 1, RADIX_BITS, digits};
    pod_schedule a = t->plan.schedules[mask], b = pod__layout_place(&t->plan.layout, &t->other, mask);
    pod_core_plan(&team, &t->plan.shapes[mask], &t->plan.choice.tiling, &b);
    b.header->signature = a.header->signature;
    size_t n = (size_t)b.header->num_requests, entries = (size_t)b.header->num_prefill_entries;
    return same_bytes("header", a.header, b.header, sizeof *a.header) &&
           same_bytes("requests", a.requests, b.requests, n * sizeof *a.requests) &&
           same_bytes("decode_begin", a.decode_begin, b.decode_begin, (n + 1) * sizeof *a.decode_begin) &&
           same_bytes("entries", a.entries, b.entries, entries * sizeof *a.entries);
}

typedef struct item_list {
    const pod_work_item *expected;
    size_t count, seen;
    int differs;
} item_list;

static int compare_item(void *context, const pod_work_item *item) {
    item_list *list = context;
    list->differs |= list->seen == list->count || memcmp(item, &list->expected[list->seen], sizeof *item) != 0;
    list->seen++;
    return list->differs;
}

typedef struct item_copies {
    pod_work_item *items;
    size_t count, capacity;
} item_copies;

static int copy_item(void *context, const pod_work_item *item) {
    item_copies *copies = context;
    if (copies->count == copies->capacity) return 1;
    copies->items[copies->count++] = *item;
    return 0;
}

static int check_views(const gpu_case *c, const twin *t, int32_t mask) {
    pod_plan_info gpu_info = pod_plan_info_init(), info = pod_plan_info_init();
    REQUIRE(pod_plan_get_info(c->plan, mask, &gpu_info) == POD_OK, "%s", pod_error_message());
    REQUIRE(pod_plan_get_info(&t->plan, mask, &info) == POD_OK, "%s", pod_error_message());
    REQUIRE(memcmp(&gpu_info, &info, offsetof(pod_plan_info, kernel)) == 0, "they count differently");
    size_t capacity = (size_t)(info.num_prefill_items + info.num_decode_items);
    item_copies copies = {malloc((capacity + 1) * sizeof(pod_work_item)), 0, capacity};
    REQUIRE(copies.items != NULL, "no memory");
    pod_status status = pod_plan_visit(&t->plan, mask, copy_item, &copies);
    item_list list = {copies.items, copies.count, 0, 0};
    if (status == POD_OK) status = pod_plan_visit(c->plan, mask, compare_item, &list);
    free(copies.items);
    REQUIRE(status == POD_OK, "%s", pod_error_message());
    REQUIRE(!list.differs && list.seen == capacity, "item %zu of %zu", list.seen, capacity);
    return 1;
}

int gpu_plan_check(const gpu_case *c, const gpu *gpu) {
    twin t = {0};
    plan_check check = {0};
    int holds = make_twin(c, gpu, &t);
    if (holds && !plan_check_all(&check, &t.plan)) {
        fprintf(stderr, "the GPU's plan: %s\n", check.message);
        holds = 0;
    }
    for (int32_t m = 0; holds && m < t.plan.num_masks; m++) holds = check_bytes(&t, m) && check_views(c, &t, m);
    plan_check_free(&check);
    pod_device_close(t.device);
    free(t.copy.plan);
    free(t.other.plan);
    return holds;
}
