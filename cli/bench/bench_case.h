/* SPDX-License-Identifier: Apache-2.0 */
/* A batch that a suite measures: one prefill beside decodes of one token each. */
#ifndef CLI_BENCH_CASE_H
#define CLI_BENCH_CASE_H

#include "bench/peer_table.h"
#include "input/batch_spec.h"

typedef struct bench_case {
    char name[112];
    char param[16]; /**< what the suite varies, or "" */
    char model[32]; /**< as --model; "" if the heads are given */
    int32_t q_heads, kv_heads, head_dim;
    int32_t page_size; /**< 0: contiguous */
    int32_t prefill_q, prefill_kv, decode_n, decode_kv;
    const peer_row *peers; /**< other libraries' times, or NULL */
} bench_case;

typedef struct bench_cases {
    bench_case *cases;
    int32_t count;
    int is_small;            /**< cases are made small enough for a CPU */
    const peer_table *peers; /**< that the cases come from, or NULL */
} bench_cases;

/** Adds a case; fills in its name, and its heads from its model. */
cli_exit bench_cases_add(bench_cases *list, const bench_case *added, cli_error *error);
void bench_cases_free(bench_cases *list);

/** The batch, bf16, prefill first. The caller frees it, also on error. */
cli_exit bench_case_spec(const bench_case *c, batch_spec *spec, cli_error *error);

#endif
