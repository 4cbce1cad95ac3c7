/* SPDX-License-Identifier: Apache-2.0 */
#include "run/planner.h"

cli_exit planner_make(pod_device *device, device_memory *memory, const pod_limits *limits, planner *made,
                      cli_error *error) {
    if (pod_workspace_size(device, limits, &made->workspace_bytes) != POD_OK) return cli_fail_library(error);
    made->memory = memory;
    CLI_TRY(device_memory_take(memory, made->workspace_bytes, &made->workspace, error));
    return pod_plan_create(device, limits, &made->plan) == POD_OK ? CLI_OK : cli_fail_library(error);
}

void planner_free(planner *planner) {
    pod_plan_destroy(planner->plan);
    if (planner->workspace != NULL) device_memory_give(planner->memory, planner->workspace);
}

cli_exit planner_build(planner *planner, const pod_batch *batch, cli_error *error) {
    pod_stream stream = device_memory_stream(planner->memory, STREAM_MAIN);
    pod_status status = pod_plan_build(planner->plan, batch, planner->workspace, planner->workspace_bytes, stream);
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}

cli_exit planner_run(planner *planner, const pod_tensors *tensors, device_stream stream, cli_error *error) {
    pod_status status = pod_attention(planner->plan, tensors, planner->workspace, planner->workspace_bytes,
                                      device_memory_stream(planner->memory, stream));
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}
