/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of 8 floats, with FMA and F16C. head_dim is a multiple of 8, so every vector is full: `count` is not read. */
#ifndef POD_CPU_SIMD_AVX2_H
#define POD_CPU_SIMD_AVX2_H

#include "base/dtype.h"

#include <immintrin.h>

enum { LANES = 8, MMA_VECS = 2 };

typedef __m256 vec;
typedef int32_t vec_int __attribute__((vector_size(32)));

static inline vec vec_zero(void) {
    return _mm256_setzero_ps();
}

static inline vec vec_set1(float value) {
    return _mm256_set1_ps(value);
}

static inline vec vec_load(const float *from) {
    return _mm256_loadu_ps(from);
}

static inline void vec_store(float *to, vec value) {
    _mm256_storeu_ps(to, value);
}

static inline vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

/** Where either is a NaN: b. */
static inline vec vec_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}

static inline float vec_first(vec a) {
    return _mm256_cvtss_f32(a);
}

static inline float vec_reduce_max(vec a) {
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

static inline float vec_reduce_add(vec a) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/** e4m3 to float. Its bits are those of an f16 of 2^-8 times the value, but for NaN: adding 1 there carries into the
 * bit of the exponent that f16 has more, as it does nowhere else. Subnormals need no care, whatever the processor's
 * modes: conversions from f16 know none. */
static inline vec vec_from_f8(__m128i bytes) {
    __m128i fields = _mm_slli_epi16(_mm_cvtepi8_epi16(bytes), 7); /* the sign is there twice */
    __m128i next = _mm_add_epi16(fields, _mm_set1_epi16(0x80));
    __m128i half = _mm_xor_si128(fields, _mm_and_si128(next, _mm_set1_epi16(0x4000)));
    return _mm256_cvtph_ps(half) * vec_set1(0x1p8f);
}

/** Elements widened to float. */
static inline vec vec_load_as(const void *from, pod_dtype dtype, int32_t count) {
    (void)count;
    if (dtype == POD_F32) return _mm256_loadu_ps(from);
    if (dtype == POD_F8E4M3) return vec_from_f8(_mm_loadl_epi64(from));
    __m128i halves = _mm_loadu_si128(from);
    if (dtype == POD_F16) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

static inline __m128i vec_to_bf16(vec value) {
    __m256i bits = _mm256_castps_si256(value), one = _mm256_set1_epi32(1);
    __m256i is_odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, is_odd), _mm256_set1_epi32(0x7fff));
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), is_nan);
    rounded = _mm256_srli_epi32(rounded, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

/** Elements narrowed, ties to even. */
static inline void vec_store_as(void *to, pod_dtype dtype, int32_t count, vec value) {
    (void)count;
    if (dtype == POD_F32)
        _mm256_storeu_ps(to, value);
    else if (dtype == POD_F16)
        _mm_storeu_si128(to, _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    else
        _mm_storeu_si128(to, vec_to_bf16(value));
}

/** Lane i becomes the sum of a[i]'s lanes. */
static inline vec vec_sum_each(const vec a[LANES]) {
    vec low = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
    vec high = _mm256_hadd_ps(_mm256_hadd_ps(a[4], a[5]), _mm256_hadd_ps(a[6], a[7]));
    return _mm256_permute2f128_ps(low, high, 0x20) + _mm256_permute2f128_ps(low, high, 0x31);
}

/** Lane j of a[i] becomes lane i of a[j]. */
static inline void vec_transpose(vec a[LANES]) {
    vec b[LANES];
    for (int i = 0; i < LANES; i += 4) { /* 4 x 4 words inside each half */
        vec ab_low = _mm256_unpacklo_ps(a[i], a[i + 1]), ab_high = _mm256_unpackhi_ps(a[i], a[i + 1]);
        vec cd_low = _mm256_unpacklo_ps(a[i + 2], a[i + 3]), cd_high = _mm256_unpackhi_ps(a[i + 2], a[i + 3]);
        b[i] = _mm256_shuffle_ps(ab_low, cd_low, 0x44);
        b[i + 1] = _mm256_shuffle_ps(ab_low, cd_low, 0xee);
        b[i + 2] = _mm256_shuffle_ps(ab_high, cd_high, 0x44);
        b[i + 3] = _mm256_shuffle_ps(ab_high, cd_high, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        a[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        a[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

#endif
