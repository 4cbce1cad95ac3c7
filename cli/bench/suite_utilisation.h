/* SPDX-License-Identifier: Apache-2.0 */
/* How busy SMs and memory are: what was achieved of what podattn peak measures. bench/nsight.py puts counters in its
 * place. */
#ifndef CLI_SUITE_UTILISATION_H
#define CLI_SUITE_UTILISATION_H

#include "bench/batch_suite.h"

#define UTILISATION_COLUMNS BATCH_COLUMNS ";sm_percent;tensor_percent;dram_percent;source"

cli_exit utilisation_begin(bench *bench, cli_error *error);
void utilisation_add_columns(const bench *bench, const batch_row *row, int32_t variant, double median_us, FILE *file);

#endif
