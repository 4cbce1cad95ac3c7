/* SPDX-License-Identifier: Apache-2.0 */
/* Outputs against the oracle. */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "base/errors.h"
#include "cli_error.h"
#include "output/json_writer.h"
#include "run/layer.h"

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
pod_errors check_compare(const check_reference *reference, const pod_tensors *tensors);

/** "relative L2 1.9e-03 (<= 5e-03), worst row ..., LSE ..." without a newline. */
void check_print(pod_errors errors, pod_errors tolerance, FILE *file);
/** An object with the whole output, worst_row and lse. */
void check_write(pod_errors errors, const char *key, json_writer *json);

#endif
