/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a measured batch in a suite's file. */
#ifndef CLI_BATCH_ROW_H
#define CLI_BATCH_ROW_H

#include "bench/batch_suite.h"

/** A line for each variant that has work. */
cli_exit batch_row_write(bench *bench, const batch_suite *suite, const batch_row *row, FILE *file, cli_error *error);

#endif
