/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files, read in one go. */
#ifndef CLI_FILE_H
#define CLI_FILE_H

#include "cli_error.h"

#include <stddef.h>
#include <stdio.h>

/** Reads all of a file of at most 1 GiB. `*data`, which the caller frees, has a zero behind it. */
cli_exit file_read(const char *path, char **data, size_t *size, cli_error *error);

#endif
