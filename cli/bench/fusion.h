/* SPDX-License-Identifier: Apache-2.0 */
/* The micro-benchmark's kernels on a GPU. */
#ifndef CLI_FUSION_H
#define CLI_FUSION_H

#include "bench/fusion_params.h"
#include "run/device_memory.h"

typedef enum fusion_strategy {
    FUSION_COMPUTE,
    FUSION_MEMORY,
    FUSION_SERIAL,
    FUSION_STREAMS,
    FUSION_CTA_PARALLEL,
    FUSION_THREAD,
    FUSION_SM_AWARE,
    FUSION_WARP_SPECIALISED,
    NUM_FUSION_STRATEGIES
} fusion_strategy;

/** As it is called in the file. */
const char *fusion_name(fusion_strategy strategy);

typedef struct fusion {
    device_memory *memory;
    const gpu_driver *driver;
    CUmodule module;
    CUfunction functions[NUM_FUSION_STRATEGIES]; /**< NULL of those that are two launches */
    void *counters;
    fusion_params params;
} fusion;

/** `arrays` has room for three of FUSION_FLOATS. Fill `*made` with zeros before, and close it also on error. */
cli_exit fusion_open(device_memory *memory, void *arrays, fusion *made, cli_error *error);
void fusion_close(fusion *fusion);

/** Runs every way to do both over a spoiled result, and compares it with the host's sums. */
cli_exit fusion_check(fusion *fusion, cli_error *error);

cli_exit fusion_queue(fusion *fusion, fusion_strategy strategy, cli_error *error);

/** The kernels' code; NULL in a build without them. */
extern const void *const fusion_image;

#endif
