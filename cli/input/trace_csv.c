/* SPDX-License-Identifier: Apache-2.0 */
#include "input/trace_lines.h"

#include <stdlib.h>
#include <string.h>

static text_span trim(text_span cell) {
    while (cell.begin < cell.end && (*cell.begin == ' ' || *cell.begin == '\t')) cell.begin++;
    while (cell.end > cell.begin && (cell.end[-1] == ' ' || cell.end[-1] == '\t')) cell.end--;
    return cell;
}

/** The next cell of a line; moves the line's beginning past its comma. */
static text_span next_cell(text_span *line) {
    size_t length = (size_t)(line->end - line->begin);
    const char *comma = length > 0 ? memchr(line->begin, ',', length) : NULL;
    text_span cell = {line->begin, comma != NULL ? comma : line->end};
    line->begin = comma != NULL ? comma + 1 : NULL;
    return trim(cell);
}

static int span_is(text_span span, const char *text) {
    size_t length = (size_t)(span.end - span.begin);
    return strlen(text) == length && memcmp(span.begin, text, length) == 0;
}

int csv_find_columns(text_span header, const char *prefill_name, const char *decode_name, csv_columns *columns) {
    *columns = (csv_columns){-1, -1, prefill_name, decode_name};
    for (int column = 0; header.begin != NULL; column++) {
        text_span cell = next_cell(&header);
        if (span_is(cell, prefill_name)) columns->prefill = column;
        if (span_is(cell, decode_name)) columns->decode = column;
    }
    return columns->prefill >= 0 && columns->decode >= 0;
}

static cli_exit read_cell(text_span cell, const char *field, int32_t low, const trace_place *place, int32_t *tokens,
                          cli_error *error) {
    char text[32], *end;
    size_t length = (size_t)(cell.end - cell.begin);
    size_t copied = length < sizeof text ? length : sizeof text - 1;
    memcpy(text, cell.begin, copied);
    text[copied] = '\0';
    /* Only what a decimal number is written with: strtod() would also take "inf", "0x10" and leading spaces. */
    int is_decimal = copied > 0 && copied == length && strspn(text, "0123456789.-") == length;
    double number = is_decimal ? strtod(text, &end) : 0;
    if (!is_decimal || *end != '\0') {
        return cli_fail(error, "%.200s:%d: %s \"%s\" is not a number", place->name, place->line, field, text);
    }
    return trace_read_tokens(number, field, low, place, tokens, error);
}

cli_exit csv_read_line(text_span line, const csv_columns *columns, const trace_place *place, trace_request *request,
                       cli_error *error) {
    int num_found = 0;
    for (int column = 0; line.begin != NULL; column++) {
        text_span cell = next_cell(&line);
        if (column == columns->prefill) {
            num_found++;
            CLI_TRY(read_cell(cell, columns->prefill_name, 1, place, &request->prefill_tokens, error));
        } else if (column == columns->decode) {
            num_found++;
            CLI_TRY(read_cell(cell, columns->decode_name, 0, place, &request->decode_tokens, error));
        }
    }
    if (num_found == 2) return CLI_OK;
    return cli_fail(error, "%.200s:%d: the line has too few cells for %s and %s", place->name, place->line,
                    columns->prefill_name, columns->decode_name);
}
