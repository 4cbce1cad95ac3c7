/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the devices that compute on host memory, which is where the commands keep their tensors. */
#ifndef CLI_HOST_DEVICE_H
#define CLI_HOST_DEVICE_H

#include "cli_error.h"
#include "podattn.h"

/** On error nothing is open. */
cli_exit host_device_open(const char *name, pod_device **device, pod_device_info *info, cli_error *error);

#endif
