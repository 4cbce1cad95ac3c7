/* SPDX-License-Identifier: Apache-2.0 */
#include "host_device.h"

static cli_exit check_device(const char *name, pod_device *device, pod_device_info *info, cli_error *error) {
    *info = pod_device_info_init();
    if (pod_device_get_info(device, info) != POD_OK) return cli_fail_library(error);
    if (strcmp(info->backend, "cpu") == 0) return CLI_OK;
    if (strcmp(info->backend, "sim") == 0) {
        return cli_fail(error, "--device %.64s plans only; podattn plan looks at its schedules", name);
    }
    return cli_fail(error, "--device %.64s has memory of its own, which this command cannot use yet", name);
}

cli_exit host_device_open(const char *name, pod_device **device, pod_device_info *info, cli_error *error) {
    if (pod_device_open(name, device) != POD_OK) return cli_fail(error, "--device: %s", pod_error_message());
    cli_exit code = check_device(name, *device, info, error);
    if (code != CLI_OK) pod_device_close(*device);
    return code;
}
