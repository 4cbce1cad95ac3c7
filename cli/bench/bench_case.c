/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bench_case.h"

#include "input/models.h"

#include <stdio.h>
#include <stdlib.h>

enum { SMALL_TOKENS = 16, SMALL_DECODES = 4, LEAST_CHUNK = 8 };

static int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}

static void make_small(bench_case *c) {
    if (c->prefill_q > 0) c->prefill_q = larger(c->prefill_q / SMALL_TOKENS, LEAST_CHUNK);
    c->prefill_kv = larger(c->prefill_kv / SMALL_TOKENS, c->prefill_q);
    c->decode_kv = larger(c->decode_kv / SMALL_TOKENS, 1);
    if (c->decode_n > 0) c->decode_n = larger(c->decode_n / SMALL_DECODES, 1);
}

static cli_exit fill_in(bench_case *c, cli_error *error) {
    char shape[40];
    if (c->model[0] != '\0') {
        model_shape model;
        CLI_TRY(model_find("model", c->model, &model, error));
        c->q_heads = model.q_heads, c->kv_heads = model.kv_heads, c->head_dim = model.head_dim;
        snprintf(shape, sizeof shape, "%s", c->model);
    } else {
        snprintf(shape, sizeof shape, "%d-%d-%d", c->q_heads, c->kv_heads, c->head_dim);
    }
    char page[16] = "contiguous";
    if (c->page_size > 0) snprintf(page, sizeof page, "p%d", c->page_size);
    snprintf(c->name, sizeof c->name, "%s,%d@%d+%d@%d,%s", shape, c->prefill_q, c->prefill_kv, c->decode_n,
             c->decode_kv, page);
    return CLI_OK;
}

/** Small ones may fall together. */
static int is_there(const bench_cases *list, const char *name) {
    for (int32_t i = 0; i < list->count; i++) {
        if (strcmp(list->cases[i].name, name) == 0) return 1;
    }
    return 0;
}

cli_exit bench_cases_add(bench_cases *list, const bench_case *added, cli_error *error) {
    bench_case filled = *added;
    if (list->is_small) make_small(&filled);
    CLI_TRY(fill_in(&filled, error));
    if (is_there(list, filled.name)) return CLI_OK;
    bench_case *grown = realloc(list->cases, ((size_t)list->count + 1) * sizeof *grown);
    if (grown == NULL) return cli_fail_memory(error);
    list->cases = grown;
    list->cases[list->count++] = filled;
    return CLI_OK;
}

void bench_cases_free(bench_cases *list) {
    free(list->cases);
    list->cases = NULL;
    list->count = 0;
}

cli_exit bench_case_spec(const bench_case *c, batch_spec *spec, cli_error *error) {
    *spec = batch_spec_default();
    snprintf(spec->model, sizeof spec->model, "%s", c->model);
    spec->q_heads = c->q_heads;
    spec->kv_heads = c->kv_heads;
    spec->head_dim = c->head_dim;
    spec->page_size = c->page_size;
    if (c->prefill_q > 0) CLI_TRY(batch_spec_add(spec, c->name, 1, c->prefill_q, c->prefill_kv, error));
    if (c->decode_n > 0) CLI_TRY(batch_spec_add(spec, c->name, c->decode_n, 1, c->decode_kv, error));
    return batch_spec_check(spec, error);
}
