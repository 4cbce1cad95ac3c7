/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a batch file: a batch that the library plans, or a line that says what is wrong. */
#include "fuzz_error_line.h"
#include "input/batch_arrays.h"
#include "input/batch_json.h"

enum { MAX_REQUESTS = 64, MAX_ARRAY_BYTES = 1 << 18, MAX_WORKSPACE_BYTES = 8 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** The library takes what the parser let pass, unless it is beyond the library's own limits. */
static void plan(const batch_spec *spec) {
    static pod_device *device;
    static char memory[MAX_WORKSPACE_BYTES] __attribute__((aligned(POD_WORKSPACE_ALIGN)));
    pod_limits limits = batch_spec_limits(spec);
    pod_workspace workspace = pod_workspace_init();
    if (device == NULL) FUZZ_CHECK(pod_device_open("sim:cpu", &device) == POD_OK, "%s", pod_error_message());
    if (pod_workspace_size(device, &limits, &workspace) != POD_OK) return;
    if (workspace.plan_bytes + workspace.scratch_bytes > sizeof memory) return;
    workspace.plan = memory;
    workspace.scratch = memory + workspace.plan_bytes;
    if (spec->num_requests > MAX_REQUESTS || batch_arrays_bytes(spec, &limits) > MAX_ARRAY_BYTES) return;
    batch_arrays arrays = {0};
    cli_error error = {""};
    pod_plan *plan = NULL;
    FUZZ_CHECK(batch_arrays_make(spec, &limits, PAGES_SCATTERED, &arrays, &error) == CLI_OK, "%s", error.line);
    FUZZ_CHECK(pod_plan_create(device, &limits, &plan) == POD_OK, "%s", pod_error_message());
    FUZZ_CHECK(pod_plan_attach(plan, &workspace) == POD_OK, "%s", pod_error_message());
    FUZZ_CHECK(pod_plan_build(plan, &arrays.batch, NULL) == POD_OK, "%s", pod_error_message());
    pod_plan_destroy(plan);
    batch_arrays_free(&arrays);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    batch_spec spec = batch_spec_default();
    cli_error error = {""};
    cli_exit code = batch_json_parse((const char *)data, size, "batch", &spec, &error);
    if (code != CLI_OK) {
        fuzz_check_refusal(code, &error, "batch");
    } else if (batch_spec_check(&spec, &error) == CLI_OK) {
        plan(&spec);
    } else {
        fuzz_check_refusal(CLI_BAD_INPUT, &error, "");
    }
    batch_spec_free(&spec);
    return 0;
}
