/* SPDX-License-Identifier: Apache-2.0 */
/* How the command line fails: an exit code for the shell, one line for the person. */
#ifndef CLI_ERROR_H
#define CLI_ERROR_H

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

/** Writes the line, without control characters, and returns CLI_BAD_INPUT. */
cli_exit cli_fail(cli_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The library's own message about its last failure on this thread. Returns CLI_BAD_INPUT. */
cli_exit cli_fail_library(cli_error *error);

cli_exit cli_fail_memory(cli_error *error);

/** Hands a failure on to the caller. */
#define CLI_TRY(call)                                                                                                  \
    do {                                                                                                               \
        cli_exit cli_try_code_ = (call);                                                                               \
        if (cli_try_code_ != CLI_OK) return cli_try_code_;                                                             \
    } while (0)

#endif
