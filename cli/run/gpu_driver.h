/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU's driver, as this program loads it and names its errors: no header of CUDA's is needed to build it. */
#ifndef CLI_GPU_DRIVER_H
#define CLI_GPU_DRIVER_H

#include "base/driver_functions.h"
#include "cli_error.h"

typedef pod_driver_functions gpu_driver;

cli_exit gpu_driver_load(gpu_driver *driver, cli_error *error);

/** Fails with a line that says what was being done and what the driver calls the error. */
cli_exit gpu_driver_check(const gpu_driver *driver, CUresult result, const char *doing, cli_error *error);

/** Calls a function of the driver and hands its failure on to the caller. */
#define GPU_TRY(driver, call, doing) CLI_TRY(gpu_driver_check(driver, (driver)->call, doing, error))

#endif
