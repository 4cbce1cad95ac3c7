/* SPDX-License-Identifier: Apache-2.0 */
#include "api/structs.h"
#include "backend/backend.h"
#include "base/status.h"

#include <stdio.h>

/** The first GPU if it works, else the CPU; says which and why in the note. */
static pod_status auto_open(const char *argument, pod_device **device) {
    if (*argument != '\0') return pod__fail(POD_E_ARGUMENT, "name = \"auto:%.32s\": auto takes no argument", argument);
    char message[512]; /* a call that succeeds leaves the thread's message alone */
    snprintf(message, sizeof message, "%s", pod_error_message());
    if (pod__cuda_open("0", device) == POD_OK) {
        snprintf((*device)->note, sizeof(*device)->note, "the first GPU works");
        return POD_OK;
    }
    char reason[512];
    snprintf(reason, sizeof reason, "%s", pod_error_message());
    POD_TRY(pod__cpu_open("", device));
    snprintf((*device)->note, sizeof(*device)->note, "no GPU: %.240s", reason);
    return pod__fail(POD_OK, "%s", message);
}

/** The backends by the word before the colon. */
static const struct {
    const char *word;
    pod_status (*open)(const char *argument, pod_device **device);
} backends[] = {
    {"auto", auto_open},
    {"cpu", pod__cpu_open},
    {"cuda", pod__cuda_open},
    {"sim", pod__sim_open},
};

pod_status pod_device_open(const char *name, pod_device **device) {
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    *device = NULL;
    if (name == NULL) return pod__fail(POD_E_ARGUMENT, "name is NULL");
    size_t word_length = strcspn(name, ":");
    const char *argument = name[word_length] == ':' ? name + word_length + 1 : "";
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++) {
        if (strlen(backends[i].word) == word_length && memcmp(backends[i].word, name, word_length) == 0) {
            if (name[word_length] == ':' && *argument == '\0') {
                return pod__fail(POD_E_ARGUMENT, "name = \"%.64s\": nothing follows the colon", name);
            }
            return backends[i].open(argument, device);
        }
    }
    return pod__fail(POD_E_ARGUMENT,
                     "name = \"%.64s\" is no device; known are auto, cpu, cpu:THREADS, cpu:isa=NAME, "
                     "cuda:N, sim:TARGET",
                     name);
}

void pod_device_close(pod_device *device) {
    if (device != NULL) device->backend->close(device);
}

pod_status pod_device_get_info(const pod_device *device, pod_device_info *info) {
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    pod_device_info made = pod_device_info_init();
    snprintf(made.note, sizeof made.note, "%s", device->note);
    device->backend->get_info(device, &made);
    return pod__give_struct(&pod__device_info_layouts, &made, info);
}

pod_status pod_device_measure_peak(const pod_device *device, pod_device_peak *peak) {
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    pod_device_peak made = pod_device_peak_init();
    POD_TRY(pod__give_struct(&pod__device_peak_layouts, &made, peak)); /* before seconds are spent */
    if (device->backend->measure_peak == NULL) {
        return pod__fail(POD_E_UNSUPPORTED, "this device computes nothing that could be measured");
    }
    POD_TRY(device->backend->measure_peak(device, &made));
    return pod__give_struct(&pod__device_peak_layouts, &made, peak);
}
