/* SPDX-License-Identifier: Apache-2.0 */
#include "output/machine.h"

#define SM90_TEXT                                                                                                      \
    "Each row is a pair of CTAs, its upper lane prefill, its lower lane decode: where both are full, compute and "     \
    "memory are busy at once."

#define SM80_TEXT "Each row is an SM with two CTAs: where one is prefill and one decode, compute and memory are busy."

static const machine machines[] = {
    /* Measured on an H100 80GB with 132 SMs: 640 TFLOP/s, 3.10 TB/s, and 22 % of the shorter side when both run. */
    {"h100", "sm90", "pair", SM90_TEXT, 2, 2, 1, 640.0 / 66, 3100.0 / 66, 0.22},
    {"sms=", "sm90", "pair", SM90_TEXT, 2, 2, 1, 640.0 / 66, 3100.0 / 66, 0.22},
    /* The same chip as the sm_80 kernel was measured on it: 320 TFLOP/s of prefill alone. */
    {"h100", "sm80", "SM", SM80_TEXT, 2, 2, 0, 320.0 / 132, 3100.0 / 132, 0.22},
    {"sms=", "sm80", "SM", SM80_TEXT, 2, 2, 0, 320.0 / 132, 3100.0 / 132, 0.22},
    /* Assumed: 70 % of the data sheet's 312 TFLOP/s and 90 % of its 2.04 TB/s, over 108 SMs. */
    {"a100", "sm80", "SM", SM80_TEXT, 2, 2, 0, 218.0 / 108, 1836.0 / 108, 0.22},
    /* Assumed: a server core with AVX-512. */
    {"cpu", "cpu", "worker", "Each row is a worker that takes one piece of work after the other.", 1, 1, 0, 0.06, 8.0,
     0},
};

const machine *machine_find(const char *target, const char *kernel) {
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        const machine *m = &machines[i];
        if (strncmp(target, m->target, strlen(m->target)) == 0 && strcmp(kernel, m->kernel) == 0) return m;
    }
    return &machines[0];
}
