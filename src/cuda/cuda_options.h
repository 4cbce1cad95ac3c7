/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind the colon of "cuda:0,fusion=hfuse,...". */
#ifndef POD_CUDA_OPTIONS_H
#define POD_CUDA_OPTIONS_H

#include "podattn.h"

typedef enum pod_cuda_arch { POD_ARCH_ANY = 0, POD_ARCH_sm80, POD_ARCH_sm90 } pod_cuda_arch;
typedef enum pod_cuda_job { POD_JOB_fused = 0, POD_JOB_hfuse } pod_cuda_job;

enum { POD_POLICY_ANY = -1 }; /**< beside those of kernels/params.h */

typedef struct pod_cuda_options {
    int32_t ordinal;
    int32_t arch;        /**< a pod_cuda_arch; POD_ARCH_ANY: the library chooses */
    int32_t fusion;      /**< a pod_cuda_job */
    int32_t ctas_per_sm; /**< 0: the library chooses */
    int32_t policy;      /**< POD_POLICY_; POD_POLICY_ANY: the library chooses */
} pod_cuda_options;

/** POD_E_ARGUMENT, quoting what it does not know. */
pod_status pod__cuda_options_parse(const char *argument, pod_cuda_options *options);

#endif
