/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

static const machine machines[] = {
    /* Measured on an H100 80GB with 132 SMs: 640 TFLOP/s, 3.10 TB/s, and 22 % of the shorter side when both run. */
    {"h100", "CTA", 1, 2, 1, 640.0 / 132, 3100.0 / 132, 0.22},
    {"sms=", "CTA", 1, 2, 1, 640.0 / 132, 3100.0 / 132, 0.22},
    /* Assumed: 70 % of the data sheet's 312 TFLOP/s and 90 % of its 2.04 TB/s, over 108 SMs. */
    {"a100", "SM", 2, 2, 0, 218.0 / 108, 1836.0 / 108, 0.22},
    /* Assumed: a server core with AVX-512. */
    {"cpu", "worker", 1, 1, 0, 0.06, 8.0, 0},
};

const machine *machine_find(const char *target) {
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        if (strncmp(target, machines[i].target, strlen(machines[i].target)) == 0) return &machines[i];
    }
    return &machines[0];
}
