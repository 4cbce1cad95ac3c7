/* SPDX-License-Identifier: Apache-2.0 */
/* Two GPUs in one process. Each check returns 0 and prints what is wrong if anything is; which context is current
 * afterwards is not defined. */
#ifndef POD_TEST_GPU_PAIR_H
#define POD_TEST_GPU_PAIR_H

#include "gpu_case.h"

/** Every pointer of every call is refused by its name if it is memory of the other GPU. */
int gpu_pair_refuses(const gpu gpus[2], pod_device *const devices[2]);

/** No call changes the thread's stack of contexts, whichever is current. */
int gpu_pair_keeps_contexts(const gpu gpus[2], pod_device *const devices[2]);

/** Two threads compute at the same time: each on its GPU, then each on both in turn. */
int gpu_pair_computes_at_once(const gpu gpus[2], pod_device *const devices[2], test_rng *rng, pod_errors *errors);

#endif
