/* SPDX-License-Identifier: Apache-2.0 */
#include "input/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

cli_exit file_write_begin(file_writer *writer, const char *path, cli_error *error) {
    static const char suffix[] = ".XXXXXX";
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        return cli_fail(error, "%.300s: exists and is not a regular file", path);
    }
    size_t length = strlen(path);
    writer->path = path;
    writer->temporary_path = malloc(length + sizeof suffix);
    if (writer->temporary_path == NULL) return cli_fail_memory(error);
    memcpy(writer->temporary_path, path, length);
    memcpy(writer->temporary_path + length, suffix, sizeof suffix);
    int descriptor = mkstemp(writer->temporary_path);
    writer->file = descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
    if (writer->file != NULL) return CLI_OK;
    cli_exit code = fail_system(path, error);
    if (descriptor >= 0) {
        close(descriptor);
        unlink(writer->temporary_path);
    }
    free(writer->temporary_path);
    return code;
}

/** mkstemp() made the file private; it gets the mode that an ordinary new file has. */
static int publish(file_writer *writer) {
    mode_t mask = umask(0);
    umask(mask);
    int is_good = !ferror(writer->file) && fchmod(fileno(writer->file), 0666 & ~mask) == 0;
    if (fclose(writer->file) != 0 || !is_good) return -1;
    return rename(writer->temporary_path, writer->path);
}

void file_write_cancel(file_writer *writer) {
    fclose(writer->file);
    unlink(writer->temporary_path);
    free(writer->temporary_path);
}

cli_exit file_write_end(file_writer *writer, cli_error *error) {
    cli_exit code = CLI_OK;
    if (publish(writer) != 0) {
        code = fail_system(writer->path, error);
        unlink(writer->temporary_path);
    }
    free(writer->temporary_path);
    return code;
}
