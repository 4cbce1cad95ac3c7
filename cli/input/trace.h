/* SPDX-License-Identifier: Apache-2.0 */
/* Request traces: how many tokens each request brings and how many it generates. Three formats, told apart by the first
 * line:
 *   Sarathi CSV     a header with num_prefill_tokens and num_decode_tokens
 *   Azure CSV       a header with ContextTokens and GeneratedTokens
 *   Mooncake JSONL  an object per line with input_length and output_length
 * Other columns and fields, arrival times among them, are not looked at. */
#ifndef CLI_TRACE_H
#define CLI_TRACE_H

#include "input/file.h"

#include <stdint.h>

enum { TRACE_MAX_TOKENS = 1 << 29 /**< of a prompt, and of what is generated */ };

typedef enum trace_format { TRACE_SARATHI, TRACE_AZURE, TRACE_MOONCAKE, TRACE_SYNTHETIC } trace_format;

typedef struct trace_request {
    int32_t prefill_tokens; /**< from 1 up */
    int32_t decode_tokens;  /**< from 0 up; the first of them is a result of the prefill */
    int32_t line;           /**< in the file, from 1 up; of a synthetic trace: its number, from 1 up */
} trace_request;

typedef struct trace {
    trace_format format;
    int32_t num_requests, capacity;
    trace_request *requests;
} trace;

/** Reads a document into an empty trace. Errors name the line. Free the trace also on error. */
file_parser trace_parse;

cli_exit trace_add(trace *trace, trace_request request, cli_error *error);
void trace_free(trace *trace);

typedef struct trace_means {
    double prefill_tokens, decode_tokens;
} trace_means;

/** Of a trace that is not empty. */
trace_means trace_mean_tokens(const trace *trace);

/** "Azure CSV" and the like. */
const char *trace_format_name(trace_format format);

#endif
