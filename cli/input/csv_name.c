/* SPDX-License-Identifier: Apache-2.0 */
#include "input/csv_name.h"

cli_exit csv_name_check(const char *what, const char *name, cli_error *error) {
    for (const char *c = name; *c != '\0'; c++) {
        if ((unsigned char)*c >= ' ' && *c != 127 && *c != '"' && *c != ';') continue;
        return cli_fail(error, "%s \"%.200s\" has a quote, a semicolon or a control character, which no CSV field has",
                        what, name);
    }
    return CLI_OK;
}
