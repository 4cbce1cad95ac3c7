/* SPDX-License-Identifier: Apache-2.0 */
#include "input/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FIRST_READ_BYTES = 1 << 16, MAX_FILE_BYTES = 1 << 30 };

static cli_exit fail_system(const char *path, cli_error *error) {
    return cli_fail(error, "%.300s: %s", path, strerror(errno));
}

/** Reads until the end into a buffer that grows: pipes have no size to ask for. */
static cli_exit read_stream(FILE *file, const char *path, char **data, size_t *size, cli_error *error) {
    size_t capacity = 0;
    *data = NULL;
    *size = 0;
    do {
        if (capacity >= MAX_FILE_BYTES) return cli_fail(error, "%.300s: larger than 1 GiB", path);
        capacity = capacity == 0 ? FIRST_READ_BYTES : 2 * capacity;
        char *grown = realloc(*data, capacity);
        if (grown == NULL) return cli_fail_memory(error);
        *data = grown;
        *size += fread(*data + *size, 1, capacity - *size, file);
    } while (*size == capacity);
    (*data)[*size] = '\0';
    return ferror(file) ? fail_system(path, error) : CLI_OK;
}

cli_exit file_read(const char *path, char **data, size_t *size, cli_error *error) {
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return fail_system(path, error);
    cli_exit code;
    if (fstat(fileno(file), &status) == 0 && S_ISDIR(status.st_mode)) {
        *data = NULL;
        code = cli_fail(error, "%.300s: is a directory, not a file", path);
    } else {
        code = read_stream(file, path, data, size, error);
    }
    fclose(file);
    if (code != CLI_OK) {
        free(*data);
        *data = NULL;
    }
    return code;
}

cli_exit file_parse(const char *path, file_parser *parse, void *target, cli_error *error) {
    char *data;
    size_t size;
    CLI_TRY(file_read(path, &data, &size, error));
    cli_exit code = parse(data, size, path, target, error);
    free(data);
    return code;
}
