/* SPDX-License-Identifier: Apache-2.0 */
/* A batch that a suite measures. */
#ifndef CLI_BENCH_CASE_H
#define CLI_BENCH_CASE_H

#include "input/batch_spec.h"

typedef struct bench_case {
    char name[160];
    char param[16];         /**< what the suite varies, or "" */
    batch_spec spec;        /**< longest queries first */
    pod_kernel_info kernel; /**< that computes it; name "": whatever the device chooses */
} bench_case;

typedef struct bench_cases {
    bench_case *cases;
    int32_t count;
    int is_small; /**< cases are made small enough for a CPU */
} bench_cases;

/** One prefill, or none, beside decodes of one token each. */
typedef struct bench_mix {
    int32_t prefill_q, prefill_kv, decode_n, decode_kv;
} bench_mix;

/** Whether a batch is no more than that. */
int bench_mix_of(const batch_spec *spec, bench_mix *mix);

/** Adds a case, whose name ends with the cache's layout and begins with `name`; if that is NULL, with what the case is:
 * then it is a mix. Takes the spec over, also on error. */
cli_exit bench_cases_add(bench_cases *list, const char *name, const char *param, batch_spec *spec, cli_error *error);
void bench_cases_free(bench_cases *list);

#endif
