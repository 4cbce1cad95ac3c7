/* SPDX-License-Identifier: Apache-2.0 */
/* What `podattn run` found, in words and in JSON. */
#ifndef CLI_RUN_REPORT_H
#define CLI_RUN_REPORT_H

#include "batch_spec.h"
#include "check.h"
#include "workload.h"

/** The rows of the report. */
typedef enum run_row { RUN_FUSED = 0, RUN_SERIAL = 1, RUN_PREFILL = 2, RUN_DECODE = 3 } run_row;
enum { NUM_RUN_ROWS = 4 };

typedef struct run_report {
    const batch_spec *spec;
    pod_device_info device;
    pod_plan_info plan;
    double tensor_bytes, workspace_bytes;
    double plan_us;
    double median_us[NUM_RUN_ROWS]; /**< 0: that side is empty */
    workload work[NUM_RUN_ROWS];
    int has_check;
    check_errors fused_errors, serial_errors, tolerance;
    int passes;
} run_report;

void run_report_text(const run_report *report, FILE *file);
void run_report_json(const run_report *report, FILE *file);

#endif
