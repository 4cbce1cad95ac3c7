/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU's clocks, power and temperature from NVIDIA's management library, loaded at run time. Without it nothing is
 * known. */
#ifndef POD_BASE_NVML_H
#define POD_BASE_NVML_H

#include "base/dynlib.h"

enum { POD_NVML_DONE = 0, POD_NVML_SM_CLOCK = 1, POD_NVML_MEMORY_CLOCK = 2, POD_NVML_CHIP_SENSOR = 0 };

#define POD_NVML_FUNCTIONS(X)                                                                                          \
    X(init, "nvmlInit_v2", (void))                                                                                     \
    X(shutdown, "nvmlShutdown", (void))                                                                                \
    X(get_handle, "nvmlDeviceGetHandleByPciBusId_v2", (const char *pci_bus, void **gpu))                               \
    X(get_driver_version, "nvmlSystemGetDriverVersion", (char *version, unsigned bytes))                               \
    X(get_clock, "nvmlDeviceGetClockInfo", (void *gpu, int kind, unsigned *mhz))                                       \
    X(get_power, "nvmlDeviceGetPowerUsage", (void *gpu, unsigned *milliwatts))                                         \
    X(get_power_limit, "nvmlDeviceGetEnforcedPowerLimit", (void *gpu, unsigned *milliwatts))                           \
    X(get_temperature, "nvmlDeviceGetTemperature", (void *gpu, int sensor, unsigned *celsius))

typedef struct pod_nvml {
    void *library; /**< NULL: nothing is known, and nothing below may be called */
    void *gpu;
#define POD_NVML_MEMBER_(name, symbol, arguments) int(*name) arguments;
    POD_NVML_FUNCTIONS(POD_NVML_MEMBER_)
#undef POD_NVML_MEMBER_
} pod_nvml;

static inline void pod__nvml_close(pod_nvml *nvml) {
    if (nvml->library == NULL) return;
    nvml->shutdown();
    dlclose(nvml->library);
    nvml->library = NULL;
}

static inline int pod__nvml_find_functions(pod_nvml *nvml) {
    int has_all = 1;
#define POD_NVML_FIND_(name, symbol, arguments) has_all &= pod__find_symbol(nvml->library, symbol, (void *)&nvml->name);
    POD_NVML_FUNCTIONS(POD_NVML_FIND_)
#undef POD_NVML_FIND_
    return has_all;
}

/** Finds the GPU by its PCI bus, as in "0000:1b:00.0". */
static inline void pod__nvml_open(pod_nvml *nvml, const char *pci_bus) {
    memset(nvml, 0, sizeof *nvml);
    nvml->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (nvml->library == NULL) return;
    if (!pod__nvml_find_functions(nvml) || nvml->init() != POD_NVML_DONE) {
        dlclose(nvml->library);
        nvml->library = NULL;
    } else if (nvml->get_handle(pci_bus, &nvml->gpu) != POD_NVML_DONE) {
        pod__nvml_close(nvml);
    }
}

/** The SMs' clock and the board's power at this moment; 0 where unknown. */
static inline void pod__nvml_sample(const pod_nvml *nvml, double *clock_mhz, double *power_watts) {
    unsigned mhz = 0, milliwatts = 0;
    *clock_mhz = *power_watts = 0;
    if (nvml->library == NULL) return;
    if (nvml->get_clock(nvml->gpu, POD_NVML_SM_CLOCK, &mhz) == POD_NVML_DONE) *clock_mhz = mhz;
    if (nvml->get_power(nvml->gpu, &milliwatts) == POD_NVML_DONE) *power_watts = milliwatts * 1e-3;
}

#endif
