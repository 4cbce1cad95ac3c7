/* SPDX-License-Identifier: Apache-2.0 */
/* The 8-bit format e4m3: sign, 4 bits of exponent (bias 7), 3 of fraction. It has no infinity; 0x7f and 0xff are NaN,
 * the largest number is 448, the smallest normal one 2^-6, the smallest of all 2^-9. */
#ifndef POD_BASE_F8_H
#define POD_BASE_F8_H

#include "base/float_bits.h"

/** Exact. */
static inline float pod__f8e4m3_to_float(uint8_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x80u) << 24, exponent = (bits >> 3) & 0xfu, fraction = bits & 7u;
    if ((bits & 0x7fu) == 0x7fu) return pod__float_from_bits(sign | 0x7fc00000u);
    if (exponent != 0) return pod__float_from_bits(sign | (exponent + 120u) << 23 | fraction << 20);
    float magnitude = (float)fraction * 0x1p-9f; /* subnormal or zero */
    return sign ? -magnitude : magnitude;
}

/** To the nearest, of two the even one. What is larger than 448, infinity too, becomes 448; a NaN becomes 0x7f. So does
 * the instruction of GPUs that have one. */
static inline uint8_t pod__float_to_f8e4m3(float value) {
    uint32_t bits = pod__float_to_bits(value), magnitude = bits & 0x7fffffffu;
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80u);
    if (magnitude > 0x7f800000u) return 0x7f;
    if (magnitude >= 0x43e00000u) return (uint8_t)(sign | 0x7eu); /* 448 or more */
    if (magnitude < 0x3c800000u) {                                /* below 2^-6 */
        /* Adding 2^14 lines the fraction up with the last bit of a subnormal number, and rounds it. */
        uint32_t shifted = pod__float_to_bits(pod__float_from_bits(magnitude) + 0x1p14f);
        return (uint8_t)(sign | (shifted - 0x46800000u));
    }
    uint32_t rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1u);
    return (uint8_t)(sign | ((rounded - 0x3c000000u) >> 20));
}

#endif
