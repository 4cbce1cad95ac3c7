/* SPDX-License-Identifier: Apache-2.0 */
#include "run/planner.h"

#include <stdio.h>
#include <string.h>

/** The library speaks of limits, which no option is called. */
static cli_exit fail_limits(cli_error *error) {
    static const char *const meanings[][2] = {{"max_requests", "requests of a step"},
                                              {"max_q_tokens", "new tokens of all requests of a step"},
                                              {"max_kv_len", "context tokens of the longest request"}};
    const char *message = pod_error_message(), *separator = " (";
    char notes[256] = "";
    size_t used = 0;
    for (int i = 0; i < 3; i++) {
        if (strstr(message, meanings[i][0]) == NULL) continue;
        used +=
            (size_t)snprintf(notes + used, sizeof notes - used, "%s%s: %s", separator, meanings[i][0], meanings[i][1]);
        separator = "; ";
    }
    return cli_fail(error, "%s%s%s", message, notes, used > 0 ? ")" : "");
}

cli_exit planner_bytes(pod_device *device, const pod_limits *limits, size_t *bytes, cli_error *error) {
    pod_workspace sizes = pod_workspace_init();
    if (pod_workspace_size(device, limits, &sizes) != POD_OK) return fail_limits(error);
    *bytes = sizes.plan_bytes + sizes.scratch_bytes;
    return CLI_OK;
}

cli_exit planner_make(pod_device *device, device_memory *memory, const pod_limits *limits, planner *made,
                      cli_error *error) {
    pod_workspace *workspace = &made->workspace;
    *workspace = pod_workspace_init();
    if (pod_workspace_size(device, limits, workspace) != POD_OK) return fail_limits(error);
    made->memory = memory;
    CLI_TRY(device_memory_take(memory, workspace->plan_bytes, &workspace->plan, error));
    CLI_TRY(device_memory_take(memory, workspace->scratch_bytes, &workspace->scratch, error));
    if (pod_plan_create(device, limits, &made->plan) != POD_OK) return cli_fail_library(error);
    return pod_plan_attach(made->plan, workspace) == POD_OK ? CLI_OK : cli_fail_library(error);
}

void planner_free(planner *planner) {
    pod_plan_destroy(planner->plan);
    if (planner->workspace.plan != NULL) device_memory_give(planner->memory, planner->workspace.plan);
    if (planner->workspace.scratch != NULL) device_memory_give(planner->memory, planner->workspace.scratch);
}

cli_exit planner_build(planner *planner, const pod_batch *batch, cli_error *error) {
    pod_status status = pod_plan_build(planner->plan, batch, device_memory_stream(planner->memory, STREAM_MAIN));
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}

cli_exit planner_run(planner *planner, const layer *layer, device_stream stream, cli_error *error) {
    pod_status status =
        pod_attention(planner->plan, &layer->tensors, &layer->cache, device_memory_stream(planner->memory, stream));
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}
