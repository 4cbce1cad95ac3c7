/* SPDX-License-Identifier: Apache-2.0 */
/* How busy SMs and memory are meanwhile: by counters where Nsight Compute is there, else by what was achieved. */
#ifndef CLI_SUITE_UTILISATION_H
#define CLI_SUITE_UTILISATION_H

#include "bench/batch_suite.h"

#define UTILISATION_COLUMNS BATCH_COLUMNS ";sm_percent;tensor_percent;dram_percent;source"

cli_exit run_utilisation(bench *bench, cli_error *error);

#endif
