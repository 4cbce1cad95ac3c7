/* SPDX-License-Identifier: Apache-2.0 */
/* What a batch asks of the hardware: multiplications that cannot be left out, and KV bytes that must be read. */
#ifndef CLI_WORKLOAD_H
#define CLI_WORKLOAD_H

#include "input/batch_spec.h"

typedef struct workload {
    double flop;     /**< 2 (head_dim + v_head_dim) for each query head, query token and key that it sees */
    double kv_bytes; /**< keys, and values that are not in them, that some query of the request sees, once */
} workload;

workload workload_of(const batch_spec *spec, const pod_limits *limits, const pod_batch *batch);

#endif
