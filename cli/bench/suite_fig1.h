/* SPDX-License-Identifier: Apache-2.0 */
/* How busy SMs and memory are meanwhile: by counters where Nsight Compute is there, else by what was achieved. */
#ifndef CLI_SUITE_FIG1_H
#define CLI_SUITE_FIG1_H

#include "bench/batch_suite.h"

#define FIG1_COLUMNS BATCH_COLUMNS ";sm_percent;tensor_percent;dram_percent;source"

cli_exit run_fig1(bench *bench, cli_error *error);

#endif
