/* SPDX-License-Identifier: Apache-2.0 */
#include "input/batch_file.h"

#include "input/csv_name.h"
#include "input/number.h"

#include <stdlib.h>
#include <string.h>

enum { NUM_FIELDS = 6 };

/** Where an error is: "batches.csv:3", and a field's name after it. */
typedef struct place {
    char line[224], field[320];
} place;

static const char *place_of(place *place, const char *field) {
    snprintf(place->field, sizeof place->field, "%s: %s", place->line, field);
    return place->field;
}

/* ---- one line ---- */

static cli_exit split(char *line, char *fields[NUM_FIELDS], const place *place, cli_error *error) {
    int count = 0;
    for (char *cursor = line; cursor != NULL; count++) {
        char *end = strchr(cursor, ';');
        if (end != NULL) *end++ = '\0';
        if (count < NUM_FIELDS) fields[count] = cursor;
        cursor = end;
    }
    if (count == NUM_FIELDS) return CLI_OK;
    return cli_fail(error, "%s: fields %d, but %s are %d", place->line, count, BATCH_FILE_HEADING, NUM_FIELDS);
}

/** What a suite's case may be called: no character that ends a name where cases are named. */
static cli_exit read_name(const batch_list *list, const char *text, place *place, named_batch *batch,
                          cli_error *error) {
    size_t length = strlen(text);
    if (length == 0 || length >= sizeof batch->name || strchr(text, '/') != NULL || strstr(text, ": ") != NULL) {
        return cli_fail(error, "%s \"%.100s\" is not of 1 to %d characters without \"/\" and \": \"",
                        place_of(place, "name"), text, BATCH_NAME_CHARS - 1);
    }
    CLI_TRY(csv_name_check(place_of(place, "name"), text, error));
    for (int32_t i = 0; i < list->count; i++) {
        if (strcmp(list->batches[i].name, text) != 0) continue;
        return cli_fail(error, "%s \"%s\" is given twice", place_of(place, "name"), text);
    }
    memcpy(batch->name, text, length + 1);
    return CLI_OK;
}

static cli_exit read_request(batch_spec *spec, const char **cursor, place *place, cli_error *error) {
    char text[64];
    int64_t count = 1, q_len, kv_len;
    size_t length = strcspn(*cursor, " ");
    snprintf(text, sizeof text, "%.*s", (int)(length < sizeof text ? length : sizeof text - 1), *cursor);
    const char *at = *cursor;
    int is_valid = number_scan(&at, &q_len);
    if (is_valid && *at == 'x') {
        count = q_len;
        at++;
        is_valid = number_scan(&at, &q_len);
    }
    if (!is_valid || *at++ != '@' || !number_scan(&at, &kv_len) || at != *cursor + length) {
        return cli_fail(error, "%s \"%s\" is not of the form [COUNTx]Q@KV", place_of(place, "requests"), text);
    }
    *cursor = at;
    return batch_spec_add(spec, place_of(place, text), count, q_len, kv_len, error);
}

static cli_exit read_requests(batch_spec *spec, const char *text, place *place, cli_error *error) {
    const char *cursor = text + strspn(text, " ");
    if (*cursor == '\0') return cli_fail(error, "%s is empty", place_of(place, "requests"));
    while (*cursor != '\0') {
        CLI_TRY(read_request(spec, &cursor, place, error));
        cursor += strspn(cursor, " ");
    }
    return CLI_OK;
}

static cli_exit read_batch(char *line, const batch_list *list, place *place, named_batch *batch, cli_error *error) {
    char *fields[NUM_FIELDS];
    int64_t q_heads, kv_heads, head_dim, window;
    cli_error reason;
    batch_spec *spec = &batch->spec;
    CLI_TRY(split(line, fields, place, error));
    CLI_TRY(read_name(list, fields[0], place, batch, error));
    CLI_TRY(number_parse(place_of(place, "q_heads"), fields[1], 1, BATCH_MAX_HEADS, &q_heads, error));
    CLI_TRY(number_parse(place_of(place, "kv_heads"), fields[2], 1, BATCH_MAX_HEADS, &kv_heads, error));
    CLI_TRY(batch_spec_set_heads(spec, place->line, q_heads, kv_heads, error));
    CLI_TRY(number_parse(place_of(place, "head_dim"), fields[3], 8, BATCH_MAX_HEAD_DIM, &head_dim, error));
    CLI_TRY(batch_spec_set_head_dim(spec, place_of(place, "head_dim"), head_dim, error));
    CLI_TRY(number_parse(place_of(place, "window"), fields[4], 0, BATCH_MAX_TOKENS, &window, error));
    spec->window_tokens = (int32_t)window;
    CLI_TRY(read_requests(spec, fields[5], place, error));
    if (batch_spec_check(spec, &reason) != CLI_OK) return cli_fail(error, "%s: %s", place->line, reason.line);
    batch_spec_sort(spec);
    return CLI_OK;
}

