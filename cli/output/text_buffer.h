/* SPDX-License-Identifier: Apache-2.0 */
/* Text that is printed into memory first, so that it goes somewhere as a whole or not at all. */
#ifndef CLI_TEXT_BUFFER_H
#define CLI_TEXT_BUFFER_H

#include "cli_error.h"

#include <stddef.h>
#include <stdio.h>

typedef struct text_buffer {
    FILE *file; /**< to print into; NULL after text_end() */
    char *data; /**< after text_end(), with a zero behind it */
    size_t size;
} text_buffer;

cli_exit text_begin(text_buffer *text, cli_error *error);

/** Fails where memory ran out while it was printed. */
cli_exit text_end(text_buffer *text, cli_error *error);

/** Allowed at any time after text_begin(), and again. */
void text_free(text_buffer *text);

#endif
