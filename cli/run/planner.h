/* SPDX-License-Identifier: Apache-2.0 */
/* A plan together with the workspace that it lives in, in the device's memory. */
#ifndef CLI_PLANNER_H
#define CLI_PLANNER_H

#include "cli_error.h"
#include "podattn.h"
#include "run/device_memory.h"

typedef struct planner {
    pod_plan *plan;
    device_memory *memory;
    void *workspace;
    size_t workspace_bytes;
} planner;

/** Takes a workspace for every batch within the limits. Fill `*made` with zeros before, and free it also on error. */
cli_exit planner_make(pod_device *device, device_memory *memory, const pod_limits *limits, planner *made,
                      cli_error *error);
void planner_free(planner *planner);

cli_exit planner_build(planner *planner, const pod_batch *batch, cli_error *error);
/** `tensors` lie in the device's memory. On a GPU the work is only queued. */
cli_exit planner_run(planner *planner, const pod_tensors *tensors, device_stream stream, cli_error *error);

#endif
