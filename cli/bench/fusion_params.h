/* SPDX-License-Identifier: Apache-2.0 */
/* What the host tells fusion_kernel.cu. */
#ifndef CLI_FUSION_PARAMS_H
#define CLI_FUSION_PARAMS_H

enum {
    FUSION_GROUP_THREADS = 128, /* an item's */
    FUSION_THREADS = 2 * FUSION_GROUP_THREADS,
    FUSION_STEPS = 16,   /* vectors of four floats that a thread adds per item */
    FUSION_ITEMS = 4096, /* of each kind: 3 * 128 MiB of memory */
    FUSION_MAX_SMS = 1024,
    FUSION_SHARED_BYTES = 77824, /* so that two CTAs fit an SM, as two of attention's do, and no third */
    FUSION_FLOATS = FUSION_ITEMS * FUSION_GROUP_THREADS * FUSION_STEPS * 4
};

/* Zeros before the first launch; each launch leaves zeros. */
typedef struct fusion_counters {
    unsigned next[2]; /* CTA's worth of items of each kind that have been taken */
    unsigned finished;
    unsigned tickets[FUSION_MAX_SMS];
} fusion_counters;

typedef struct fusion_params {
    const float *a, *b;
    float *c;
    fusion_counters *counters;
    int iterations; /* multiplications of a chain, per vector that the other side adds */
} fusion_params;

#endif
