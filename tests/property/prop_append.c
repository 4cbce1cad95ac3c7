/* SPDX-License-Identifier: Apache-2.0 */
/* pod_cache_append() on the CPU against its definition in double precision: every way to a place and a position, every
 * rotation, dtype, stride and layout. Where one token is wrong the call is refused, and nothing is written. */
#include "append_case.h"
#include "property.h"
#include "test_workspace.h"

#include <string.h>

enum { NUM_DEVICES = 5 };

typedef struct context {
    pod_device *devices[NUM_DEVICES];
    int32_t num_devices;
} context;

static const append_bounds bounds = {9, 100, 200, NULL};

static int run(const append_case *c, pod_plan *plan, append_call *call) {
    if (c->needs_build) PROPERTY(pod_plan_build(plan, &call->batch, NULL) == POD_OK, "%s", pod_error_message());
    const pod_cache *cache = call->append.k != NULL ? &call->cache : NULL;
    pod_status status = pod_cache_append(plan, &call->append, cache, NULL);
    PROPERTY(status == (c->bad_token >= 0 ? POD_E_ARGUMENT : POD_OK), "token %d: %s: %s", c->bad_token,
             pod_status_name(status), status != POD_OK ? pod_error_message() : "");
    return 0;
}

static int check_case(const append_case *c, pod_device *device, guarded *arena, test_workspace *workspace,
                      pod_plan **plan) {
    append_call call;
    memcpy(arena->data, c->arena, c->arena_bytes);
    append_case_move(c, arena->data, &call);
    PROPERTY(pod_plan_create(device, &c->limits, plan) == POD_OK, "%s", pod_error_message());
    if (c->needs_build) {
        PROPERTY(test_workspace_make(device, &c->limits, 0xcd, workspace) == POD_OK, "%s", pod_error_message());
        PROPERTY(pod_plan_attach(*plan, &workspace->given) == POD_OK, "%s", pod_error_message());
    }
    if (run(c, *plan, &call)) return 1;
    PROPERTY(guarded_intact(arena), "written outside of all arrays");
    if (c->bad_token >= 0) {
        PROPERTY(memcmp(arena->data, c->arena, c->arena_bytes) == 0, "a refused call wrote");
        return 0;
    }
    PROPERTY(append_case_check(c, arena->data), "not the oracle's");
    return 0;
}

static int append_property(test_rng *rng, void *argument) {
    context *t = argument;
    append_case c;
    test_workspace workspace = {0};
    pod_plan *plan = NULL;
    guarded arena = {0};
    int failed = !append_case_make(&c, rng, &bounds);
    if (!failed) {
        arena = guarded_alloc(c.arena_bytes, 0);
        failed = arena.data == NULL ||
                 check_case(&c, t->devices[rng_range(rng, 0, t->num_devices - 1)], &arena, &workspace, &plan);
    }
    if (failed) append_case_print(&c);
    guarded_free(&arena);
    test_workspace_free(&workspace);
    pod_plan_destroy(plan);
    append_case_free(&c);
    return failed;
}

int main(void) {
    static const char *const names[NUM_DEVICES] = {"cpu:3", "cpu:1,isa=generic", "cpu:2,isa=avx2", "cpu:1,isa=avx512",
                                                   "cpu:1,isa=avx512-bf16"};
    context t = {0};
    for (int32_t d = 0; d < NUM_DEVICES; d++) { /* those that this processor has */
        if (pod_device_open(names[d], &t.devices[t.num_devices]) == POD_OK) t.num_devices++;
    }
    int code = t.num_devices == 0 || property_run("append", 5000, append_property, &t) != 0;
    for (int32_t d = 0; d < t.num_devices; d++) pod_device_close(t.devices[d]);
    return code;
}
