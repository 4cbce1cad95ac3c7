/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels that measure a GPU's ceilings are launched with, by value. */
#ifndef POD_CUDA_PEAK_PARAMS_H
#define POD_CUDA_PEAK_PARAMS_H

#include <stdint.h>

#define POD_PEAK_KERNEL "pod_peak"
#define POD_PEAK_FILL_KERNEL "pod_peak_fill"

enum {
    POD_PEAK_THREADS = 256,
    POD_PEAK_CTAS_PER_SM = 2,
    POD_PEAK_CHUNK_BYTES = 16384,
    POD_PEAK_MIN_STAGES = 3, /**< chunks on their way to one CTA */
    POD_PEAK_MAX_STAGES = 8,
    POD_PEAK_MAX_SMS = 1024
};

typedef enum pod_peak_mode {
    POD_PEAK_READ = 0, /**< every CTA reads */
    POD_PEAK_MATH = 1, /**< every CTA multiplies */
    POD_PEAK_BOTH = 2  /**< the CTAs of an SM take turns */
} pod_peak_mode;

/** Sums over the CTAs of one launch, and the longest time that one of a kind took. */
typedef struct pod_peak_counts {
    unsigned long long read_bytes, flop;
    unsigned long long read_ns, math_ns;
} pod_peak_counts;

typedef struct pod_peak_params {
    const char *data; /**< num_chunks chunks of random bytes */
    uint64_t num_chunks;
    uint64_t duration_ns; /**< that every CTA works */
    int32_t mode;         /**< a pod_peak_mode */
    int32_t num_stages;
    uint32_t *sm_tickets; /**< [POD_PEAK_MAX_SMS] zeros */
    pod_peak_counts *counts;
} pod_peak_params;

typedef struct pod_peak_fill_params {
    uint32_t *data;
    uint64_t num_words;
} pod_peak_fill_params;

#endif
