/* SPDX-License-Identifier: Apache-2.0 */
/* The table of suites. */
#ifndef CLI_SUITES_H
#define CLI_SUITES_H

#include "bench/bench.h"

typedef struct bench_suite {
    const char *name;
    const char *title;
    const char *columns;
    int needs_gpu, needs_peers, takes_trace;
    int has_batches; /**< that can be launched alone */
    cli_exit (*run)(bench *bench, cli_error *error);
} bench_suite;

/** Row `index`, or NULL behind the last. */
const bench_suite *bench_suite_at(size_t index);

/** NULL where there is none of that name. */
const bench_suite *bench_suite_find(const char *name);

#endif
