/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of 16 floats. With POD_CPU_PAIRS also dot products of bf16 pairs (AVX512_BF16). */
#ifndef POD_CPU_SIMD_AVX512_H
#define POD_CPU_SIMD_AVX512_H

#include "base/dtype.h"

#include <immintrin.h>

enum { LANES = 16, MMA_VECS = 4 };

typedef __m512 vec;
typedef int32_t vec_int __attribute__((vector_size(64)));

static inline vec vec_zero(void) {
    return _mm512_setzero_ps();
}

static inline vec vec_set1(float value) {
    return _mm512_set1_ps(value);
}

static inline vec vec_load(const float *from) {
    return _mm512_loadu_ps(from);
}

static inline void vec_store(float *to, vec value) {
    _mm512_storeu_ps(to, value);
}

static inline vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

/** Where either is a NaN: b. */
static inline vec vec_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}

static inline float vec_first(vec a) {
    return _mm512_cvtss_f32(a);
}

static inline float vec_reduce_max(vec a) {
    return _mm512_reduce_max_ps(a);
}

static inline float vec_reduce_add(vec a) {
    return _mm512_reduce_add_ps(a);
}

static inline __mmask16 first_lanes(int32_t count) {
    return (__mmask16)(count >= LANES ? 0xffffu : (1u << count) - 1);
}

/** `count` (1..LANES) 32-bit words as they are; zeros behind. */
static inline vec vec_load_words(const void *from, int32_t count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), from);
}

/** e4m3 to float. Its bits are those of an f16 of 2^-8 times the value, but for NaN: adding 1 there carries into the
 * bit of the exponent that f16 has more, as it does nowhere else. Subnormals need no care, whatever the processor's
 * modes: conversions from f16 know none. */
static inline vec vec_from_f8(__m128i bytes) {
    __m256i fields = _mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 7); /* the sign is there twice */
    __m256i next = _mm256_add_epi16(fields, _mm256_set1_epi16(0x80));
    enum { XOR_WHERE_SET = 0x78 }; /* fields ^ (next & 0x4000) */
    __m256i half = _mm256_ternarylogic_epi32(fields, next, _mm256_set1_epi16(0x4000), XOR_WHERE_SET);
    return _mm512_cvtph_ps(half) * vec_set1(0x1p8f);
}

/** `count` elements widened to float; zeros behind. */
static inline vec vec_load_as(const void *from, pod_dtype dtype, int32_t count) {
    __mmask16 lanes = first_lanes(count);
    if (dtype == POD_F32) return _mm512_maskz_loadu_ps(lanes, from);
    if (dtype == POD_F8E4M3) return vec_from_f8(_mm_maskz_loadu_epi8(lanes, from));
    __m256i halves = _mm256_maskz_loadu_epi16(lanes, from);
    if (dtype == POD_F16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

static inline __m256i vec_to_bf16(vec value) {
    __m512i bits = _mm512_castps_si512(value), one = _mm512_set1_epi32(1);
    __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, is_odd), _mm512_set1_epi32(0x7fff));
    __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

/** `count` elements narrowed, ties to even. */
static inline void vec_store_as(void *to, pod_dtype dtype, int32_t count, vec value) {
    __mmask16 lanes = first_lanes(count);
    if (dtype == POD_F32)
        _mm512_mask_storeu_ps(to, lanes, value);
    else if (dtype == POD_F16)
        _mm256_mask_storeu_epi16(to, lanes, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    else
        _mm256_mask_storeu_epi16(to, lanes, vec_to_bf16(value));
}

/** Lane i becomes the sum of a[i]'s lanes. */
static inline vec vec_sum_each(const vec a[LANES]) {
    vec quads[4]; /* lane 4j + i of quads[q]: the sum of quarter j of a[4q + i] */
    for (int q = 0; q < 4; q++) {
        vec ab = _mm512_unpacklo_ps(a[4 * q], a[4 * q + 1]) + _mm512_unpackhi_ps(a[4 * q], a[4 * q + 1]);
        vec cd = _mm512_unpacklo_ps(a[4 * q + 2], a[4 * q + 3]) + _mm512_unpackhi_ps(a[4 * q + 2], a[4 * q + 3]);
        __m512d ab_pairs = _mm512_castps_pd(ab), cd_pairs = _mm512_castps_pd(cd);
        quads[q] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_pairs, cd_pairs)) +
                   _mm512_castpd_ps(_mm512_unpackhi_pd(ab_pairs, cd_pairs));
    }
    vec low = _mm512_shuffle_f32x4(quads[0], quads[1], 0x88) + _mm512_shuffle_f32x4(quads[0], quads[1], 0xdd);
    vec high = _mm512_shuffle_f32x4(quads[2], quads[3], 0x88) + _mm512_shuffle_f32x4(quads[2], quads[3], 0xdd);
    return _mm512_shuffle_f32x4(low, high, 0x88) + _mm512_shuffle_f32x4(low, high, 0xdd);
}

/** Lane j of a[i] becomes lane i of a[j]. */
static inline void vec_transpose(vec a[LANES]) {
    vec b[LANES];
    for (int i = 0; i < LANES; i += 4) { /* 4 x 4 words inside each quarter */
        __m512d ab_low = _mm512_castps_pd(_mm512_unpacklo_ps(a[i], a[i + 1]));
        __m512d ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(a[i], a[i + 1]));
        __m512d cd_low = _mm512_castps_pd(_mm512_unpacklo_ps(a[i + 2], a[i + 3]));
        __m512d cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(a[i + 2], a[i + 3]));
        b[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low));
        b[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low));
        b[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
        b[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
    }
    for (int i = 0; i < 4; i++) { /* 4 x 4 quarters */
        vec even_low = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88), odd_low = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
        vec even_high = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
        vec odd_high = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
        a[i] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
        a[i + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
        a[i + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
        a[i + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
}

#ifdef POD_CPU_PAIRS

/** acc + the two products of each lane's bf16 pair. */
static inline vec vec_dot_pairs(vec acc, vec a, vec b) {
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}

/** 2 * LANES floats to LANES words of neighbours. */
static inline vec vec_make_pairs(vec low, vec high) {
    return (vec)_mm512_cvtne2ps_pbh(high, low);
}

/** `count` words of bf16 pairs, neighbours of bf16 or e4m3 (exact): zeros behind. */
static inline vec vec_load_pairs(const void *from, pod_dtype dtype, int32_t count) {
    if (dtype == POD_BF16) return vec_load_words(from, count);
    int32_t rest = count > LANES / 2 ? 2 * count - LANES : 0;
    vec high = rest > 0 ? vec_load_as((const char *)from + LANES, dtype, rest) : vec_zero();
    return vec_make_pairs(vec_load_as(from, dtype, 2 * count - rest), high);
}

/** `count` elements of two rows of bf16 or e4m3, element i of both in word i as bf16. */
static inline vec vec_zip_pairs(const void *even, const void *odd, pod_dtype dtype, int32_t count) {
    if (dtype == POD_F8E4M3) { /* exact: the floats' low halves are zeros */
        __m512i first = _mm512_castps_si512(vec_load_as(even, dtype, count));
        __m512i second = _mm512_castps_si512(vec_load_as(odd, dtype, count));
        return _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32(first, 16), second));
    }
    __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(count), even));
    __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(count), odd));
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

#endif
#endif
