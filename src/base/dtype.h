/* SPDX-License-Identifier: Apache-2.0 */
/* One element at a time between memory and float: exact widening, round-to-nearest-even narrowing. */
#ifndef POD_CORE_DTYPE_H
#define POD_CORE_DTYPE_H

#include "base/f8.h"
#include "base/float_bits.h"
#include "podattn.h"

static inline float pod__bf16_to_float(uint16_t bits) {
    return pod__float_from_bits((uint32_t)bits << 16);
}

static inline uint16_t pod__float_to_bf16(float value) {
    uint32_t bits = pod__float_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u); /* a NaN stays one */
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float pod__f16_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
    if (exponent == 31) return pod__float_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return pod__float_from_bits(sign | (exponent + 112u) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f; /* subnormal or zero: exact */
    return sign ? -magnitude : magnitude;
}

static inline uint16_t pod__float_to_f16(float value) {
    uint32_t bits = pod__float_to_bits(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (magnitude < 0x38800000u) {                                   /* below the smallest normal half */
        /* Adding 0.5 lines the fraction up with the last bit of a subnormal half, and rounds it. */
        uint32_t shifted = pod__float_to_bits(pod__float_from_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (shifted - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

/** Element `index` of an array of `dtype`. */
static inline float pod__load(const void *array, pod_dtype dtype, int64_t index) {
    if (dtype == POD_F32) return ((const float *)array)[index];
    if (dtype == POD_F8E4M3) return pod__f8e4m3_to_float(((const uint8_t *)array)[index]);
    uint16_t half = ((const uint16_t *)array)[index];
    return dtype == POD_BF16 ? pod__bf16_to_float(half) : pod__f16_to_float(half);
}

static inline void pod__store(void *array, pod_dtype dtype, int64_t index, float value) {
    if (dtype == POD_F32) {
        ((float *)array)[index] = value;
    } else if (dtype == POD_F8E4M3) {
        ((uint8_t *)array)[index] = pod__float_to_f8e4m3(value);
    } else {
        ((uint16_t *)array)[index] = dtype == POD_BF16 ? pod__float_to_bf16(value) : pod__float_to_f16(value);
    }
}

#endif
