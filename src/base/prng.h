/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded random numbers, the same on every machine: xoshiro256++ (Blackman and Vigna), seeded by splitmix64. */
#ifndef POD_BASE_PRNG_H
#define POD_BASE_PRNG_H

#include <math.h>
#include <stdint.h>

typedef struct pod_prng {
    uint64_t state[4];
} pod_prng;

/** The next number of the generator whose state this is: splitmix64. */
static inline uint64_t pod__splitmix64(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline pod_prng pod__prng_seed(uint64_t seed) {
    pod_prng random;
    for (int i = 0; i < 4; i++) random.state[i] = pod__splitmix64(&seed);
    return random;
}

static inline uint64_t pod__prng_rotate(uint64_t value, int bits) {
    return value << bits | value >> (64 - bits);
}

static inline uint64_t pod__prng_next(pod_prng *random) {
    uint64_t *s = random->state, result = pod__prng_rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = pod__prng_rotate(s[3], 45);
    return result;
}

/** In [0, bound); bound from 1 up to 2^32. The bias is below bound / 2^32. */
static inline uint32_t pod__prng_below(pod_prng *random, uint64_t bound) {
    return (uint32_t)((pod__prng_next(random) >> 32) * bound >> 32);
}

/** Fills `numbers` with 0 to count - 1 in random order. */
static inline void pod__prng_permute(pod_prng *random, int32_t *numbers, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        uint32_t at = pod__prng_below(random, (uint64_t)i + 1);
        numbers[i] = numbers[at];
        numbers[at] = i;
    }
}

/** In (0, 1]. */
static inline double pod__prng_uniform(pod_prng *random) {
    return (double)((pod__prng_next(random) >> 11) + 1) * 0x1p-53;
}

/** Standard normal, by Box and Muller's method. */
static inline double pod__prng_normal(pod_prng *random) {
    double radius = sqrt(-2 * log(pod__prng_uniform(random)));
    return radius * cos(6.283185307179586 * pod__prng_uniform(random));
}

#endif
