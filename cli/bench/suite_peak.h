/* SPDX-License-Identifier: Apache-2.0 */
/* The device's ceilings as a file. */
#ifndef CLI_SUITE_PEAK_H
#define CLI_SUITE_PEAK_H

#include "bench/bench.h"

#define PEAK_COLUMNS "measured;tflops;gb_per_s;clock_mhz;power_watts"

cli_exit run_peak(bench *bench, cli_error *error);

#endif
