/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files, read in one go. */
#ifndef CLI_FILE_H
#define CLI_FILE_H

#include "cli_error.h"

#include <stddef.h>

/** Reads all of a file of at most 1 GiB. `*data`, which the caller frees, has a zero behind it. */
cli_exit file_read(const char *path, char **data, size_t *size, cli_error *error);

/** Reads `size` bytes, which need not be text, into `target`. `name` is what errors call the document. */
typedef cli_exit file_parser(const char *data, size_t size, const char *name, void *target, cli_error *error);

/** Parses a whole file, whose name is its path. */
cli_exit file_parse(const char *path, file_parser *parse, void *target, cli_error *error);

#endif
