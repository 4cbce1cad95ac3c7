/* SPDX-License-Identifier: Apache-2.0 */
/* How the command line fails: an exit code for the shell, one line for the person. */
#ifndef CLI_ERROR_H
#define CLI_ERROR_H

#include "podattn.h"

/** The program's exit codes; every function that may fail returns one. */
typedef enum cli_exit {
    CLI_OK = 0,
    CLI_CHECK_FAILED = 1,
    CLI_BAD_INPUT = 2 /**< also whatever the machine refused: files, memory, devices */
} cli_exit;

/** What went wrong, as main() prints it after "podattn: ". */
typedef struct cli_error {
    char line[1024];
} cli_error;

/** Writes the line, without control characters. */
void cli_set_line(cli_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The same, and is CLI_BAD_INPUT: a macro, so that analysers see that it never is CLI_OK. */
#define cli_fail(error, ...) (cli_set_line(error, __VA_ARGS__), CLI_BAD_INPUT)

/** The library's own message about its last failure on this thread. */
static inline cli_exit cli_fail_library(cli_error *error) {
    return cli_fail(error, "%s", pod_error_message());
}

static inline cli_exit cli_fail_memory(cli_error *error) {
    return cli_fail(error, "out of memory");
}

/** Hands a failure on to the caller. */
#define CLI_TRY(call)                                                                                                  \
    do {                                                                                                               \
        cli_exit cli_try_code_ = (call);                                                                               \
        if (cli_try_code_ != CLI_OK) return cli_try_code_;                                                             \
    } while (0)

#endif
