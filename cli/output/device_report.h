/* SPDX-License-Identifier: Apache-2.0 */
/* What computed, in words and in JSON. */
#ifndef CLI_DEVICE_REPORT_H
#define CLI_DEVICE_REPORT_H

#include "output/json_writer.h"
#include "podattn.h"

/** "device    cpu: AMD EPYC, avx512-bf16, threads: 2", without a newline. */
void device_report_text(const pod_device_info *device, const char *kernel, FILE *file);

/** `kernel_note` is NULL where there is no such field. */
void device_report_json(const pod_device_info *device, const char *kernel, const char *kernel_note, json_writer *json);

#endif
