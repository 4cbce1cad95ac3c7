/* SPDX-License-Identifier: Apache-2.0 */
/* A document line by line, and how each format reads one. Internal to the trace parser. */
#ifndef CLI_TRACE_LINES_H
#define CLI_TRACE_LINES_H

#include "input/trace.h"

/** A piece of the document. */
typedef struct text_span {
    const char *begin, *end;
} text_span;

/** Where errors are: document and line. */
typedef struct trace_place {
    const char *name;
    int32_t line;
} trace_place;

/** Which cells of a CSV line hold the two numbers, from 0 up. */
typedef struct csv_columns {
    int prefill, decode;
    const char *prefill_name, *decode_name;
} csv_columns;

/** Whether the line is a CSV header with both names; then fills in the cells' places. */
int csv_find_columns(text_span header, const char *prefill_name, const char *decode_name, csv_columns *columns);
cli_exit csv_read_line(text_span line, const csv_columns *columns, const trace_place *place, trace_request *request,
                       cli_error *error);

cli_exit jsonl_read_line(text_span line, const trace_place *place, trace_request *request, cli_error *error);

/** A number of tokens: whole, though it may be written as 7564.0, and in range. */
cli_exit trace_read_tokens(double number, const char *field, int32_t low, const trace_place *place, int32_t *tokens,
                           cli_error *error);

#endif
