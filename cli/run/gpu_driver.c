/* SPDX-License-Identifier: Apache-2.0 */
#include "run/gpu_driver.h"

#include <dlfcn.h>

/* POSIX makes a function of dlsym's object pointer valid; ISO C has only this way to write it. */
int gpu_driver_find(void *library, const char *symbol, void *function) {
    void *address = dlsym(library, symbol);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

cli_exit gpu_driver_load(gpu_driver *driver, cli_error *error) {
    driver->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (driver->library == NULL) return cli_fail(error, "GPU: libcuda.so.1 cannot be loaded");
    int has_all = 1;
#define FIND_(name, symbol, arguments) has_all &= gpu_driver_find(driver->library, symbol, (void *)&driver->name);
    GPU_FUNCTIONS(FIND_)
#undef FIND_
    return has_all ? CLI_OK : cli_fail(error, "GPU: the driver is too old");
}

void gpu_driver_unload(gpu_driver *driver) {
    if (driver->library != NULL) dlclose(driver->library);
    driver->library = NULL;
}

cli_exit gpu_driver_check(const gpu_driver *driver, gpu_result result, const char *doing, cli_error *error) {
    if (result == GPU_SUCCESS) return CLI_OK;
    const char *name = NULL;
    driver->get_error_name(result, &name);
    return cli_fail(error, "GPU: %s: %s", doing, name != NULL ? name : "unknown error");
}
