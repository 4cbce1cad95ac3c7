/* SPDX-License-Identifier: Apache-2.0 */
/* Every step of replayed traces. */
#ifndef CLI_SUITE_TRACE_H
#define CLI_SUITE_TRACE_H

#include "bench/bench.h"

#define TRACE_COLUMNS                                                                                                  \
    "case;step;requests;prefill_tokens;decode_tokens;kv_tokens;plan_us;fused_us;serial_us;streams_us;prefill_us;"      \
    "decode_us"

cli_exit run_trace(bench *bench, cli_error *error);

#endif
