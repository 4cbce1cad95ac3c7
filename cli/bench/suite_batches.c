/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suite_batches.h"

enum { PAGE_TOKENS = 16, SHORT_STEP = 7 };

static cli_exit copy_spec(const batch_spec *from, int32_t page_size, batch_spec *to, cli_error *error) {
    *to = *from;
    to->requests = NULL;
    to->num_requests = to->capacity = 0;
    to->page_size = page_size;
    for (int32_t r = 0; r < from->num_requests; r++) {
        CLI_TRY(batch_spec_add(to, "", 1, from->requests[r].q_len, from->requests[r].kv_len, error));
    }
    return CLI_OK;
}

static cli_exit add(const bench_options *options, bench_cases *cases, const char *path, const named_batch *batch,
                    int32_t page_size, cli_error *error) {
    char name[144];
    batch_spec spec;
    const char *slash = strrchr(path, '/'), *file = slash != NULL ? slash + 1 : path;
    int length = (int)strcspn(file, ".");
    snprintf(name, sizeof name, "%.*s:%s", length < 60 ? length : 60, file, batch->name);
    cli_exit code = copy_spec(&batch->spec, page_size, &spec, error);
    if (code == CLI_OK && options->kv_dtype != NULL) {
        code = batch_spec_set_kv_dtype(&spec, "--kv-dtype", options->kv_dtype, error);
    }
    if (code == CLI_OK) return bench_cases_add(cases, name, "", &spec, error);
    batch_spec_free(&spec);
    return code;
}

cli_exit list_batches(bench *bench, bench_cases *cases, cli_error *error) {
    const bench_options *options = bench->options;
    for (int32_t page_size = 0; page_size <= PAGE_TOKENS; page_size += PAGE_TOKENS) {
        for (int32_t f = 0; f < options->num_batch_files; f++) {
            const batch_list *list = &bench->batches[f];
            for (int32_t i = 0; i < list->count; i += bench->is_short ? SHORT_STEP : 1) {
                CLI_TRY(add(options, cases, options->batch_files[f], &list->batches[i], page_size, error));
            }
        }
    }
    return CLI_OK;
}

void batches_add_columns(const bench *bench, const batch_row *row, int32_t variant, double median_us, FILE *file) {
    const batch_spec *spec = &row->c->spec;
    (void)bench, (void)variant, (void)median_us;
    fprintf(file, ";%d;", spec->window_tokens);
    batch_file_write_requests(spec->requests, spec->num_requests, file);
}
