/* SPDX-License-Identifier: Apache-2.0 */
/* Random tensors for one layer: queries, a KV cache, outputs. */
#ifndef CLI_TENSOR_SET_H
#define CLI_TENSOR_SET_H

#include "batch_spec.h"

typedef struct tensor_set {
    pod_tensors tensors; /**< points to the arrays below; all packed */
    void *q, *k, *v, *out;
    float *lse, *sinks;
    size_t out_bytes, lse_bytes;
} tensor_set;

/** Bytes that tensor_set_make() takes. */
double tensor_set_bytes(const pod_limits *limits, int64_t num_pages);

/** Queries for limits->max_q_tokens and a cache of `num_pages`, standard normal from the spec's seed. Free it also on
 * error. */
cli_exit tensor_set_make(const batch_spec *spec, const pod_limits *limits, int64_t num_pages, tensor_set *set,
                         cli_error *error);
void tensor_set_free(tensor_set *set);

/** Fills outputs and LSE with NaN, so that nothing that was left there can pass for a result. */
void tensor_set_poison(tensor_set *set);

#endif
