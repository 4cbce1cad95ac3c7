/* SPDX-License-Identifier: Apache-2.0 */
/* Appending on a GPU compared with the oracle. */
#ifndef POD_TEST_GPU_APPEND_H
#define POD_TEST_GPU_APPEND_H

#include "gpu.h"
#include "podattn.h"
#include "rng.h"

/** Appends a random batch, some of them captured in a graph before anything of the batch is in memory, some with a
 * request or a token that is wrong. Returns 0 and prints what differs if anything does. */
int gpu_append_check(const gpu *gpu, pod_device *device, test_rng *rng);

#endif
