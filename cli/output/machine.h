/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulated timeline knows of a target: how fast one row of it is, and how work is taken. */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include "podattn.h"

/**
 * A row is what shares tensor cores and memory bandwidth: an SM, or a CPU worker. Its lanes take tickets on their own.
 * One lane with work runs at full speed. Two of different kinds run at 1 / (1 + corun_penalty) each, so that
 * t = max(a, b) + corun_penalty * min(a, b); two of the same kind at half speed.
 */
typedef struct machine {
    const char *target; /**< what the target's name begins with */
    const char *kernel; /**< the family that it runs, as pod_plan_info names it */
    const char *row_name;
    const char *row_text; /**< what a row of the picture shows */
    int32_t ctas_per_row;
    int32_t num_lanes;
    int32_t has_fixed_lanes; /**< lane 0 takes only prefill and lane 1 only decode, as warpgroups with fixed roles do */
    double row_tflops;       /**< prefill math of a row */
    double row_gb_per_s;     /**< decode's KV bytes of a row */
    double corun_penalty;
} machine;

/** The machine of a --target and of the kernel family that the plan is for; the library accepted both. */
const machine *machine_find(const char *target, const char *kernel);

#endif
