/* SPDX-License-Identifier: Apache-2.0 */
/* Stands for the micro-benchmark's kernels in a build without nvcc. */
#include "bench/fusion.h"

const void *const fusion_image = NULL;
