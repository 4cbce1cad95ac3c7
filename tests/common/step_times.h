/* SPDX-License-Identifier: Apache-2.0 */
/* Times of many steps: the clock on the wall, and their percentiles. */
#ifndef POD_TEST_STEP_TIMES_H
#define POD_TEST_STEP_TIMES_H

#include <stddef.h>
#include <stdlib.h>
#include <time.h>

static inline double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

static inline int step_times_compare(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/** After it, times_us[count * 99 / 100] is the 99th percentile. */
static inline void sort_times(double *times_us, size_t count) {
    qsort(times_us, count, sizeof *times_us, step_times_compare);
}

#endif
