/* SPDX-License-Identifier: Apache-2.0 */
/* Another program and what it prints. */
#ifndef CLI_CHILD_H
#define CLI_CHILD_H

#include "cli_error.h"

/** Runs a command that is found on the PATH. Returns its standard output, which the caller frees, and its exit code,
 * 255 if a signal ended it. Fails where it cannot be started or read. */
cli_exit child_run(const char *const command[], char **output, int *exit_code, cli_error *error);

#endif
