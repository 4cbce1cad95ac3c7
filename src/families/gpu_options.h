/* SPDX-License-Identifier: Apache-2.0 */
/* The options in the name of a GPU, or of a sim that plays one: what follows the first comma of "cuda:0,ctas=4". */
#ifndef POD_FAMILIES_GPU_OPTIONS_H
#define POD_FAMILIES_GPU_OPTIONS_H

#include "families/family.h"

enum { POD_POLICY_ANY = -1 }; /**< beside those of schedule.h */

typedef struct pod_gpu_options {
    const pod_family *family; /**< NULL: the library chooses */
    int32_t job;              /**< a pod_job */
    int32_t ctas_per_sm;      /**< 0: the library chooses */
    int32_t policy;           /**< a pod_policy; POD_POLICY_ANY: the library chooses */
} pod_gpu_options;

/** `text` is "" or begins with a comma. POD_E_ARGUMENT, quoting what it does not know, or what this build lacks. */
pod_status pod__gpu_options_parse(const char *text, pod_gpu_options *options);

#endif
