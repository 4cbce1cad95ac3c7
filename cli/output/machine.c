/* SPDX-License-Identifier: Apache-2.0 */
#include "output/machine.h"

#define SM90_TEXT                                                                                                      \
    "Each row is a pair of CTAs. Upper lane: prefill, which computes. Lower lane: decode, which reads memory. Both "   \
    "full "                                                                                                            \
    "is best."

#define SM80_TEXT                                                                                                      \
    "Each row is an SM, each lane one of its CTAs: where both kinds of work are, compute and memory are busy."

#define SM90MLA_TEXT "Each row is an SM, whose CTA takes one piece of work after the other."

/** How fast a row of a target is with the kernels of a family. */
static const struct {
    const char *target; /**< what its name begins with */
    const char *family;
    const char *row_text;
    double row_tflops, row_gb_per_s, corun_penalty;
} speeds[] = {
    /* Measured on an H100 80GB with 132 SMs: 640 TFLOP/s, 3.10 TB/s, and 22 % of the shorter side when both run. */
    {"h100", "sm90", SM90_TEXT, 640.0 / 66, 3100.0 / 66, 0.22},
    {"sms=", "sm90", SM90_TEXT, 640.0 / 66, 3100.0 / 66, 0.22},
    /* The same chip, whose SMs share nothing here. */
    {"h100", "sm90mla", SM90MLA_TEXT, 640.0 / 132, 3100.0 / 132, 0},
    {"sms=", "sm90mla", SM90MLA_TEXT, 640.0 / 132, 3100.0 / 132, 0},
    /* The same chip as the sm_80 kernel was measured on it: 320 TFLOP/s of prefill alone. */
    {"h100", "sm80", SM80_TEXT, 320.0 / 132, 3100.0 / 132, 0.22},
    {"sms=", "sm80", SM80_TEXT, 320.0 / 132, 3100.0 / 132, 0.22},
    /* Assumed: 70 % of the data sheet's 312 TFLOP/s and 90 % of its 2.04 TB/s, over 108 SMs. */
    {"a100", "sm80", SM80_TEXT, 218.0 / 108, 1836.0 / 108, 0.22},
    /* Assumed: a server core with AVX-512. */
    {"cpu", "cpu", "Each row is a worker that takes one piece of work after the other.", 0.06, 8.0, 0},
};

typedef struct kernel_search {
    const char *name;
    pod_kernel_info found;
} kernel_search;

static int is_searched(void *context, const pod_kernel_info *info) {
    kernel_search *search = context;
    if (strcmp(info->name, search->name) != 0) return 0;
    search->found = *info;
    return 1;
}

machine machine_find(const pod_device *device, const char *target, const char *kernel) {
    kernel_search search = {kernel, pod_kernel_info_init()};
    pod_device_visit_kernels(device, is_searched, &search);
    size_t i = 0, count = sizeof speeds / sizeof speeds[0];
    while (i < count && (strncmp(target, speeds[i].target, strlen(speeds[i].target)) != 0 ||
                         strcmp(search.found.family, speeds[i].family) != 0)) {
        i++;
    }
    if (i == count) i = 0;
    return (machine){search.found, speeds[i].row_text, speeds[i].row_tflops, speeds[i].row_gb_per_s,
                     speeds[i].corun_penalty};
}
