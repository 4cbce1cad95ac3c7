/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/batch_row.h"

#include "run/turns.h"

#include <stdlib.h>

static void write_shape(const batch_row *row, const char *variant, const char *kernel, FILE *file) {
    const bench_case *c = row->c;
    fprintf(file, "%s;%s;%s;%s;%s;%d;%d;%d;bf16;%d;%d;%d;%d;%d", c->name, c->param, variant, kernel, c->model,
            c->q_heads, c->kv_heads, c->head_dim, c->page_size, c->prefill_q, c->prefill_kv, c->decode_n, c->decode_kv);
}

/** Returns the median. */
static double write_times(const batch_row *row, int32_t v, double *scratch, FILE *file) {
    const lineup *lineup = &row->lineup;
    const double *took_us = lineup_times(lineup, v), *fused_us = lineup_times(lineup, 0);
    turn_summary times = turns_summarise(took_us, NULL, lineup->repeat, scratch);
    turn_summary ratio = turns_summarise(took_us, fused_us, lineup->repeat, scratch);
    fprintf(file, ";%d;%.3f;%.3f;%.3f;%.4f;%.4f;%.4f", lineup->repeat, times.median, times.p10, times.p90, ratio.median,
            ratio.p10, ratio.p90);
    fprintf(file, ";%.2f;%.2f", row->work[v].flop / times.median * 1e-6, row->work[v].kv_bytes / times.median * 1e-3);
    return times.median;
}

double batch_row_median_us(const batch_row *row, int32_t variant, double *scratch) {
    return turns_summarise(lineup_times(&row->lineup, variant), NULL, row->lineup.repeat, scratch).median;
}

/** Times from a file have neither turns nor quantiles. */
static void write_peers(const peer_table *peers, const batch_row *row, double fused_us, FILE *file) {
    for (int32_t t = 0; t < peers->num_names; t++) {
        double took_us = row->c->peers->times_us[t];
        if (took_us == 0) continue;
        write_shape(row, peers->names[t], "", file);
        fprintf(file, ";;%.3f;;;%.4f;;;;\n", took_us, took_us / fused_us);
    }
}

cli_exit batch_row_write(bench *bench, const batch_suite *suite, const batch_row *row, FILE *file, cli_error *error) {
    double *scratch = malloc((size_t)row->lineup.repeat * sizeof *scratch);
    if (scratch == NULL) return cli_fail_memory(error);
    for (int32_t v = 0; v < row->lineup.num_variants; v++) {
        if (!engine_has_work(row->lineup.variants[v].engine, row->variants[v].way)) continue;
        write_shape(row, row->variants[v].name, row->lineup.variants[v].engine->info.kernel, file);
        double median_us = write_times(row, v, scratch, file);
        if (suite->add_columns != NULL) suite->add_columns(bench, &row->work[v], median_us, file);
        fputc('\n', file);
    }
    if (row->c->peers != NULL) write_peers(&bench->peers, row, batch_row_median_us(row, 0, scratch), file);
    free(scratch);
    return CLI_OK;
}
