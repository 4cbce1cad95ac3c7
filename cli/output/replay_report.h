/* SPDX-License-Identifier: Apache-2.0 */
/* What `podattn replay` found, in words and in JSON. */
#ifndef CLI_REPLAY_REPORT_H
#define CLI_REPLAY_REPORT_H

#include "run/replay.h"

typedef struct replay_report {
    const char *trace_name;
    const trace *trace;
    int32_t num_skipped; /**< requests that no cache of this size holds */
    const batch_spec *spec;
    pod_device_info device;
    int has_streams; /**< on a GPU */
    scheduler_config config;
    double cache_bytes; /**< of all layers: the pool, or the limit of a virtual cache */
    replay_cache cache;
    int32_t num_layers;
    pod_virtual_stats stats;       /**< of a virtual cache, at the end */
    pod_virtual_info virtual_info; /**< of one */
    int64_t num_steps, capacity;
    replay_step *steps;
    int32_t num_finished;
    int64_t num_checked_steps; /**< 0: no check was asked for */
    pod_errors errors, tolerance;
    int passes;
} replay_report;

cli_exit replay_report_text(const replay_report *report, FILE *file, cli_error *error);
cli_exit replay_report_json(const replay_report *report, FILE *file, cli_error *error);

#endif
