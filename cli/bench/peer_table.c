/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/peer_table.h"

#include "input/file.h"
#include "input/number.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 64, NO_COLUMN = -1, MAX_ROWS = 4096 };

/** The shape's columns, and where their numbers go. */
static const struct {
    const char *name;
    size_t offset;
    int32_t low, fallback; /**< `fallback` where the file has no such column; 0: it must have it */
} shape_columns[] = {
    {"q_heads", offsetof(peer_row, q_heads), 1, 0},       {"kv_heads", offsetof(peer_row, kv_heads), 1, 0},
    {"head_dim", offsetof(peer_row, head_dim), 8, 128},   {"prefill_q", offsetof(peer_row, prefill_q), 0, 0},
    {"prefill_kv", offsetof(peer_row, prefill_kv), 0, 0}, {"decode_n", offsetof(peer_row, decode_n), 0, 0},
    {"decode_kv", offsetof(peer_row, decode_kv), 0, 0},
};
enum { NUM_SHAPE_COLUMNS = sizeof shape_columns / sizeof shape_columns[0] };

typedef struct layout {
    int shape[NUM_SHAPE_COLUMNS]; /**< column of each */
    int times[PEER_MAX_TIMES];
} layout;

/** Splits a line at commas or semicolons; the fields end in place. */
static int split(char *line, char *fields[MAX_COLUMNS]) {
    int count = 0;
    for (char *cursor = line; count < MAX_COLUMNS;) {
        fields[count++] = cursor;
        cursor += strcspn(cursor, ",;");
        if (*cursor == '\0') break;
        *cursor++ = '\0';
    }
    return count;
}

/** The next line that is neither empty nor a comment, without its end, or NULL. */
static char *next_line(char **cursor, int *number) {
    while (**cursor != '\0') {
        char *line = *cursor;
        size_t length = strcspn(line, "\n");
        *cursor += length + (line[length] == '\n');
        line[length] = '\0';
        if (length > 0 && line[length - 1] == '\r') line[length - 1] = '\0';
        (*number)++;
        if (line[0] != '\0' && line[0] != '#') return line;
    }
    return NULL;
}

static int find_column(char *const *fields, int count, const char *name) {
    for (int i = 0; i < count; i++) {
        if (strcmp(fields[i], name) == 0) return i;
    }
    return NO_COLUMN;
}

static cli_exit read_heading(const char *path, char *line, layout *layout, peer_table *table, cli_error *error) {
    char *fields[MAX_COLUMNS];
    int count = split(line, fields);
    for (int i = 0; i < NUM_SHAPE_COLUMNS; i++) {
        layout->shape[i] = find_column(fields, count, shape_columns[i].name);
        if (layout->shape[i] == NO_COLUMN && shape_columns[i].fallback == 0) {
            return cli_fail(error, "%.200s: there is no column %s", path, shape_columns[i].name);
        }
    }
    for (int i = 0; i < count && table->num_names < PEER_MAX_TIMES; i++) {
        size_t length = strlen(fields[i]);
        if (length < 4 || length >= PEER_NAME_CHARS || strcmp(fields[i] + length - 3, "_us") != 0) continue;
        memcpy(table->names[table->num_names], fields[i], length - 3);
        layout->times[table->num_names++] = i;
    }
    return CLI_OK;
}

static cli_exit read_row(const char *name, char *line, const layout *layout, const peer_table *table, peer_row *row,
                         cli_error *error) {
    char *fields[MAX_COLUMNS];
    int count = split(line, fields);
    for (int i = 0; i < NUM_SHAPE_COLUMNS; i++) {
        int64_t value = shape_columns[i].fallback;
        int column = layout->shape[i];
        if (column >= count) return cli_fail(error, "%s: %s is missing", name, shape_columns[i].name);
        if (column != NO_COLUMN) {
            char field[320];
            snprintf(field, sizeof field, "%s: %s", name, shape_columns[i].name);
            CLI_TRY(number_parse(field, fields[column], shape_columns[i].low, 1 << 24, &value, error));
        }
        *(int32_t *)(void *)((char *)row + shape_columns[i].offset) = (int32_t)value;
    }
    for (int32_t t = 0; t < table->num_names; t++) {
        double value = layout->times[t] < count ? strtod(fields[layout->times[t]], NULL) : 0;
        row->times_us[t] = value > 0 ? value : 0;
    }
    return CLI_OK;
}

static cli_exit parse(const char *path, char *text, peer_table *table, cli_error *error) {
    layout layout = {.shape = {0}};
    int number = 0;
    char *cursor = text, *line = next_line(&cursor, &number);
    if (line == NULL) return cli_fail(error, "%.200s: the file is empty", path);
    CLI_TRY(read_heading(path, line, &layout, table, error));
    table->rows = calloc(MAX_ROWS, sizeof *table->rows);
    if (table->rows == NULL) return cli_fail_memory(error);
    while ((line = next_line(&cursor, &number)) != NULL && table->num_rows < MAX_ROWS) {
        char name[256];
        snprintf(name, sizeof name, "%.200s:%d", path, number);
        CLI_TRY(read_row(name, line, &layout, table, &table->rows[table->num_rows], error));
        table->num_rows++;
    }
    return CLI_OK;
}

cli_exit peer_table_read(const char *path, peer_table *table, cli_error *error) {
    char *data;
    size_t size;
    *table = (peer_table){.num_names = 0};
    CLI_TRY(file_read(path, &data, &size, error));
    char *text = calloc(size + 1, 1);
    if (text == NULL) {
        free(data);
        return cli_fail_memory(error);
    }
    memcpy(text, data, size);
    free(data);
    cli_exit code = parse(path, text, table, error);
    free(text);
    return code;
}

void peer_table_free(peer_table *table) {
    free(table->rows);
    table->rows = NULL;
    table->num_rows = 0;
}
