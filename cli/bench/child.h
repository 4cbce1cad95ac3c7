/* SPDX-License-Identifier: Apache-2.0 */
/* Another program and what it prints. */
#ifndef CLI_CHILD_H
#define CLI_CHILD_H

#include "cli_error.h"

/** Runs a command that is found on the PATH, and returns its standard output, which the caller frees. Fails where it
 * cannot be started or does not exit with 0. */
cli_exit child_run(const char *const command[], char **output, cli_error *error);

#endif
