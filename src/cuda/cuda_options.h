/* SPDX-License-Identifier: Apache-2.0 */
/* What follows the colon of "cuda:0,ctas=4": the number of a GPU, and options. */
#ifndef POD_CUDA_OPTIONS_H
#define POD_CUDA_OPTIONS_H

#include "families/gpu_options.h"

/** POD_E_ARGUMENT, quoting what it does not know. */
pod_status pod__cuda_options_parse(const char *argument, int32_t *ordinal, pod_gpu_options *options);

#endif
