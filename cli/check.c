/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "element.h"

#include <math.h>
#include <stdlib.h>

double check_reference_bytes(const pod_limits *limits) {
    double rows = (double)limits->max_q_tokens * limits->q_heads;
    double gathered = 2.0 * limits->max_kv_len * limits->head_dim * sizeof(float);
    return rows * (limits->head_dim + 1) * sizeof(double) + gathered;
}

cli_exit check_reference_make(const pod_limits *limits, const pod_batch *batch, const layer *layer,
                              check_reference *reference, cli_error *error) {
    size_t rows = (size_t)batch->q_start[batch->num_requests] * (size_t)limits->q_heads;
    *reference = (check_reference){.limits = limits, .num_rows = (int64_t)rows};
    reference->out = malloc((rows * (size_t)limits->head_dim + 1) * sizeof(double));
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

/** As fmax(), but a NaN wins: a wrong value must not hide. */
static double larger(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

/** |difference| / |reference|; an all-zero reference allows nothing but zeros. */
static double relative_l2(double difference_squares, double reference_squares) {
    if (difference_squares == 0) return 0;
    return sqrt(difference_squares / reference_squares);
}

/** Two infinities of one sign differ by nothing. */
static double lse_difference(double reference, double value) {
    return reference == value ? 0 : fabs(reference - value);
}

check_errors check_compare(const check_reference *reference, const pod_tensors *tensors) {
    int32_t head_dim = reference->limits->head_dim;
    double all_difference = 0, all_reference = 0;
    check_errors errors = {0, 0, 0};
    for (int64_t row = 0; row < reference->num_rows; row++) {
        double row_difference = 0, row_reference = 0;
        for (int64_t i = row * head_dim; i < (row + 1) * head_dim; i++) {
            double expected = reference->out[i];
            double difference = (double)element_load(tensors->out, reference->limits->out_dtype, i) - expected;
            row_difference += difference * difference;
            row_reference += expected * expected;
        }
        all_difference += row_difference;
        all_reference += row_reference;
        errors.worst_row = larger(errors.worst_row, relative_l2(row_difference, row_reference));
        errors.lse = larger(errors.lse, lse_difference(reference->lse[row], (double)tensors->lse[row]));
    }
    errors.output = relative_l2(all_difference, all_reference);
    return errors;
}

check_errors check_worst(check_errors a, check_errors b) {
    return (check_errors){larger(a.output, b.output), larger(a.worst_row, b.worst_row), larger(a.lse, b.lse)};
}

check_errors check_tolerance(pod_dtype dtype) {
    double output = dtype == POD_F32 ? 1e-5 : dtype == POD_F16 ? 1e-3 : 5e-3;
    return (check_errors){output, 4 * output, 1e-4};
}

int check_passes(check_errors errors, check_errors tolerance) {
    return errors.output <= tolerance.output && errors.worst_row <= tolerance.worst_row && errors.lse <= tolerance.lse;
}

void check_print(check_errors errors, check_errors tolerance, FILE *file) {
    fprintf(file, "relative L2 %.1e (<= %.0e), worst row %.1e (<= %.0e), LSE %.1e (<= %.0e)", errors.output,
            tolerance.output, errors.worst_row, tolerance.worst_row, errors.lse, tolerance.lse);
}

void check_write(check_errors errors, const char *key, json_writer *json) {
    json_begin_row(json, key);
    json_number(json, "output", errors.output);
    json_number(json, "worst_row", errors.worst_row);
    json_number(json, "lse", errors.lse);
    json_end_object(json);
}
