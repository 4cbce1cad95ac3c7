/* SPDX-License-Identifier: Apache-2.0 */
/* Time, and what many times say. */
#ifndef CLI_STOPWATCH_H
#define CLI_STOPWATCH_H

#include <stddef.h>

/** Microseconds on a clock that never jumps. */
double stopwatch_us(void);

/** The smallest of the values that at least `fraction` of all do not exceed (nearest rank); sorts them. 0 if none. */
double quantile(double *values, size_t count, double fraction);

#endif
