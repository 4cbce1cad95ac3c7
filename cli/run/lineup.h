/* SPDX-License-Identifier: Apache-2.0 */
/* The variants of one batch that are compared: engines over the same tensors, and the ways in which they compute. */
#ifndef CLI_LINEUP_H
#define CLI_LINEUP_H

#include "run/engine.h"

enum { LINEUP_MAX_VARIANTS = 16 };

typedef struct lineup_variant {
    engine *engine;
    engine_way way;
    layer layer;
    /* Copies of the cache that take turns, so that it does not stay in a GPU's L2 cache. */
    int32_t num_copies;         /**< 0 or 1: always the same */
    int64_t copy_stride_tokens; /**< from one to the next */
} lineup_variant;

typedef struct lineup {
    device_memory *memory;
    lineup_variant variants[LINEUP_MAX_VARIANTS];
    int32_t num_variants;
    int32_t warmup, repeat;
    int shows_progress;
    double *took_us; /**< [num_variants][repeat] */
} lineup;

/** Whether a device computes a way by itself. On a CPU, which has no streams, serial is the sum of its sides. */
int lineup_is_computed(const device_memory *memory, engine_way way);

/** Times the variants by turns. Whoever has nothing to do takes no time. The caller frees took_us, also on error. */
cli_exit lineup_time(lineup *lineup, cli_error *error);

/** The variant's times, and NULL of one that is not there. */
const double *lineup_times(const lineup *lineup, int32_t variant);

#endif
