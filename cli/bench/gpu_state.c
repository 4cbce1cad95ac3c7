/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu_state.h"

#include <stdio.h>

void gpu_state_open(pod_nvml *nvml, const device_memory *memory) {
    int gpu;
    char pci_bus[32];
    *nvml = (pod_nvml){.library = NULL};
    const gpu_driver *driver = device_memory_driver(memory, &gpu);
    if (driver == NULL || driver->device_get_pci_bus_id(pci_bus, sizeof pci_bus, gpu) != CUDA_SUCCESS) return;
    pod__nvml_open(nvml, pci_bus);
}

void gpu_state_print(const pod_nvml *nvml, char *line, size_t bytes) {
    char driver[80] = "";
    double sm_mhz, watts;
    unsigned memory_mhz = 0, limit_milliwatts = 0, celsius = 0;
    if (nvml->library == NULL) {
        snprintf(line, bytes, "unknown");
        return;
    }
    pod__nvml_sample(nvml, &sm_mhz, &watts);
    nvml->get_driver_version(driver, sizeof driver);
    nvml->get_clock(nvml->gpu, POD_NVML_MEMORY_CLOCK, &memory_mhz);
    nvml->get_power_limit(nvml->gpu, &limit_milliwatts);
    nvml->get_temperature(nvml->gpu, POD_NVML_CHIP_SENSOR, &celsius);
    snprintf(line, bytes, "driver %s, SM clock %.0f MHz, memory clock %u MHz, power %.0f of %.0f W, %u C", driver,
             sm_mhz, memory_mhz, watts, limit_milliwatts * 1e-3, celsius);
}