/* ---- the file ---- */

static cli_exit add_batch(batch_list *list, char *line, place *place, cli_error *error) {
    if (list->count == list->capacity) {
        int32_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        named_batch *grown = realloc(list->batches, (size_t)capacity * sizeof *grown);
        if (grown == NULL) return cli_fail_memory(error);
        list->batches = grown;
        list->capacity = capacity;
    }
    named_batch batch = {.spec = batch_spec_default()};
    cli_exit code = read_batch(line, list, place, &batch, error);
    if (code == CLI_OK) {
        list->batches[list->count++] = batch;
    } else {
        batch_spec_free(&batch.spec);
    }
    return code;
}

/** Cuts a line off the text, without its end, be it LF or CR LF; NULL after the last. */
static char *next_line(char **text) {
    char *line = *text;
    if (*line == '\0') return NULL;
    size_t length = strcspn(line, "\n");
    *text = line + length + (line[length] == '\n');
    line[length] = '\0';
    if (length > 0 && line[length - 1] == '\r') line[length - 1] = '\0';
    return line;
}

static cli_exit parse_lines(char *text, const char *name, batch_list *list, cli_error *error) {
    int has_heading = 0;
    char *line;
    for (int number = 1; (line = next_line(&text)) != NULL; number++) {
        place place;
        snprintf(place.line, sizeof place.line, "%.200s:%d", name, number);
        if (line[0] == '\0' || line[0] == '#') continue;
        if (has_heading) {
            CLI_TRY(add_batch(list, line, &place, error));
        } else if (strcmp(line, BATCH_FILE_HEADING) != 0) {
            return cli_fail(error, "%s: the heading is not %s", place.line, BATCH_FILE_HEADING);
        }
        has_heading = 1;
    }
    return list->count > 0 ? CLI_OK : cli_fail(error, "%.200s: there is no batch", name);
}

cli_exit batch_file_parse(const char *data, size_t size, const char *name, void *list, cli_error *error) {
    if (size > 0 && memchr(data, '\0', size) != NULL) return cli_fail(error, "%.200s: is not text", name);
    char *text = calloc(size + 1, 1);
    if (text == NULL) return cli_fail_memory(error);
    if (size > 0) memcpy(text, data, size);
    cli_exit code = parse_lines(text, name, list, error);
    free(text);
    return code;
}

void batch_list_free(batch_list *list) {
    for (int32_t i = 0; i < list->count; i++) batch_spec_free(&list->batches[i].spec);
    free(list->batches);
    *list = (batch_list){.batches = NULL};
}

/* ---- writing ---- */

void batch_file_write_requests(const batch_request *requests, int32_t count, FILE *file) {
    for (int32_t begin = 0, end; begin < count; begin = end) {
        const batch_request *r = &requests[begin];
        for (end = begin + 1; end < count && requests[end].q_len == r->q_len && requests[end].kv_len == r->kv_len;) {
            end++;
        }
        if (begin > 0) fputc(' ', file);
        if (end - begin > 1) fprintf(file, "%dx", end - begin);
        fprintf(file, "%d@%d", r->q_len, r->kv_len);
    }
}

void batch_file_write_line(const char *name, const batch_spec *spec, FILE *file) {
    fprintf(file, "%s;%d;%d;%d;%d;", name, spec->q_heads, spec->kv_heads, spec->head_dim, spec->window_tokens);
    batch_file_write_requests(spec->requests, spec->num_requests, file);
    fputc('\n', file);
}
