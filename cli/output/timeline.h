/* SPDX-License-Identifier: Apache-2.0 */
/* When each piece of a plan would run: lanes take tickets one after the other, as the kernels do, and a simple cost
 * model (machine.h) says how long each lasts. It shows balance and overlap; it does not predict a chip's times. */
#ifndef CLI_TIMELINE_H
#define CLI_TIMELINE_H

#include "input/batch_spec.h"
#include "output/machine.h"

typedef struct timeline_bar {
    double begin_us, end_us;
    int32_t row, lane;
    int32_t request;
    int32_t ticket;
    pod_work_kind kind;
} timeline_bar;

typedef struct timeline {
    int32_t num_rows, num_lanes;
    int64_t num_bars;
    timeline_bar *bars; /**< by row, lane and time; NULL where they are not wanted */
    double makespan_us;
    double prefill_alone_us, decode_alone_us; /**< the same queues, the other one empty */
    double mean_end_us;                       /**< when a row's last work ends, on average */
    int32_t busiest_row, idlest_row;          /**< the last to end and the first */
    double busiest_end_us, idlest_end_us;
    double share_us; /**< what each row would take if all were shared equally: the co-run law on the sums */
} timeline;

/** Simulates a built plan of `spec`, which `info` is of; bars are kept only where they are wanted. The caller frees the
 * timeline, also on error. */
cli_exit timeline_simulate(const pod_plan *plan, const pod_plan_info *info, const batch_spec *spec,
                           const machine *machine, int wants_bars, timeline *result, cli_error *error);
void timeline_free(timeline *timeline);

#endif
