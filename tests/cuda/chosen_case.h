/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed batches at the edges of what kernels do, each small enough for an emulator. */
#ifndef POD_TEST_CHOSEN_CASE_H
#define POD_TEST_CHOSEN_CASE_H

#include "gpu_case.h"

int32_t chosen_case_count(void);
const char *chosen_case_name(int32_t index);

/** Whether a kernel promises case `index`: the sm90 kernels do not promise that a value that is not finite reaches only
 * those that see it, the sm80 kernels nothing for scores beyond 2^27. */
int chosen_case_is_for(int32_t index, const char *kernel);

/** Makes case `index`. Returns what each request's outputs have to be, to be freed; NULL if there is no memory. */
gpu_expect *chosen_case_make(gpu_case *c, int32_t index);

#endif
