/* SPDX-License-Identifier: Apache-2.0 */
#include "run/compute_device.h"

static cli_exit open_memory(const char *name, compute_device *opened, cli_error *error) {
    opened->info = pod_device_info_init();
    if (pod_device_get_info(opened->device, &opened->info) != POD_OK) return cli_fail_library(error);
    if (strcmp(opened->info.backend, "sim") == 0) {
        return cli_fail(error, "--device %.64s plans only; podattn plan looks at its schedules", name);
    }
    return device_memory_open(name, &opened->info, &opened->memory, error);
}

cli_exit compute_device_open(const char *name, compute_device *opened, cli_error *error) {
    *opened = (compute_device){.device = NULL};
    if (pod_device_open(name, &opened->device) != POD_OK) return cli_fail(error, "--device: %s", pod_error_message());
    cli_exit code = open_memory(name, opened, error);
    if (code != CLI_OK) compute_device_close(opened);
    return code;
}

void compute_device_close(compute_device *device) {
    device_memory_close(device->memory);
    pod_device_close(device->device);
    *device = (compute_device){.device = NULL};
}
