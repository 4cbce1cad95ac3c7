/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that this process may still take, asked for before taking it: Linux grants more than it has. */
#ifndef CLI_HOST_MEMORY_H
#define CLI_HOST_MEMORY_H

#include "cli_error.h"

/** Bytes that are free, or soon could be, on this machine and within the process's control groups; HUGE_VAL where
 * nothing says. */
double host_memory_available(void);

/** Fails with one line where `bytes` are more than there are. `what` is "the batch" or the like. */
cli_exit host_memory_check(const char *what, double bytes, cli_error *error);

#endif
