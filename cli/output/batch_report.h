/* SPDX-License-Identifier: Apache-2.0 */
/* The batch as the commands print it, in words and in JSON. */
#ifndef CLI_BATCH_REPORT_H
#define CLI_BATCH_REPORT_H

#include "input/batch_spec.h"
#include "output/json_writer.h"

#include <stdio.h>

/** "llama-3-8b: 32 query and 8 KV heads, head_dim 128, bf16, page size 16, causal" */
void batch_report_shape(const batch_spec *spec, FILE *file);

/** "requests 65, query tokens 1,088, context tokens 270,336" */
void batch_report_requests(const batch_spec *spec, FILE *file);

/** The objects "shape" and "batch" of docs/json.md. */
void batch_report_shape_json(const batch_spec *spec, json_writer *json);
void batch_report_requests_json(const batch_spec *spec, json_writer *json);

#endif
