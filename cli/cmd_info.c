/* SPDX-License-Identifier: Apache-2.0 */
#include "commands.h"
cli_exit cmd_info(int argc, char **argv, cli_error *error) {
    (void)argc;
    (void)argv;
    return cli_fail(error, "todo");
}
