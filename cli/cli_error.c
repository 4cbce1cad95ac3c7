/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_error.h"

#include "podattn.h"

#include <stdarg.h>
#include <stdio.h>

cli_exit cli_fail(cli_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->line, sizeof error->line, format, arguments);
    va_end(arguments);
    for (char *c = error->line; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    }
    return CLI_BAD_INPUT;
}

cli_exit cli_fail_library(cli_error *error) {
    return cli_fail(error, "%s", pod_error_message());
}

cli_exit cli_fail_memory(cli_error *error) {
    return cli_fail(error, "out of memory");
}
