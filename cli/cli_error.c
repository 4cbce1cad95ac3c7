/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_error.h"

#include <stdarg.h>
#include <stdio.h>

void cli_set_line(cli_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->line, sizeof error->line, format, arguments);
    va_end(arguments);
    for (char *c = error->line; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    }
}
