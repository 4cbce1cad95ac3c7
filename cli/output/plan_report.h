/* SPDX-License-Identifier: Apache-2.0 */
/* A built plan and its simulated timeline, in words and in JSON. */
#ifndef CLI_PLAN_REPORT_H
#define CLI_PLAN_REPORT_H

#include "input/batch_spec.h"
#include "output/timeline.h"

#include <stdio.h>

typedef struct plan_report {
    const char *target;
    const batch_spec *spec;
    machine machine;
    const pod_device *device;
    const pod_plan *plan;
    pod_plan_info info;
    size_t workspace_bytes;
    double build_us; /**< of pod_plan_build() on this host */
    timeline timeline;
} plan_report;

/** `max_tickets` of each queue are listed. */
void plan_report_text(const plan_report *report, int64_t max_tickets, FILE *file);
void plan_report_json(const plan_report *report, FILE *file);

#endif
