/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for every error line of the command line's parsers. */
#ifndef POD_TEST_FUZZ_ERROR_LINE_H
#define POD_TEST_FUZZ_ERROR_LINE_H

#include "cli_error.h"
#include "fuzz_input.h"

#include <ctype.h>
#include <string.h>

/** The parser refused: its one line names the document and holds no control character. */
static inline void fuzz_check_refusal(cli_exit code, const cli_error *error, const char *name) {
    FUZZ_CHECK(code == CLI_BAD_INPUT, "exit code %d", code);
    FUZZ_CHECK(strncmp(error->line, name, strlen(name)) == 0, "\"%s\" does not name the document", error->line);
    for (const char *c = error->line; *c != '\0'; c++) {
        FUZZ_CHECK(!iscntrl((unsigned char)*c), "a control character in \"%s\"", error->line);
    }
}

#endif
