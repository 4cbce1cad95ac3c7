/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/nvml.h"

#include <dlfcn.h>
#include <string.h>

enum { NVML_DONE = 0, NVML_CLOCK_OF_SMS = 1 };

static int find_symbol(void *library, const char *symbol, void *function) {
    void *address = dlsym(library, symbol);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

static int find_functions(pod_nvml *nvml, int (**init)(void), int (**get_handle)(const char *, void **)) {
    return find_symbol(nvml->library, "nvmlInit_v2", (void *)init) &&
           find_symbol(nvml->library, "nvmlDeviceGetHandleByPciBusId_v2", (void *)get_handle) &&
           find_symbol(nvml->library, "nvmlShutdown", (void *)&nvml->shutdown) &&
           find_symbol(nvml->library, "nvmlDeviceGetClockInfo", (void *)&nvml->get_clock) &&
           find_symbol(nvml->library, "nvmlDeviceGetPowerUsage", (void *)&nvml->get_power);
}

static void unload(pod_nvml *nvml) {
    dlclose(nvml->library);
    nvml->library = NULL;
}

void pod__nvml_open(pod_nvml *nvml, const char *pci_bus) {
    int (*init)(void), (*get_handle)(const char *pci_bus, void **gpu);
    memset(nvml, 0, sizeof *nvml);
    nvml->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (nvml->library == NULL) return;
    if (!find_functions(nvml, &init, &get_handle) || init() != NVML_DONE) {
        unload(nvml);
    } else if (get_handle(pci_bus, &nvml->gpu) != NVML_DONE) {
        pod__nvml_close(nvml);
    }
}

void pod__nvml_close(pod_nvml *nvml) {
    if (nvml->library == NULL) return;
    nvml->shutdown();
    unload(nvml);
}

void pod__nvml_sample(const pod_nvml *nvml, double *clock_mhz, double *power_watts) {
    unsigned mhz = 0, milliwatts = 0;
    *clock_mhz = *power_watts = 0;
    if (nvml->library == NULL) return;
    if (nvml->get_clock(nvml->gpu, NVML_CLOCK_OF_SMS, &mhz) == NVML_DONE) *clock_mhz = mhz;
    if (nvml->get_power(nvml->gpu, &milliwatts) == NVML_DONE) *power_watts = milliwatts * 1e-3;
}
