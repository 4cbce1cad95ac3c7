/* SPDX-License-Identifier: Apache-2.0 */
#include "run/check.h"

#include <stdlib.h>

double check_reference_bytes(const pod_limits *limits) {
    double rows = (double)limits->max_q_tokens * limits->q_heads;
    double gathered = (double)limits->max_kv_len * (limits->head_dim + limits->v_head_dim) * sizeof(float);
    return rows * (limits->v_head_dim + 1) * sizeof(double) + gathered;
}

cli_exit check_reference_make(const pod_limits *limits, const pod_batch *batch, const layer *layer,
                              check_reference *reference, cli_error *error) {
    size_t rows = (size_t)batch->q_start[batch->num_requests] * (size_t)limits->q_heads;
    *reference = (check_reference){.limits = limits, .num_rows = (int64_t)rows};
    reference->out = malloc((rows * (size_t)limits->v_head_dim + 1) * sizeof(double));
    reference->lse = malloc((rows + 1) * sizeof(double));
    if (reference->out == NULL || reference->lse == NULL) return cli_fail_memory(error);
    pod_status status =
        pod_reference_attention(limits, batch, &layer->tensors, &layer->cache, -1, reference->out, reference->lse);
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}

void check_reference_free(check_reference *reference) {
    free(reference->out);
    free(reference->lse);
}

pod_errors check_compare(const check_reference *reference, const pod_tensors *tensors) {
    int32_t v_head_dim = reference->limits->v_head_dim;
    pod_distance all = {0, 0};
    pod_errors errors = {0, 0, 0};
    for (int64_t row = 0; row < reference->num_rows; row++) {
        int64_t first = row * v_head_dim;
        pod_distance one =
            pod__distance(tensors->out, reference->limits->out_dtype, first, reference->out + first, v_head_dim);
        pod__distance_add(&all, one);
        errors.worst_row = pod__larger_error(errors.worst_row, pod__relative_error(one, 0));
        errors.lse = pod__larger_error(errors.lse, pod__lse_error((double)tensors->lse[row], reference->lse[row]));
    }
    errors.whole = pod__relative_error(all, 0);
    return errors;
}

void check_print(pod_errors errors, pod_errors tolerance, FILE *file) {
    fprintf(file, "relative L2 %.1e (<= %.0e), worst row %.1e (<= %.0e), LSE %.1e (<= %.0e)", errors.whole,
            tolerance.whole, errors.worst_row, tolerance.worst_row, errors.lse, tolerance.lse);
}

void check_write(pod_errors errors, const char *key, json_writer *json) {
    json_begin_row(json, key);
    json_number(json, "output", errors.whole);
    json_number(json, "worst_row", errors.worst_row);
    json_number(json, "lse", errors.lse);
    json_end_object(json);
}
