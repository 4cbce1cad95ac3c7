/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels that measure a GPU's ceilings are launched with, by value. */
#ifndef POD_CUDA_LIMITS_PARAMS_H
#define POD_CUDA_LIMITS_PARAMS_H

#include <stdint.h>

#define POD_LIMITS_KERNEL "pod_limits"
#define POD_LIMITS_FILL_KERNEL "pod_limits_fill"

enum {
    POD_LIMITS_THREADS = 256,
    POD_LIMITS_CTAS_PER_SM = 2,
    POD_LIMITS_CHUNK_BYTES = 16384,
    POD_LIMITS_MIN_STAGES = 3, /**< chunks on their way to one CTA */
    POD_LIMITS_MAX_STAGES = 8,
    POD_LIMITS_MAX_SMS = 1024
};

typedef enum pod_limits_mode {
    POD_LIMITS_READ = 0, /**< every CTA reads */
    POD_LIMITS_MATH = 1, /**< every CTA multiplies */
    POD_LIMITS_BOTH = 2  /**< the CTAs of an SM take turns */
} pod_limits_mode;

/** Sums over the CTAs of one launch, and the longest time that one of a kind took. */
typedef struct pod_limits_counts {
    unsigned long long read_bytes, flop;
    unsigned long long read_ns, math_ns;
} pod_limits_counts;

typedef struct pod_limits_params {
    const char *data; /**< num_chunks chunks of random bytes */
    uint64_t num_chunks;
    uint64_t duration_ns; /**< that every CTA works */
    int32_t mode;         /**< a pod_limits_mode */
    int32_t num_stages;
    uint32_t *sm_tickets; /**< [POD_LIMITS_MAX_SMS] zeros */
    pod_limits_counts *counts;
} pod_limits_params;

typedef struct pod_limits_fill_params {
    uint32_t *data;
    uint64_t num_words;
} pod_limits_fill_params;

#endif
