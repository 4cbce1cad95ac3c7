/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU's driver, clocks, power and temperature, from NVIDIA's management library if it is there. */
#ifndef CLI_GPU_STATE_H
#define CLI_GPU_STATE_H

#include "run/device_memory.h"

typedef struct gpu_state {
    void *library; /**< NULL: nothing is known */
    void *gpu;
    char driver[80];
    int (*shutdown)(void);
    int (*get_clock)(void *gpu, int kind, unsigned *mhz);
    int (*get_power)(void *gpu, unsigned *milliwatts);
    int (*get_power_limit)(void *gpu, unsigned *milliwatts);
    int (*get_temperature)(void *gpu, int sensor, unsigned *celsius);
} gpu_state;

/** Of the GPU whose memory this is. On a CPU, and where the library is missing, nothing is known. */
void gpu_state_open(gpu_state *state, const device_memory *memory);
void gpu_state_close(gpu_state *state);

/** One line on the GPU at this moment, "unknown" where nothing says. */
void gpu_state_print(const gpu_state *state, char *line, size_t bytes);

#endif
