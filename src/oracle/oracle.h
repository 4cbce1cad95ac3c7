/* SPDX-License-Identifier: Apache-2.0 */
#ifndef POD_ORACLE_H
#define POD_ORACLE_H

#include "podattn.h"

/** One pod_reference_attention(): validated, defaults filled in. */
typedef struct pod_oracle_job {
    pod_limits limits;
    pod_batch batch;
    pod_mask mask;
    pod_tensors tensors;
    pod_cache cache;
    double *out; /**< [total_q, q_heads, head_dim] */
    double *lse; /**< NULL, or [total_q, q_heads] */
} pod_oracle_job;

/** Computes one request, or all of them if `request` is -1. POD_E_NO_MEMORY; then nothing was written. */
pod_status pod__oracle(const pod_oracle_job *given, int32_t request);

#endif
