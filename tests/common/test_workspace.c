/* SPDX-License-Identifier: Apache-2.0 */
#include "test_workspace.h"

pod_status test_workspace_make(const pod_device *device, const pod_limits *limits, int fill, test_workspace *made) {
    memset(made, 0, sizeof *made);
    made->given = pod_workspace_init();
    pod_status status = pod_workspace_size(device, limits, &made->given);
    if (status != POD_OK) return status;
    made->plan = guarded_alloc(made->given.plan_bytes, fill);
    made->scratch = guarded_alloc(made->given.scratch_bytes, fill);
    made->given.plan = made->plan.data;
    made->given.scratch = made->scratch.data;
    return made->plan.data != NULL && made->scratch.data != NULL ? POD_OK : POD_E_NO_MEMORY;
}

void test_workspace_free(test_workspace *workspace) {
    guarded_free(&workspace->plan);
    guarded_free(&workspace->scratch);
}

int test_workspace_intact(const test_workspace *workspace) {
    return guarded_intact(&workspace->plan) && guarded_intact(&workspace->scratch);
}

static int holds_only(const guarded *memory, int fill) {
    for (size_t i = 0; i < memory->bytes; i++) {
        if (memory->data[i] != (unsigned char)fill) return 0;
    }
    return 1;
}

int test_workspace_untouched(const test_workspace *workspace, int fill) {
    return holds_only(&workspace->plan, fill) && holds_only(&workspace->scratch, fill);
}

pod_status test_workspace_plan(pod_device *device, const pod_limits *limits, int fill, test_workspace *workspace,
                               pod_plan **plan) {
    *plan = NULL;
    pod_status status = test_workspace_make(device, limits, fill, workspace);
    if (status == POD_OK) status = pod_plan_create(device, limits, plan);
    return status == POD_OK ? pod_plan_attach(*plan, &workspace->given) : status;
}
