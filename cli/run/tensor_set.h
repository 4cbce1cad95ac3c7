/* SPDX-License-Identifier: Apache-2.0 */
/* Random tensors for one layer: queries, a KV cache, outputs. Made on the host, and placed on the device. */
#ifndef CLI_TENSOR_SET_H
#define CLI_TENSOR_SET_H

#include "input/batch_spec.h"
#include "run/device_memory.h"
#include "run/layer.h"

enum { NUM_TENSORS = 9 }; /**< q, k, v, out, lse, sinks, the scales of an e4m3 cache, ALiBi's slopes, a tree's words */

typedef struct tensor_set {
    layer host;   /**< what the oracle and the check read; all packed */
    layer placed; /**< the same in the device's memory, for the library */
    device_memory *memory;
    device_array arrays[NUM_TENSORS];
} tensor_set;

/** Bytes that tensor_set_make() takes on the host. */
double tensor_set_bytes(const batch_spec *spec, const pod_limits *limits, int64_t num_pages);

/** Queries for limits->max_q_tokens and a cache of `num_pages`, standard normal from the spec's seed, the same numbers
 * rounded to any dtype; those of an e4m3 cache after a division by scales. Free it also on error. */
cli_exit tensor_set_make(const batch_spec *spec, const pod_limits *limits, int64_t num_pages, device_memory *memory,
                         tensor_set *set, cli_error *error);
void tensor_set_free(tensor_set *set);

/** Fills outputs and LSE with NaN, so that nothing that was left there can pass for a result. */
cli_exit tensor_set_poison(tensor_set *set, cli_error *error);

/** Brings outputs and LSE back to the host. */
cli_exit tensor_set_fetch(tensor_set *set, cli_error *error);

#endif
