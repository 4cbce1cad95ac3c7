/* SPDX-License-Identifier: Apache-2.0 */
#ifndef POD_ORACLE_APPEND_H
#define POD_ORACLE_APPEND_H

#include "podattn.h"

/** One pod_reference_append(): validated, defaults filled in. */
typedef struct pod_oracle_append_job {
    pod_limits limits;
    const pod_batch *batch; /**< NULL: nothing depends on it */
    pod_append append;
    pod_rope rope;
    pod_cache cache;
    int32_t num_pages;
    int64_t *slots;    /**< [num_tokens] */
    double *k, *v, *q; /**< [num_tokens, heads, dim] */
} pod_oracle_append_job;

void pod__oracle_append(const pod_oracle_append_job *job);

#endif
