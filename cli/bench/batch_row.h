/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a measured batch in a suite's file. */
#ifndef CLI_BATCH_ROW_H
#define CLI_BATCH_ROW_H

#include "bench/batch_suite.h"

/** A line for each variant, and for each of the peers' times. */
cli_exit batch_row_write(bench *bench, const batch_suite *suite, const batch_row *row, FILE *file, cli_error *error);

/** The median of a variant's times. */
double batch_row_median_us(const batch_row *row, int32_t variant, double *scratch);

#endif
