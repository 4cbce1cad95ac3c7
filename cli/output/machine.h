/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulated timeline knows of a target: how fast one row of it is, and how work is taken. */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include "podattn.h"

/**
 * A row is what shares tensor cores and memory bandwidth: an SM, or a CPU worker. Its lanes take tickets on their own.
 * A kind of work with lanes of its own alone runs at full speed, shared by these lanes. Two kinds run at
 * 1 / (1 + corun_penalty) each, so that t = max(a, b) + corun_penalty * min(a, b).
 */
typedef struct machine {
    pod_kernel_info kernel; /**< what a row is, and its lanes */
    const char *row_text;   /**< what a row of the picture shows */
    double row_tflops;      /**< prefill math of a row */
    double row_gb_per_s;    /**< decode's KV bytes of a row */
    double corun_penalty;
} machine;

/** The machine of a --target, and of the kernel that a plan for it names; the library accepted both. */
machine machine_find(const pod_device *device, const char *target, const char *kernel);

#endif
