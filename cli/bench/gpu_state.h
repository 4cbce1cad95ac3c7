/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU's driver, clocks, power and temperature, from NVIDIA's management library if it is there. */
#ifndef CLI_GPU_STATE_H
#define CLI_GPU_STATE_H

#include "base/nvml.h"
#include "run/device_memory.h"

/** Of the GPU whose memory this is. On a CPU, and where the library is missing, nothing is known. */
void gpu_state_open(pod_nvml *nvml, const device_memory *memory);

/** One line on the GPU at this moment, "unknown" where nothing says. */
void gpu_state_print(const pod_nvml *nvml, char *line, size_t bytes);

#endif
