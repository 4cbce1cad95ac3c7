/* SPDX-License-Identifier: Apache-2.0 */
/* Suites whose cases are batches: every case is computed in the same variants, by turns. */
#ifndef CLI_BATCH_SUITE_H
#define CLI_BATCH_SUITE_H

#include "bench/bench.h"
#include "bench/bench_case.h"
#include "run/lineup.h"
#include "run/workload.h"

enum { BATCH_MAX_DEVICES = 8 };

typedef struct batch_variant {
    const char *name;
    engine_way way;
    const char *option; /**< of the GPU that computes it, or NULL: as it was given */
} batch_variant;

/** A case as it was measured. */
typedef struct batch_row {
    const bench_case *c;
    const batch_variant *variants; /**< [lineup.num_variants], the first one is fused */
    lineup lineup;
    workload work[LINEUP_MAX_VARIANTS];
} batch_row;

typedef cli_exit bench_case_lister(bench *bench, bench_cases *cases, cli_error *error);

typedef struct batch_suite {
    const batch_variant *variants; /**< the first one is WAY_FUSED on the device as it was given */
    int32_t num_variants;
    bench_case_lister *list_cases;
    /** NULL, or called once before the first case. */
    cli_exit (*begin)(bench *bench, cli_error *error);
    /** NULL, or writes further columns, each after a semicolon, of a variant. */
    void (*add_columns)(const bench *bench, const batch_row *row, int32_t variant, double median_us, FILE *file);
} batch_suite;

#define BATCH_COLUMNS                                                                                                  \
    "case;param;variant;kernel;model;q_heads;kv_heads;head_dim;dtype;kv_dtype;page_size;prefill_q;prefill_kv;"         \
    "decode_n;decode_kv;repeats;median_us;p10_us;p90_us;to_fused;to_fused_p10;to_fused_p90;tflops;kv_gb_per_s"

cli_exit batch_suite_run(bench *bench, const batch_suite *suite, cli_error *error);

#endif
