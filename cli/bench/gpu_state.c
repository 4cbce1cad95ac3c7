/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu_state.h"

#include <dlfcn.h>
#include <stdio.h>

enum { NVML_DONE = 0, NVML_SM_CLOCK = 1, NVML_MEMORY_CLOCK = 2, NVML_CHIP_SENSOR = 0 };

static int find_functions(gpu_state *state) {
    return gpu_driver_find(state->library, "nvmlShutdown", (void *)&state->shutdown) &&
           gpu_driver_find(state->library, "nvmlDeviceGetClockInfo", (void *)&state->get_clock) &&
           gpu_driver_find(state->library, "nvmlDeviceGetPowerUsage", (void *)&state->get_power) &&
           gpu_driver_find(state->library, "nvmlDeviceGetEnforcedPowerLimit", (void *)&state->get_power_limit) &&
           gpu_driver_find(state->library, "nvmlDeviceGetTemperature", (void *)&state->get_temperature);
}

static int start(gpu_state *state, const char *pci_bus) {
    int (*init)(void), (*get_handle)(const char *, void **), (*get_driver)(char *, unsigned);
    if (!find_functions(state) || !gpu_driver_find(state->library, "nvmlInit_v2", (void *)&init) ||
        !gpu_driver_find(state->library, "nvmlDeviceGetHandleByPciBusId_v2", (void *)&get_handle) ||
        !gpu_driver_find(state->library, "nvmlSystemGetDriverVersion", (void *)&get_driver))
        return 0;
    if (init() != NVML_DONE) return 0;
    if (get_handle(pci_bus, &state->gpu) == NVML_DONE && get_driver(state->driver, sizeof state->driver) == NVML_DONE)
        return 1;
    state->shutdown();
    return 0;
}

void gpu_state_open(gpu_state *state, const device_memory *memory) {
    int gpu;
    char pci_bus[32];
    *state = (gpu_state){.library = NULL};
    const gpu_driver *driver = device_memory_driver(memory, &gpu);
    if (driver == NULL || driver->device_get_pci_bus_id(pci_bus, sizeof pci_bus, gpu) != GPU_SUCCESS) return;
    state->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (state->library == NULL || start(state, pci_bus)) return;
    dlclose(state->library);
    state->library = NULL;
}

void gpu_state_close(gpu_state *state) {
    if (state->library == NULL) return;
    state->shutdown();
    dlclose(state->library);
    state->library = NULL;
}

void gpu_state_print(const gpu_state *state, char *line, size_t bytes) {
    unsigned sm_mhz = 0, memory_mhz = 0, milliwatts = 0, limit_milliwatts = 0, celsius = 0;
    if (state->library == NULL) {
        snprintf(line, bytes, "unknown");
        return;
    }
    state->get_clock(state->gpu, NVML_SM_CLOCK, &sm_mhz);
    state->get_clock(state->gpu, NVML_MEMORY_CLOCK, &memory_mhz);
    state->get_power(state->gpu, &milliwatts);
    state->get_power_limit(state->gpu, &limit_milliwatts);
    state->get_temperature(state->gpu, NVML_CHIP_SENSOR, &celsius);
    snprintf(line, bytes, "driver %s, SM clock %u MHz, memory clock %u MHz, power %.0f of %.0f W, %u C", state->driver,
             sm_mhz, memory_mhz, milliwatts * 1e-3, limit_milliwatts * 1e-3, celsius);
}
