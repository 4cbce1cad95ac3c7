/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded random numbers, the same on every machine: xoshiro256++ (Blackman and Vigna), seeded by splitmix64. */
#ifndef CLI_PRNG_H
#define CLI_PRNG_H

#include <math.h>
#include <stdint.h>

typedef struct prng {
    uint64_t state[4];
} prng;

static inline prng prng_seed(uint64_t seed) {
    prng random;
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        random.state[i] = z ^ z >> 31;
    }
    return random;
}

static inline uint64_t prng_rotate(uint64_t value, int bits) {
    return value << bits | value >> (64 - bits);
}

static inline uint64_t prng_next(prng *random) {
    uint64_t *s = random->state, result = prng_rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = prng_rotate(s[3], 45);
    return result;
}

/** In [0, bound); bound from 1 up to 2^32. The bias is below bound / 2^32. */
static inline uint32_t prng_below(prng *random, uint64_t bound) {
    return (uint32_t)((prng_next(random) >> 32) * bound >> 32);
}

/** In (0, 1]. */
static inline double prng_uniform(prng *random) {
    return (double)((prng_next(random) >> 11) + 1) * 0x1p-53;
}

/** Standard normal, by Box and Muller's method. */
static inline double prng_normal(prng *random) {
    double radius = sqrt(-2 * log(prng_uniform(random)));
    return radius * cos(6.283185307179586 * prng_uniform(random));
}

#endif
