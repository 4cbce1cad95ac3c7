/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bench_case.h"

#include <stdio.h>
#include <stdlib.h>

enum { SMALL_TOKENS = 16, SMALL_COUNT = 4, LEAST_CHUNK = 8 };

static int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}

/** Tokens are divided, drafts and short chunks kept; of equal requests some go. */
static void make_small(batch_spec *spec) {
    int32_t kept = 0;
    for (int32_t begin = 0, end; begin < spec->num_requests; begin = end) {
        batch_request r = spec->requests[begin], small = r;
        for (end = begin; end < spec->num_requests; end++) {
            if (spec->requests[end].q_len != r.q_len || spec->requests[end].kv_len != r.kv_len) break;
        }
        small.q_len = larger(r.q_len / SMALL_TOKENS, r.q_len < LEAST_CHUNK ? r.q_len : LEAST_CHUNK);
        small.kv_len = larger(r.kv_len / SMALL_TOKENS, larger(small.q_len, r.kv_len > 0));
        for (int32_t i = larger((end - begin) / SMALL_COUNT, 1); i > 0; i--) spec->requests[kept++] = small;
    }
    spec->num_requests = kept;
    if (spec->window_tokens > 0) spec->window_tokens = larger(spec->window_tokens / SMALL_TOKENS, 1);
    batch_spec_sort(spec);
}

int bench_mix_of(const batch_spec *spec, bench_mix *mix) {
    const batch_request *r = spec->requests;
    int32_t first = r[0].q_len > 1;
    *mix = (bench_mix){.decode_n = spec->num_requests - first};
    if (first) mix->prefill_q = r[0].q_len, mix->prefill_kv = r[0].kv_len;
    if (mix->decode_n > 0) mix->decode_kv = r[first].kv_len;
    for (int32_t i = first; i < spec->num_requests; i++) {
        if (r[i].q_len != 1 || r[i].kv_len != mix->decode_kv) return 0;
    }
    return 1;
}

static void name_case(bench_case *c, const char *name) {
    bench_mix mix;
    const batch_spec *spec = &c->spec;
    char layout[24] = "contiguous";
    if (spec->page_size > 0) snprintf(layout, sizeof layout, "p%d", spec->page_size);
    if (name != NULL) {
        snprintf(c->name, sizeof c->name, "%s,%s", name, layout);
    } else if (bench_mix_of(spec, &mix)) {
        snprintf(c->name, sizeof c->name, "%s,%d@%d+%d@%d,%s", spec->model, mix.prefill_q, mix.prefill_kv, mix.decode_n,
                 mix.decode_kv, layout);
    }
}

static int is_there(const bench_cases *list, const char *name) {
    for (int32_t i = 0; i < list->count; i++) {
        if (strcmp(list->cases[i].name, name) == 0) return 1;
    }
    return 0;
}

static cli_exit append(bench_cases *list, const bench_case *added, cli_error *error) {
    bench_case *grown = realloc(list->cases, ((size_t)list->count + 1) * sizeof *grown);
    if (grown == NULL) return cli_fail_memory(error);
    list->cases = grown;
    list->cases[list->count++] = *added;
    return CLI_OK;
}

cli_exit bench_cases_add(bench_cases *list, const char *name, const char *param, batch_spec *spec, cli_error *error) {
    bench_case added = {.spec = *spec};
    snprintf(added.param, sizeof added.param, "%s", param);
    if (list->is_small) make_small(&added.spec);
    name_case(&added, name);
    int is_double = is_there(list, added.name);
    cli_exit code = batch_spec_check(&added.spec, error);
    if (code == CLI_OK && is_double && name != NULL) code = cli_fail(error, "the batch %s is given twice", name);
    if (code == CLI_OK && !is_double) code = append(list, &added, error);
    if (code != CLI_OK || is_double) batch_spec_free(&added.spec); /* small ones may fall together */
    return code;
}

void bench_cases_free(bench_cases *list) {
    for (int32_t i = 0; i < list->count; i++) batch_spec_free(&list->cases[i].spec);
    free(list->cases);
    list->cases = NULL;
    list->count = 0;
}
