/* SPDX-License-Identifier: Apache-2.0 */
/* The table of suites. */
#ifndef CLI_SUITES_H
#define CLI_SUITES_H

#include "bench/batch_suite.h"

typedef struct bench_suite {
    const char *name;
    const char *title;
    const char *columns;
    int needs_gpu, needs_batches, takes_trace;
    const batch_suite *batches; /**< what a suite of batches measures, each of which can be launched alone; or NULL */
    cli_exit (*run)(bench *bench, cli_error *error); /**< of a suite of anything else */
} bench_suite;

/** Row `index`, or NULL after the last. */
const bench_suite *bench_suite_at(size_t index);

/** NULL where there is none of that name. */
const bench_suite *bench_suite_find(const char *name);

cli_exit bench_suite_run(bench *bench, const bench_suite *suite, cli_error *error);

#endif
