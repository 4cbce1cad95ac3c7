/* SPDX-License-Identifier: Apache-2.0 */
#include "output/device_report.h"

void device_report_text(const pod_device_info *device, const char *kernel, FILE *file) {
    fprintf(file, "device    %s: %s, %s", device->backend, device->name, kernel);
    if (device->num_threads > 0) fprintf(file, ", threads: %d", device->num_threads);
}

void device_report_json(const pod_device_info *device, const char *kernel, const char *kernel_note, json_writer *json) {
    json_begin_row(json, "device");
    json_text(json, "backend", device->backend);
    json_text(json, "name", device->name);
    json_text(json, "kernel", kernel);
    if (kernel_note != NULL) json_text(json, "kernel_note", kernel_note);
    json_int(json, "num_threads", device->num_threads);
    json_end_object(json);
}
