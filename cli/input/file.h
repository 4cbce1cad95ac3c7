/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files: read in one go, or written under another name and then renamed, so that no half is ever seen. */
#ifndef CLI_FILE_H
#define CLI_FILE_H

#include "cli_error.h"

#include <stddef.h>
#include <stdio.h>

/** Reads all of a file of at most 1 GiB; the caller frees `*data`. */
cli_exit file_read(const char *path, char **data, size_t *size, cli_error *error);

typedef struct file_writer {
    const char *path;
    char *temporary_path;
    FILE *file;
} file_writer;

/** Opens a temporary file beside `path`. */
cli_exit file_write_begin(file_writer *writer, const char *path, cli_error *error);

/** Removes the temporary file; frees what begin took. */
void file_write_cancel(file_writer *writer);

/** Gives the file its name, or removes it where something went wrong. Frees what begin took. */
cli_exit file_write_end(file_writer *writer, cli_error *error);

#endif
