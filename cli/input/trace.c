/* SPDX-License-Identifier: Apache-2.0 */
#include "input/trace.h"

#include "input/trace_lines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *trace_format_name(trace_format format) {
    static const char *const names[] = {"Sarathi CSV", "Azure CSV", "Mooncake JSONL", "synthetic"};
    return names[format];
}

trace_means trace_mean_tokens(const trace *trace) {
    trace_means sums = {0, 0};
    for (int32_t i = 0; i < trace->num_requests; i++) {
        sums.prefill_tokens += trace->requests[i].prefill_tokens;
        sums.decode_tokens += trace->requests[i].decode_tokens;
    }
    return (trace_means){sums.prefill_tokens / trace->num_requests, sums.decode_tokens / trace->num_requests};
}

cli_exit trace_add(trace *trace, trace_request request, cli_error *error) {
    if (trace->num_requests == trace->capacity) {
        if (trace->capacity > INT32_MAX / 2) return cli_fail(error, "the trace has more requests than 31 bits count");
        int32_t capacity = trace->capacity > 0 ? 2 * trace->capacity : 1024;
        trace_request *grown = realloc(trace->requests, (size_t)capacity * sizeof *grown);
        if (grown == NULL) return cli_fail_memory(error);
        trace->requests = grown;
        trace->capacity = capacity;
    }
    trace->requests[trace->num_requests++] = request;
    return CLI_OK;
}

void trace_free(trace *trace) {
    free(trace->requests);
    *trace = (struct trace){.requests = NULL};
}

cli_exit trace_read_tokens(double number, const char *field, int32_t low, const trace_place *place, int32_t *tokens,
                           cli_error *error) {
    if (!(number >= low && number <= TRACE_MAX_TOKENS) || number != floor(number)) {
        return cli_fail(error, "%.200s:%d: %s = %.15g is not a whole number in [%d, %d]", place->name, place->line,
                        field, number, low, TRACE_MAX_TOKENS);
    }
    *tokens = (int32_t)number;
    return CLI_OK;
}

/** Takes a line off the document, without its end, be it LF or CR LF. */
static text_span next_line(text_span *document) {
    const char *newline = memchr(document->begin, '\n', (size_t)(document->end - document->begin));
    text_span line = {document->begin, newline != NULL ? newline : document->end};
    document->begin = newline != NULL ? newline + 1 : document->end;
    if (line.end > line.begin && line.end[-1] == '\r') line.end--;
    return line;
}

static int is_blank(text_span line) {
    for (const char *c = line.begin; c < line.end; c++) {
        if (*c != ' ' && *c != '\t') return 0;
    }
    return 1;
}

static cli_exit detect_format(text_span first, const trace_place *place, trace_format *format, csv_columns *columns,
                              cli_error *error) {
    *format = TRACE_MOONCAKE;
    if (first.begin < first.end && *first.begin == '{') return CLI_OK;
    *format = TRACE_SARATHI;
    if (csv_find_columns(first, "num_prefill_tokens", "num_decode_tokens", columns)) return CLI_OK;
    *format = TRACE_AZURE;
    if (csv_find_columns(first, "ContextTokens", "GeneratedTokens", columns)) return CLI_OK;
    return cli_fail(error,
                    "%.200s:%d: no trace: the first line is neither a CSV header with num_prefill_tokens and "
                    "num_decode_tokens or ContextTokens and GeneratedTokens, nor a JSON object",
                    place->name, place->line);
}

cli_exit trace_parse(const char *data, size_t size, const char *name, void *target, cli_error *error) {
    trace *trace = target;
    if (size == 0) return cli_fail(error, "%.200s: the trace is empty", name);
    text_span document = {data, data + size};
    if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) document.begin += 3; /* a byte order mark */
    csv_columns columns;
    int has_format = 0;
    for (trace_place place = {name, 1}; document.begin < document.end; place.line++) {
        text_span line = next_line(&document);
        if (is_blank(line)) continue;
        if (!has_format) {
            CLI_TRY(detect_format(line, &place, &trace->format, &columns, error));
            has_format = 1;
            if (trace->format != TRACE_MOONCAKE) continue;
        }
        trace_request request = {.line = place.line};
        CLI_TRY(trace->format == TRACE_MOONCAKE ? jsonl_read_line(line, &place, &request, error)
                                                : csv_read_line(line, &columns, &place, &request, error));
        CLI_TRY(trace_add(trace, request, error));
    }
    if (trace->num_requests == 0) return cli_fail(error, "%.200s: the trace is empty", name);
    return CLI_OK;
}
