/* SPDX-License-Identifier: Apache-2.0 */
/* The commands. Each takes the arguments after its name and prints nothing before everything has succeeded. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli_error.h"

cli_exit cmd_info(int argc, char **argv, cli_error *error);
cli_exit cmd_run(int argc, char **argv, cli_error *error);
cli_exit cmd_plan(int argc, char **argv, cli_error *error);
cli_exit cmd_replay(int argc, char **argv, cli_error *error);
cli_exit cmd_peak(int argc, char **argv, cli_error *error);
cli_exit cmd_bench(int argc, char **argv, cli_error *error);

#endif
