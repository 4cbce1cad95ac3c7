/* SPDX-License-Identifier: Apache-2.0 */
/* The device's ceilings as a file. */
#ifndef CLI_SUITE_LIMITS_H
#define CLI_SUITE_LIMITS_H

#include "bench/bench.h"

#define LIMITS_COLUMNS "measured;tflops;gb_per_s;clock_mhz;power_watts"

cli_exit run_limits(bench *bench, cli_error *error);

#endif
