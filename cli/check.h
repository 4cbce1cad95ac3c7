/* SPDX-License-Identifier: Apache-2.0 */
/* Outputs against the oracle. */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "cli_error.h"
#include "json_writer.h"
#include "layer.h"

/** Errors, or what is allowed of them. */
typedef struct check_errors {
    double output;    /**< relative L2 of the whole output */
    double worst_row; /**< largest relative L2 of a query token and head */
    double lse;       /**< largest absolute difference */
} check_errors;

/** What the oracle says. */
typedef struct check_reference {
    const pod_limits *limits;
    int64_t num_rows; /**< query tokens x query heads */
    double *out, *lse;
} check_reference;

/** Bytes that check_reference_make() takes, the oracle's own included. */
double check_reference_bytes(const pod_limits *limits);

/** Free it also on error. */
cli_exit check_reference_make(const pod_limits *limits, const pod_batch *batch, const layer *layer,
                              check_reference *reference, cli_error *error);
void check_reference_free(check_reference *reference);

/** Compares packed outputs and LSE. */
check_errors check_compare(const check_reference *reference, const pod_tensors *tensors);

/** The larger of each; a NaN stays. */
check_errors check_worst(check_errors a, check_errors b);

check_errors check_tolerance(pod_dtype dtype);
int check_passes(check_errors errors, check_errors tolerance);

/** "relative L2 1.9e-03 (<= 5e-03), worst row ..., LSE ..." without a newline. */
void check_print(check_errors errors, check_errors tolerance, FILE *file);
/** An object with output, worst_row and lse. */
void check_write(check_errors errors, const char *key, json_writer *json);

#endif
