/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed batches at the edges of what kernels do, each small enough for an emulator. */
#ifndef POD_TEST_CHOSEN_CASE_H
#define POD_TEST_CHOSEN_CASE_H

#include "gpu_case.h"

int32_t chosen_case_count(void);
const char *chosen_case_name(int32_t index);

/** Makes case `index`. Returns what each request's outputs have to be, to be freed; NULL if there is no memory. */
gpu_expect *chosen_case_make(gpu_case *c, int32_t index);

#endif
