/* SPDX-License-Identifier: Apache-2.0 */
#include "output/batch_report.h"

#include "output/format.h"

#include <math.h>

typedef struct batch_sums {
    int64_t q_tokens, kv_tokens;
} batch_sums;

static batch_sums sum_tokens(const batch_spec *spec) {
    batch_sums sums = {0, 0};
    for (int32_t r = 0; r < spec->num_requests; r++) {
        sums.q_tokens += spec->requests[r].q_len;
        sums.kv_tokens += spec->requests[r].kv_len;
    }
    return sums;
}

void batch_report_shape(const batch_spec *spec, FILE *file) {
    fprintf(file, "%s%s%d query and %d KV heads, head_dim %d, ", spec->model, spec->model[0] != '\0' ? ": " : "",
            spec->q_heads, spec->kv_heads, spec->head_dim);
    if (batch_spec_v_head_dim(spec) != spec->head_dim) fprintf(file, "v_head_dim %d, ", spec->v_head_dim);
    if (spec->values_in_keys) fputs("values in keys, ", file);
    fprintf(file, "%s, ", pod_dtype_name(spec->dtype));
    if (batch_spec_kv_dtype(spec) != spec->dtype) fprintf(file, "KV cache %s, ", pod_dtype_name(spec->kv_dtype));
    if (spec->page_size > 0) {
        fprintf(file, "page size %d", spec->page_size);
    } else {
        fputs("contiguous", file);
    }
    fputs(spec->causal ? ", causal" : ", not causal", file);
    if (spec->window_tokens > 0) fprintf(file, ", window %s", format_count(spec->window_tokens).text);
    if (spec->right_window_tokens > 0) {
        fprintf(file, ", right window %s", format_count(spec->right_window_tokens).text);
    }
    if (spec->tree_children > 0) fprintf(file, ", trees of %d children", spec->tree_children);
    if (spec->softcap > 0) fprintf(file, ", softcap %g", (double)spec->softcap);
    if (spec->has_sinks) fputs(", sinks", file);
    if (spec->has_alibi) fputs(", ALiBi", file);
    if (spec->scale != 0) fprintf(file, ", scale %g", (double)spec->scale);
    fputc('\n', file);
}

void batch_report_requests(const batch_spec *spec, FILE *file) {
    batch_sums sums = sum_tokens(spec);
    fprintf(file, "requests %s, query tokens %s, context tokens %s\n", format_count(spec->num_requests).text,
            format_count(sums.q_tokens).text, format_count(sums.kv_tokens).text);
}

void batch_report_shape_json(const batch_spec *spec, json_writer *json) {
    json_begin_object(json, "shape");
    if (spec->model[0] != '\0') {
        json_text(json, "model", spec->model);
    } else {
        json_null(json, "model");
    }
    json_int(json, "q_heads", spec->q_heads);
    json_int(json, "kv_heads", spec->kv_heads);
    json_int(json, "head_dim", spec->head_dim);
    json_int(json, "v_head_dim", batch_spec_v_head_dim(spec));
    json_bool(json, "v_in_k", spec->values_in_keys);
    json_text(json, "dtype", pod_dtype_name(spec->dtype));
    json_text(json, "kv_dtype", pod_dtype_name(batch_spec_kv_dtype(spec)));
    json_int(json, "page_size", spec->page_size);
    json_bool(json, "causal", spec->causal);
    json_int(json, "window", spec->window_tokens);
    json_int(json, "right_window", spec->right_window_tokens);
    json_int(json, "tree", spec->tree_children);
    json_number(json, "softcap", (double)spec->softcap);
    json_bool(json, "sinks", spec->has_sinks);
    json_bool(json, "alibi", spec->has_alibi);
    json_number(json, "scale", spec->scale != 0 ? (double)spec->scale : 1 / sqrt(spec->head_dim));
    json_int(json, "seed", spec->seed);
    json_end_object(json);
}

void batch_report_requests_json(const batch_spec *spec, json_writer *json) {
    batch_sums sums = sum_tokens(spec);
    json_begin_row(json, "batch");
    json_int(json, "num_requests", spec->num_requests);
    json_int(json, "q_tokens", sums.q_tokens);
    json_int(json, "kv_tokens", sums.kv_tokens);
    json_end_object(json);
}
