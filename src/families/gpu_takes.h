/* SPDX-License-Identifier: Apache-2.0 */
/* What the GPU's families have in common in the limits that they take. */
#ifndef POD_FAMILIES_GPU_TAKES_H
#define POD_FAMILIES_GPU_TAKES_H

#include "families/family.h"

/** Elements of 16 bits, the same type everywhere, and a head_dim that the family's table of tiles has. */
int pod__gpu_takes(const pod_family *family, const pod_limits *limits, char *reason, size_t bytes);

#endif
