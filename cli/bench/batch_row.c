/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/batch_row.h"

#include "run/turns.h"

#include <stdlib.h>

/** The columns of a mix are empty where the batch is something else. */
static void write_shape(const batch_row *row, int32_t variant, FILE *file) {
    bench_mix mix;
    const batch_spec *spec = &row->c->spec;
    fprintf(file, "%s;%s;%s;%s;%s;%d;%d;%d;%s;%s;%d", row->c->name, row->c->param, row->variants[variant].name,
            row->lineup.variants[variant].engine->info.kernel, spec->model, spec->q_heads, spec->kv_heads,
            spec->head_dim, pod_dtype_name(spec->dtype), pod_dtype_name(batch_spec_kv_dtype(spec)), spec->page_size);
    if (bench_mix_of(spec, &mix)) {
        fprintf(file, ";%d;%d;%d;%d", mix.prefill_q, mix.prefill_kv, mix.decode_n, mix.decode_kv);
    } else {
        fputs(";;;;", file);
    }
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

cli_exit batch_row_write(bench *bench, const batch_suite *suite, const batch_row *row, FILE *file, cli_error *error) {
    double *scratch = malloc((size_t)row->lineup.repeat * sizeof *scratch);
    if (scratch == NULL) return cli_fail_memory(error);
    for (int32_t v = 0; v < row->lineup.num_variants; v++) {
        if (!engine_has_work(row->lineup.variants[v].engine, row->variants[v].way)) continue;
        write_shape(row, v, file);
        double median_us = write_times(row, v, scratch, file);
        if (suite->add_columns != NULL) suite->add_columns(bench, row, v, median_us, file);
        fputc('\n', file);
    }
    free(scratch);
    return CLI_OK;
}
