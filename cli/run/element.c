/* SPDX-License-Identifier: Apache-2.0 */
#include "run/element.h"

#include <math.h>

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float load_f16(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    float magnitude = exponent == 0 ? ldexpf((float)fraction, -24) : ldexpf((float)(1024 + fraction), exponent - 25);
    if (exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
    return half & 0x8000 ? -magnitude : magnitude;
}

static uint16_t store_f16(float value) {
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000;
    float magnitude = fabsf(value);
    if (magnitude < 0x1p-14f) return (uint16_t)(sign | (uint32_t)lrintf(magnitude * 0x1p24f)); /* subnormal */
    if (magnitude >= 65520.0f) return (uint16_t)(sign | 0x7c00);
    /* The exponent field moves from a bias of 127 to 15, and 13 of the 23 fraction bits are rounded away. */
    uint32_t moved = (bits & 0x7fffffff) - (112u << 23);
    return (uint16_t)(sign | (moved + 0xfff + (moved >> 13 & 1)) >> 13);
}

static uint16_t store_bf16(float value) {
    uint32_t bits = bits_of(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float element_load(const void *array, pod_dtype dtype, int64_t index) {
    if (dtype == POD_F32) return ((const float *)array)[index];
    uint16_t half = ((const uint16_t *)array)[index];
    return dtype == POD_F16 ? load_f16(half) : float_of((uint32_t)half << 16);
}

void element_store(void *array, pod_dtype dtype, int64_t index, float value) {
    if (dtype == POD_F32) {
        ((float *)array)[index] = value;
    } else {
        ((uint16_t *)array)[index] = dtype == POD_F16 ? store_f16(value) : store_bf16(value);
    }
}
