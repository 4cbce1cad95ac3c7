/* SPDX-License-Identifier: Apache-2.0 */
/* What `podattn run` found, in words and in JSON. */
#ifndef CLI_RUN_REPORT_H
#define CLI_RUN_REPORT_H

#include "input/batch_spec.h"
#include "run/baselines.h"
#include "run/check.h"
#include "run/workload.h"

/** The rows of the report: those that compute the whole batch, then its sides. */
typedef enum run_row {
    RUN_FUSED = 0,
    RUN_SERIAL = 1,
    RUN_STREAMS = 2, /**< on a GPU */
    RUN_HFUSE = 3,   /**< on a GPU, in a build with baselines, of shapes that the baseline takes */
    RUN_PREFILL = 4,
    RUN_DECODE = 5
} run_row;
enum { NUM_WHOLE_RUN_ROWS = 4, NUM_RUN_ROWS = 6 };

typedef struct run_report {
    const batch_spec *spec;
    pod_device_info device;
    pod_plan_info plan;
    int is_gpu, has_hfuse;
    double tensor_bytes, workspace_bytes;
    double plan_us;
    double median_us[NUM_RUN_ROWS]; /**< 0: that side is empty */
    workload work[NUM_RUN_ROWS];
    int has_check;
    pod_errors errors[NUM_RUN_ROWS], tolerance;
    int passes;
} run_report;

/** Whether the report has the row. */
static inline int run_row_exists(const run_report *report, int row) {
    return row == RUN_HFUSE ? report->has_hfuse : report->is_gpu || row != RUN_STREAMS;
}

void run_report_text(const run_report *report, FILE *file);
void run_report_json(const run_report *report, FILE *file);

#endif
