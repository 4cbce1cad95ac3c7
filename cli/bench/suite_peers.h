/* SPDX-License-Identifier: Apache-2.0 */
/* The batches of a table of other libraries' times, theirs beside ours, on both kinds of cache. */
#ifndef CLI_SUITE_PEERS_H
#define CLI_SUITE_PEERS_H

#include "bench/bench.h"

cli_exit run_peers(bench *bench, cli_error *error);

#endif
