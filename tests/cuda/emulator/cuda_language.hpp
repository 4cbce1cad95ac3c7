/* SPDX-License-Identifier: Apache-2.0 */
/* What of CUDA C the kernels use, as C++ for the emulator. Comes before any of their headers. */
#ifndef POD_EMULATOR_CUDA_LANGUAGE_HPP
#define POD_EMULATOR_CUDA_LANGUAGE_HPP

#include "machine.hpp"

extern "C" {
#include "base/dtype.h"
}

#include <cmath>
#include <cstring>
#include <type_traits>

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)

#define blockIdx (emulator::block_index())
#define gridDim (emulator::grid_size())
#define blockDim (emulator::dim3{(unsigned)emulator::cta_threads(), 1, 1})

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
static inline float2 make_float2(float x, float y) {
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
static inline uint2 make_uint2(uint32_t x, uint32_t y) {
    return {x, y};
}
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    return {x, y, z, w};
}

template <class A, class B> static inline typename std::common_type<A, B>::type min(A a, B b) {
    return a < b ? a : b;
}
template <class A, class B> static inline typename std::common_type<A, B>::type max(A a, B b) {
    return a > b ? a : b;
}
template <class T> static inline T __ldg(const T *from) {
    return *from;
}
template <class T> static inline T __ldcg(const T *from) {
    return *from;
}
/** Four bytes of eight; no sign is copied. */
static inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
    uint64_t bytes = low | (uint64_t)high << 32;
    uint32_t picked = 0;
    for (unsigned i = 0; i < 4; i++) picked |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return picked;
}
static inline int __popc(uint32_t x) {
    return __builtin_popcount(x);
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline int __float_as_int(float x) {
    return (int)pod__float_to_bits(x);
}
static inline float __uint_as_float(uint32_t bits) {
    return pod__float_from_bits(bits);
}
static inline float __int_as_float(int bits) {
    return pod__float_from_bits((uint32_t)bits);
}

/* ---- memory that threads share: one thread runs at a time ---- */

template <class T, class UPDATE> static inline T change(T *place, const UPDATE &update) {
    T before = *place;
    *place = (T)update(before);
    return before;
}
template <class T, class U> static inline T atomicAdd(T *place, U value) {
    return change(place, [=](T before) { return before + (T)value; });
}
template <class T, class U> static inline T atomicSub(T *place, U value) {
    return change(place, [=](T before) { return before - (T)value; });
}
template <class T, class U> static inline T atomicOr(T *place, U value) {
    return change(place, [=](T before) { return before | (T)value; });
}
template <class T, class U> static inline T atomicExch(T *place, U value) {
    return change(place, [=](T) { return (T)value; });
}
static inline void __threadfence() {
}
static inline void __nanosleep(unsigned) {
    emulator::yield();
}

/* ---- the warp ---- */

static inline const uint32_t (*meet_with(uint32_t word))[emulator::SHARED_WORDS] {
    const uint32_t words[emulator::SHARED_WORDS] = {word};
    return emulator::meet(words);
}
static inline unsigned own_lane_index() {
    return (unsigned)emulator::self()->tid % emulator::WARP_LANES;
}
static inline void __syncwarp() {
    meet_with(0);
}
static inline uint32_t __ballot_sync(uint32_t, bool vote) {
    const uint32_t(*all)[emulator::SHARED_WORDS] = meet_with(vote);
    uint32_t votes = 0;
    for (unsigned lane = 0; lane < emulator::WARP_LANES; lane++) votes |= all[lane][0] << lane;
    return votes;
}
static inline bool __any_sync(uint32_t mask, bool vote) {
    return __ballot_sync(mask, vote) != 0;
}
template <class T> static inline T shuffle(T value, unsigned from_lane) {
    uint32_t word = 0;
    static_assert(sizeof value <= sizeof word, "one word");
    memcpy(&word, &value, sizeof value);
    word = meet_with(word)[from_lane % emulator::WARP_LANES][0];
    memcpy(&value, &word, sizeof value);
    return value;
}
template <class T> static inline T __shfl_sync(uint32_t, T value, int lane) {
    return shuffle(value, (unsigned)lane);
}
template <class T> static inline T __shfl_xor_sync(uint32_t, T value, int mask) {
    return shuffle(value, own_lane_index() ^ (unsigned)mask);
}

#endif
