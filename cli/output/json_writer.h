/* SPDX-License-Identifier: Apache-2.0 */
/* JSON to a stream, value by value: a plan has many items, and none of them waits in memory. Containers are indented;
 * a *row* is on one line with all that is in it. `key` is NULL inside an array. */
#ifndef CLI_JSON_WRITER_H
#define CLI_JSON_WRITER_H

#include <stdint.h>
#include <stdio.h>

typedef struct json_writer {
    FILE *file;
    int depth;
    int row_depth;  /**< depth at which the current row began, 0 outside of one */
    int has_values; /**< the current container holds one */
} json_writer;

/** Begins the document, an object. */
json_writer json_begin(FILE *file);
/** Ends the document with a newline. */
void json_end(json_writer *writer);

void json_begin_object(json_writer *writer, const char *key);
void json_begin_array(json_writer *writer, const char *key);
/** A row is an object on one line. */
void json_begin_row(json_writer *writer, const char *key);
void json_end_object(json_writer *writer);
void json_end_array(json_writer *writer);

void json_int(json_writer *writer, const char *key, int64_t value);
/** Whole numbers exactly, others with six significant digits; null where it is not finite. */
void json_number(json_writer *writer, const char *key, double value);
void json_bool(json_writer *writer, const char *key, int value);
void json_text(json_writer *writer, const char *key, const char *value);
void json_null(json_writer *writer, const char *key);

#endif
