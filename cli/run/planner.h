/* SPDX-License-Identifier: Apache-2.0 */
/* A plan together with the workspace that it lives in, in the device's memory. */
#ifndef CLI_PLANNER_H
#define CLI_PLANNER_H

#include "cli_error.h"
#include "run/device_memory.h"
#include "run/layer.h"

typedef struct planner {
    pod_plan *plan;
    device_memory *memory;
    pod_workspace workspace;
} planner;

/** Takes a workspace for every batch within the limits, both parts its own. Fill `*made` with zeros before, and free it
 * also on error. */
cli_exit planner_make(pod_device *device, device_memory *memory, const pod_limits *limits, planner *made,
                      cli_error *error);
void planner_free(planner *planner);

cli_exit planner_build(planner *planner, const pod_batch *batch, cli_error *error);
/** The layer is in the device's memory. On a GPU the work is only queued. */
cli_exit planner_run(planner *planner, const layer *layer, device_stream stream, cli_error *error);

/** Bytes of a plan's workspace. */
cli_exit planner_bytes(pod_device *device, const pod_limits *limits, size_t *bytes, cli_error *error);

#endif
