/* SPDX-License-Identifier: Apache-2.0 */
#include "output/json_writer.h"

#include <inttypes.h>
#include <math.h>

static void write_string(FILE *file, const char *text) {
    fputc('"', file);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            fprintf(file, "\\%c", c);
        } else if (c < ' ') {
            fprintf(file, "\\u%04x", c);
        } else {
            fputc(c, file);
        }
    }
    fputc('"', file);
}

static void write_break(const json_writer *writer) {
    fprintf(writer->file, "\n%*s", 2 * writer->depth, "");
}

/** What comes before a value: comma, place and key. */
static void write_head(json_writer *writer, const char *key) {
    if (writer->has_values) fputc(',', writer->file);
    if (writer->row_depth == 0) {
        write_break(writer);
    } else if (writer->has_values) {
        fputc(' ', writer->file);
    }
    writer->has_values = 1;
    if (key == NULL) return;
    write_string(writer->file, key);
    fputs(": ", writer->file);
}

static void begin_container(json_writer *writer, const char *key, char bracket) {
    write_head(writer, key);
    fputc(bracket, writer->file);
    writer->depth++;
    writer->has_values = 0;
}

static void end_container(json_writer *writer, char bracket) {
    writer->depth--;
    if (writer->row_depth == 0 && writer->has_values) write_break(writer);
    if (writer->row_depth > writer->depth) writer->row_depth = 0;
    fputc(bracket, writer->file);
    writer->has_values = 1;
}

json_writer json_begin(FILE *file) {
    fputc('{', file);
    return (json_writer){.file = file, .depth = 1};
}

void json_end(json_writer *writer) {
    end_container(writer, '}');
    fputc('\n', writer->file);
}

void json_begin_object(json_writer *writer, const char *key) {
    begin_container(writer, key, '{');
}

void json_begin_array(json_writer *writer, const char *key) {
    begin_container(writer, key, '[');
}

void json_begin_row(json_writer *writer, const char *key) {
    begin_container(writer, key, '{');
    if (writer->row_depth == 0) writer->row_depth = writer->depth;
}

void json_end_object(json_writer *writer) {
    end_container(writer, '}');
}

void json_end_array(json_writer *writer) {
    end_container(writer, ']');
}

void json_int(json_writer *writer, const char *key, int64_t value) {
    write_head(writer, key);
    fprintf(writer->file, "%" PRId64, value);
}

void json_number(json_writer *writer, const char *key, double value) {
    if (!isfinite(value)) {
        json_null(writer, key);
        return;
    }
    write_head(writer, key);
    fprintf(writer->file, value == floor(value) ? "%.15g" : "%.6g", value);
}

void json_bool(json_writer *writer, const char *key, int value) {
    write_head(writer, key);
    fputs(value ? "true" : "false", writer->file);
}

void json_text(json_writer *writer, const char *key, const char *value) {
    write_head(writer, key);
    write_string(writer->file, value);
}

void json_null(json_writer *writer, const char *key) {
    write_head(writer, key);
    fputs("null", writer->file);
}
