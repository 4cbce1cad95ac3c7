/* SPDX-License-Identifier: Apache-2.0 */
#include "run/gpu_driver.h"

cli_exit gpu_driver_load(gpu_driver *driver, cli_error *error) {
    const char *missing = pod__driver_functions_load(driver);
    if (driver->library == NULL) return cli_fail(error, "GPU: %s cannot be loaded", missing);
    return missing == NULL ? CLI_OK : cli_fail(error, "GPU: the driver is too old: it has no %s", missing);
}

cli_exit gpu_driver_check(const gpu_driver *driver, CUresult result, const char *doing, cli_error *error) {
    if (result == CUDA_SUCCESS) return CLI_OK;
    const char *name = NULL;
    driver->get_error_name(result, &name);
    return cli_fail(error, "GPU: %s: %s", doing, name != NULL ? name : "unknown error");
}
