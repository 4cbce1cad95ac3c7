/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the devices that compute, with their memory. */
#ifndef CLI_COMPUTE_DEVICE_H
#define CLI_COMPUTE_DEVICE_H

#include "cli_error.h"
#include "podattn.h"
#include "run/device_memory.h"

typedef struct compute_device {
    pod_device *device;
    pod_device_info info;
    device_memory *memory;
} compute_device;

/** On error nothing is open. */
cli_exit compute_device_open(const char *name, compute_device *opened, cli_error *error);
/** One that was filled with zeros and never opened is allowed. */
void compute_device_close(compute_device *device);

#endif
