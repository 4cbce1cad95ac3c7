/* SPDX-License-Identifier: Apache-2.0 */
/* Merging on a GPU compared with merging on the CPU. */
#ifndef POD_TEST_GPU_MERGE_H
#define POD_TEST_GPU_MERGE_H

#include "gpu.h"
#include "podattn.h"
#include "rng.h"

/** Merges random parts with random dtypes on both. Returns 0 and prints what differs if anything does. */
int gpu_merge_check(const gpu *gpu, pod_device *device, test_rng *rng);

#endif
