/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the device that all batches of a suite share: random bf16 numbers as keys, values and queries, and a place
 * for outputs. Taken once for the largest. A cache of another dtype reads their bits as others, which are finite. */
#ifndef CLI_ARENA_H
#define CLI_ARENA_H

#include "input/batch_spec.h"
#include "run/device_memory.h"
#include "run/layer.h"

typedef struct arena {
    device_memory *memory;
    char *random; /**< keys, then values; queries are read from its beginning */
    size_t random_bytes;
    void *out;
    size_t out_bytes;
    void *scale; /**< a float: of keys and values that are read as e4m3 */
} arena;

/** Bytes that a batch needs. */
typedef struct arena_need {
    double side_bytes; /**< keys, or as much again of values, all copies included */
    double q_bytes;    /**< queries, or as much again of outputs */
} arena_need;

arena_need arena_larger(arena_need a, arena_need b);

/** Whether the device has room for it, beside what plans take; if not, says so in the error. */
cli_exit arena_check(const arena *arena, arena_need need, cli_error *error);

/** Takes memory for this and everything smaller. What was there before is given back. */
cli_exit arena_reserve(arena *arena, arena_need need, cli_error *error);

/** Places q, k, v and out, and scales of an e4m3 cache; no LSE. Without a v where values are in the keys. */
layer arena_layer(const arena *arena, const batch_spec *spec);

void arena_free(arena *arena);

#endif
