/* SPDX-License-Identifier: Apache-2.0 */
/* Names that go into CSV files as they are: into fields, and into the comments of a heading. */
#ifndef CLI_CSV_NAME_H
#define CLI_CSV_NAME_H

#include "cli_error.h"

/** Refuses control characters, quotes and semicolons. `what` is what errors call the name. */
cli_exit csv_name_check(const char *what, const char *name, cli_error *error);

#endif
