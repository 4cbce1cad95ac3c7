/* SPDX-License-Identifier: Apache-2.0 */
/* How far a result is from the oracle's, and how far it may be. */
#ifndef POD_BASE_ERRORS_H
#define POD_BASE_ERRORS_H

#include "base/dtype.h"

#include <math.h>

/** Errors, or what is allowed of them. */
typedef struct pod_errors {
    double whole;     /**< relative L2 of the whole output */
    double worst_row; /**< largest relative L2 of a query token and head */
    double lse;       /**< largest absolute difference */
} pod_errors;

/** Squares summed over a row, or over many. */
typedef struct pod_distance {
    double difference, reference;
} pod_distance;

/** Of `count` elements from element `first` on. Where the reference is not finite, the value must not be either:
 * whether it is NaN or an infinity depends on the order of the sum. */
static inline pod_distance pod__distance(const void *array, pod_dtype dtype, int64_t first, const double *expected,
                                         int32_t count) {
    pod_distance sum = {0, 0};
    for (int32_t i = 0; i < count; i++) {
        double value = (double)pod__load(array, dtype, first + i), difference = value - expected[i];
        if (!isfinite(expected[i]) && !isfinite(value)) continue;
        sum.difference += difference * difference;
        sum.reference += expected[i] * expected[i];
    }
    return sum;
}

static inline void pod__distance_add(pod_distance *sum, pod_distance row) {
    sum->difference += row.difference;
    sum->reference += row.reference;
}

/** |difference| / |reference|, where the reference counts as at least `least` squared; at 0, a reference of zeros
 * allows nothing but zeros. */
static inline double pod__relative_error(pod_distance sum, double least) {
    return sum.difference == 0 ? 0 : sqrt(sum.difference / fmax(sum.reference, least));
}

/** Two infinities of one sign differ by nothing, and so do two NaNs. */
static inline double pod__lse_error(double value, double expected) {
    return value == expected || (isnan(value) && isnan(expected)) ? 0 : fabs(value - expected);
}

/** As fmax(), but a NaN wins: a wrong value must not hide. */
static inline double pod__larger_error(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

static inline pod_errors pod__larger_errors(pod_errors a, pod_errors b) {
    return (pod_errors){pod__larger_error(a.whole, b.whole), pod__larger_error(a.worst_row, b.worst_row),
                        pod__larger_error(a.lse, b.lse)};
}

/** A NaN is not within anything; where the reference has one too, there is no error. */
static inline int pod__errors_within(pod_errors errors, pod_errors allowed) {
    return errors.whole <= allowed.whole && errors.worst_row <= allowed.worst_row && errors.lse <= allowed.lse;
}

/** What every backend keeps to, with tensors of one dtype. Of e4m3, which caches alone hold, nothing is rounded but
 * when it is stored. */
static inline pod_errors pod__errors_allowed(pod_dtype dtype) {
    double whole = dtype == POD_F16 ? 1e-3 : dtype == POD_BF16 ? 5e-3 : 1e-5;
    return (pod_errors){whole, 4 * whole, 1e-4};
}

/** What the GPU's kernels keep to over random shapes: rows nearer than above, the LSE of any masks and scores less
 * near.
 */
static inline pod_errors pod__errors_allowed_on_gpu(pod_dtype dtype) {
    double whole = dtype == POD_BF16 ? 5e-3 : 1e-3;
    return (pod_errors){whole, 3 * whole, 5e-4};
}

#endif
