/* SPDX-License-Identifier: Apache-2.0 */
#include "planner.h"

#include "host_memory.h"

#include <stdlib.h>

cli_exit planner_make(pod_device *device, const pod_limits *limits, planner *made, cli_error *error) {
    if (pod_workspace_size(device, limits, &made->workspace_bytes) != POD_OK) return cli_fail_library(error);
    CLI_TRY(host_memory_check("the workspace", (double)made->workspace_bytes, error));
    size_t units = made->workspace_bytes / POD_WORKSPACE_ALIGN + 1;
    made->workspace = aligned_alloc(POD_WORKSPACE_ALIGN, units * POD_WORKSPACE_ALIGN);
    if (made->workspace == NULL) return cli_fail_memory(error);
    return pod_plan_create(device, limits, &made->plan) == POD_OK ? CLI_OK : cli_fail_library(error);
}

void planner_free(planner *planner) {
    pod_plan_destroy(planner->plan);
    free(planner->workspace);
}

cli_exit planner_build(planner *planner, const pod_batch *batch, cli_error *error) {
    pod_status status = pod_plan_build(planner->plan, batch, planner->workspace, planner->workspace_bytes, NULL);
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}

cli_exit planner_run(planner *planner, const pod_tensors *tensors, cli_error *error) {
    pod_status status = pod_attention(planner->plan, tensors, planner->workspace, planner->workspace_bytes, NULL);
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}
