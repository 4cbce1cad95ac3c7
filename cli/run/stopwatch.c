/* SPDX-License-Identifier: Apache-2.0 */
#include "run/stopwatch.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

double stopwatch_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

double quantile(double *values, size_t count, double fraction) {
    if (count == 0) return 0;
    qsort(values, count, sizeof *values, compare);
    size_t rank = (size_t)ceil(fraction * (double)count);
    return values[rank > 0 ? rank - 1 : 0];
}
