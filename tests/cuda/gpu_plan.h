/* SPDX-License-Identifier: Apache-2.0 */
/* A plan that a GPU made, held against the same plan made on the host. */
#ifndef POD_TEST_GPU_PLAN_H
#define POD_TEST_GPU_PLAN_H

#include "gpu_case.h"

/** Copies the workspace of the planned case, not run yet, and compares it with what one lane on the host plans; then
 * what pod_plan_visit() and pod_plan_get_info() say of both. Returns 0 and prints what differs if anything does. */
int gpu_plan_check(const gpu_case *c, const gpu *gpu);

#endif
