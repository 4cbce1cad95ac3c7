/* SPDX-License-Identifier: Apache-2.0 */
/* Ways to run a compute-bound and a memory-bound kernel together, while the first one grows. */
#ifndef CLI_SUITE_FUSION_WAYS_H
#define CLI_SUITE_FUSION_WAYS_H

#include "bench/bench.h"

#define FUSION_WAYS_COLUMNS "case;iterations;variant;repeats;median_us;p10_us;p90_us;to_ideal;to_ideal_p10;to_ideal_p90"

cli_exit run_fusion_ways(bench *bench, cli_error *error);

#endif
