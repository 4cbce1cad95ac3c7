/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of 4 floats in the compilers' own vector notation: SSE2, NEON or plain code, whatever the target has. Every
 * vector is full: `count` is not read. */
#ifndef POD_CPU_SIMD_GENERIC_H
#define POD_CPU_SIMD_GENERIC_H

#include "base/dtype.h"

#include <math.h>

enum { LANES = 4, MMA_VECS = 2 };

typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));

static inline vec vec_set1(float value) {
    return (vec){value, value, value, value};
}

static inline vec vec_zero(void) {
    return vec_set1(0);
}

static inline vec vec_load(const float *from) {
    vec value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void vec_store(float *to, vec value) {
    memcpy(to, &value, sizeof value);
}

static inline vec vec_fma(vec a, vec b, vec c) {
    return a * b + c;
}

/** Where either is a NaN: b. */
static inline vec vec_max(vec a, vec b) {
    vec_int is_a = a > b;
    return (vec)(((vec_int)a & is_a) | ((vec_int)b & ~is_a));
}

static inline float vec_first(vec a) {
    return a[0];
}

static inline float vec_reduce_max(vec a) {
    float low = a[0] > a[1] ? a[0] : a[1], high = a[2] > a[3] ? a[2] : a[3];
    return low > high ? low : high;
}

static inline float vec_reduce_add(vec a) {
    return (a[0] + a[1]) + (a[2] + a[3]);
}

/** f16 to float: the exponent's bias changes by a product, which also normalises what was subnormal. */
static inline vec vec_from_f16(vec_int half) {
    vec_int magnitude = (half & 0x7fff) << 13, is_special = magnitude >= 0x0f800000; /* infinity or NaN */
    vec_int value = (vec_int)((vec)magnitude * vec_set1(0x1p112f));
    /* cppcheck-suppress integerOverflow ; a vector's elements wrap */
    return (vec)(value | (is_special & 0x7f800000) | (half & 0x8000) << 16);
}

/* e4m3 to float, by the byte: faster than arithmetic on vectors of four, and without floats that are subnormal, which
 * are slow, and zeros in some programs. */
#define F8(sign, e, m) ((sign) * (float)((e) > 0 ? (8 + (m)) << ((e) > 0 ? (e)-1 : 0) : (m)) / 512)
#define F8_7(sign, e)                                                                                                  \
    F8(sign, e, 0), F8(sign, e, 1), F8(sign, e, 2), F8(sign, e, 3), F8(sign, e, 4), F8(sign, e, 5), F8(sign, e, 6)
#define F8_8(sign, e) F8_7(sign, e), F8(sign, e, 7)
#define F8_64(sign, e)                                                                                                 \
    F8_8(sign, e), F8_8(sign, e + 1), F8_8(sign, e + 2), F8_8(sign, e + 3), F8_8(sign, e + 4), F8_8(sign, e + 5),      \
        F8_8(sign, e + 6), F8_7(sign, e + 7)
static const float f8_values[256] = {
    F8_64(1.0f, 0),  F8(1.0f, 7, 7),  F8_64(1.0f, 8),  NAN, /* where 480 would be */
    F8_64(-1.0f, 0), F8(-1.0f, 7, 7), F8_64(-1.0f, 8), NAN,
};
#undef F8_64
#undef F8_8
#undef F8_7
#undef F8

/** Elements widened to float. */
static inline vec vec_load_as(const void *from, pod_dtype dtype, int32_t count) {
    (void)count;
    if (dtype == POD_F32) return vec_load(from);
    if (dtype == POD_F8E4M3) {
        const uint8_t *bytes = from;
        return (vec){f8_values[bytes[0]], f8_values[bytes[1]], f8_values[bytes[2]], f8_values[bytes[3]]};
    }
    uint16_t halves __attribute__((vector_size(8)));
    memcpy(&halves, from, sizeof halves);
    vec_int words = __builtin_convertvector(halves, vec_int);
    return dtype == POD_F16 ? vec_from_f16(words) : (vec)(words << 16);
}

/** Elements narrowed, ties to even. */
static inline void vec_store_as(void *to, pod_dtype dtype, int32_t count, vec value) {
    (void)count;
    for (int i = 0; i < LANES; i++) pod__store(to, dtype, i, value[i]);
}

/** Lane i becomes the sum of a[i]'s lanes. */
static inline vec vec_sum_each(const vec a[LANES]) {
    return (vec){vec_reduce_add(a[0]), vec_reduce_add(a[1]), vec_reduce_add(a[2]), vec_reduce_add(a[3])};
}

/** Lane j of a[i] becomes lane i of a[j]. */
static inline void vec_transpose(vec a[LANES]) {
    vec b[LANES];
    for (int i = 0; i < LANES; i++) b[i] = (vec){a[0][i], a[1][i], a[2][i], a[3][i]};
    for (int i = 0; i < LANES; i++) a[i] = b[i];
}

#endif
