/* SPDX-License-Identifier: Apache-2.0 */
/* The one merge formula. A partial result of a query row over some keys is a triple
 *   max   the largest score, in log2 units (score * log2(e)); -inf if no key was visible
 *   sum   the sum of exp2(score - max)
 *   out   the sum of exp2(score - max) * v, not divided
 * Two partials join by rescaling both to the larger max. Compiled by gcc, clang and nvcc. */
#ifndef POD_CORE_MERGE_H
#define POD_CORE_MERGE_H

#include <math.h>

#ifdef __CUDACC__
#define POD_MERGE_FN static __host__ __device__ __forceinline__
#else
#define POD_MERGE_FN static inline
#endif

#define POD_LOG2_E 1.4426950408889634f
#define POD_LN_2 0.6931471805599453f

/** Factor that brings a partial with maximum `old_max` to `new_max` >= old_max. An empty partial weighs nothing. */
POD_MERGE_FN float pod_merge_factor(float old_max, float new_max) {
    return old_max == -INFINITY ? 0.0f : exp2f(old_max - new_max);
}

/** What the outputs of a row and of a part that joins it are multiplied by before they are added. */
typedef struct pod_merge_factors {
    float row, part;
} pod_merge_factors;

/** Joins a part to a row: `max` and `sum` are the row's. Rows begin empty, and parts join them in their order. */
POD_MERGE_FN pod_merge_factors pod_merge_part(float *max, float *sum, float part_max, float part_sum) {
    float new_max = fmaxf(*max, part_max);
    pod_merge_factors factors;
    factors.row = pod_merge_factor(*max, new_max);
    factors.part = pod_merge_factor(part_max, new_max);
    *sum = *sum * factors.row + part_sum * factors.part;
    *max = new_max;
    return factors;
}

/** Joins a sink: a score that takes part in the sum but has no value. `sink` in natural-log units; an infinite one
 * takes all. Returns the factor for `out`. */
POD_MERGE_FN float pod_merge_sink(float *max, float *sum, float sink) {
    float sink_log2 = sink * POD_LOG2_E;
    if (sink_log2 == -INFINITY) return 1.0f;
    float new_max = *max > sink_log2 ? *max : sink_log2;
    float factor = pod_merge_factor(*max, new_max);
    *sum = *sum * factor + (sink_log2 == new_max ? 1.0f : exp2f(sink_log2 - new_max));
    *max = new_max;
    return factor;
}

/** What `out` is multiplied by at the end; 0 for a row that saw nothing. A NaN stays. */
POD_MERGE_FN float pod_merge_normaliser(float sum) {
    return sum == 0.0f ? 0.0f : 1.0f / sum;
}

/** Natural-log LSE of a finished row; -inf for one that saw nothing. A NaN stays. */
POD_MERGE_FN float pod_merge_lse(float max, float sum) {
    /* cppcheck-suppress invalidFunctionArg ; sum is not 0 there */
    return sum == 0.0f ? -INFINITY : (max + log2f(sum)) * POD_LN_2;
}

/* Finished parts (outputs that were divided, with their natural-log LSEs) merge in three passes over the parts: the
 * largest LSE, the sum of weights, the weighted sum of outputs. */

/** The larger of two LSEs; a NaN stays. */
POD_MERGE_FN float pod_merge_larger(float max, float lse) {
    return max != max || lse <= max ? max : lse;
}

/** What a part weighs beside one with the largest LSE; 0 if it saw no key. */
POD_MERGE_FN float pod_merge_weight(float lse, float max) {
    if (lse == -INFINITY) return 0.0f;
    return lse == max ? 1.0f : expf(lse - max); /* equal infinities included */
}

/** LSE of all parts together, from the largest and the sum of weights. */
POD_MERGE_FN float pod_merge_total(float max, float sum) {
    return sum == 0.0f ? -INFINITY : max + logf(sum);
}

#endif
