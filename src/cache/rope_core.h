/* SPDX-License-Identifier: Apache-2.0 */
/* Cosine and sine of a pair's angle at a position, for gcc, clang and nvcc. The angle is reduced in whole numbers: the
 * product of position and turns wraps around at a whole turn, and loses nothing. What is left is at most an eighth of a
 * turn, where short series are exact to f32. docs/numerics.md has the bound. */
#ifndef POD_CACHE_ROPE_CORE_H
#define POD_CACHE_ROPE_CORE_H

#include "schedule/schedule_core.h"

typedef struct pod_rope_angle {
    float cos, sin;
} pod_rope_angle;

/** `turns` in units of 2^-64. Without branches: loops over pairs are for vectors. */
POD_CORE_FN pod_rope_angle pod_rope_core_angle(uint64_t turns, uint64_t position) {
    uint32_t phase = (uint32_t)((turns * position) >> 32); /* of a turn, in units of 2^-32 */
    uint32_t quarter = (phase + 0x20000000u) >> 30;
    int32_t rest = (int32_t)(phase - (quarter << 30)); /* from the nearest quarter turn on: at most 2^29 */
    float x = (float)rest * 1.4629180792671596e-9f;    /* 2 pi 2^-32 */
    float square = x * x;
    float sine = 2.7557319e-6f; /* 1 / 9!, then -1 / 7!, 1 / 5!, -1 / 3! */
    sine = sine * square - 1.9841270e-4f;
    sine = sine * square + 8.3333333e-3f;
    sine = sine * square - 0.16666667f;
    sine = sine * square * x + x;
    float cosine = -2.7557319e-7f; /* -1 / 10!, then 1 / 8!, -1 / 6!, 1 / 4!, -1 / 2! */
    cosine = cosine * square + 2.4801587e-5f;
    cosine = cosine * square - 1.3888889e-3f;
    cosine = cosine * square + 4.1666667e-2f;
    cosine = cosine * square - 0.5f;
    cosine = cosine * square + 1.0f;
    float first = quarter & 1 ? sine : cosine, second = quarter & 1 ? cosine : sine;
    pod_rope_angle angle;
    angle.cos = (quarter + 1) & 2 ? -first : first;
    angle.sin = quarter & 2 ? -second : second;
    return angle;
}

#endif
