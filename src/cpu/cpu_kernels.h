/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels, once per instruction set, and the choice among them when a device is opened. */
#ifndef POD_CPU_KERNELS_H
#define POD_CPU_KERNELS_H

#include "base/pool.h"
#include "cpu/cpu_job.h"

enum { CPU_MAX_THREADS = 1024, CPU_MAX_SETS = 4 };

/** Cosine and sine of a token's pairs. */
typedef struct cpu_rotation {
    pod_rope_style style;
    int32_t num_pairs;
    float cos[POD_ROPE_MAX_PAIRS], sin[POD_ROPE_MAX_PAIRS];
} cpu_rotation;

/** A token's row of one head, on its way into the cache or into q_out. */
typedef struct cpu_append_row {
    const void *from;
    void *to;
    pod_dtype from_dtype, to_dtype;
    int32_t dim;
    const cpu_rotation *rotation; /**< NULL: none */
    float scale;                  /**< that the cache's elements are multiplied by when they are read */
} cpu_append_row;

typedef struct cpu_kernels {
    const char *name; /**< "avx512-bf16", "avx512", "avx2" or "generic" */
    /** The item's partial into scratch->out, max and sum. */
    void (*prefill)(const cpu_job *job, const cpu_item *item, cpu_scratch *scratch);
    void (*decode)(const cpu_job *job, const cpu_item *item, cpu_scratch *scratch);
    /** Sinks, division, conversion: the finished rows from scratch into the caller's out and lse. */
    void (*finish)(const cpu_job *job, const cpu_item *item, cpu_scratch *scratch);
    /** Moves, rotates and converts a row; `from` may be `to`. */
    void (*append_row)(const cpu_append_row *row);
    /** Of a token at a position. */
    void (*rotation)(const pod_rope_turns *turns, int64_t position, cpu_rotation *rotation);
    /** Multiplies and adds without pause; returns the operations. `*result` is where they should end, and where they
     * did. */
    double (*peak_multiply)(int64_t rounds, float *result);
    /** The largest of non-negative numbers; a rest of less than a round is left out. */
    float (*peak_read)(const float *data, int64_t count);
} cpu_kernels;

extern const cpu_kernels pod__cpu_kernels_generic;
#ifdef __x86_64__
extern const cpu_kernels pod__cpu_kernels_avx2;
extern const cpu_kernels pod__cpu_kernels_avx512;
extern const cpu_kernels pod__cpu_kernels_avx512_bf16;
#endif

/** The open device: its kernels, and the threads that run them, the caller's being one. */
typedef struct cpu_device {
    pod_device base;
    const cpu_kernels *kernels;
    pod_pool *pool; /**< whose scratch is a cpu_scratch */
    int32_t num_threads;
} cpu_device;

/** Of up to CPU_MAX_SETS sets, NULL for those that the processor lacks, the first of those that are as fast as the
 * fastest, by a trial. Plain C only if there is nothing else. */
const cpu_kernels *pod__cpu_fastest_of(const cpu_kernels *const sets[], int32_t count);

/** The fastest kernels that this processor runs, by a trial: the same throughout the process. */
const cpu_kernels *pod__cpu_fastest_kernels(void);

/** The fastest kernels that this processor runs if `name` is "", else those of that name. POD_E_ARGUMENT (no such
 * name), POD_E_NO_DEVICE (the processor lacks them). */
pod_status pod__cpu_kernels_find(const char *name, const cpu_kernels **kernels);

/** The `index`-th set of kernels, that of the most special instructions first; NULL if this processor lacks it. Returns
 * 0 after the last. */
int pod__cpu_kernels_at(int32_t index, const cpu_kernels **kernels);

/** Reading and multiplying; takes 1 GiB meanwhile. */
pod_status pod__cpu_measure_peak(const cpu_device *cpu, pod_device_peak *peak);

/** Executes the plan. */
pod_status pod__cpu_attention(const cpu_device *cpu, const pod_call *call);

/** Appends to a cache. Tokens that have no place are left out. */
pod_status pod__cpu_append(const cpu_device *cpu, const pod_append_job *job);

/** Merges partial results. */
pod_status pod__cpu_merge(const cpu_device *cpu, const pod_parts *parts);

#endif
