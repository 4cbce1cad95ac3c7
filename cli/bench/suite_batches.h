/* SPDX-License-Identifier: Apache-2.0 */
/* The batches of files, each over a contiguous cache and over pages. */
#ifndef CLI_SUITE_BATCHES_H
#define CLI_SUITE_BATCHES_H

#include "bench/batch_suite.h"

#define BATCHES_COLUMNS BATCH_COLUMNS ";window;requests"

bench_case_lister list_batches;
void batches_add_columns(const bench *bench, const batch_row *row, int32_t variant, double median_us, FILE *file);

#endif
