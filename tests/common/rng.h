/* SPDX-License-Identifier: Apache-2.0 */
/* A small seeded generator (splitmix64): the same numbers on every machine. */
#ifndef POD_TEST_RNG_H
#define POD_TEST_RNG_H

#include "base/prng.h"

#include <stdint.h>

typedef struct test_rng {
    uint64_t state;
} test_rng;

static inline uint64_t rng_next(test_rng *rng) {
    return pod__splitmix64(&rng->state);
}

/** A number in [low, high]. */
static inline int32_t rng_range(test_rng *rng, int32_t low, int32_t high) {
    uint64_t span = (uint64_t)((int64_t)high - low) + 1;
    return (int32_t)(low + (int64_t)(rng_next(rng) % span));
}

/** Small numbers are as likely as large ones: uniform in the number of bits, in [low, high], low >= 0. */
static inline int32_t rng_log_range(test_rng *rng, int32_t low, int32_t high) {
    int32_t bits = 0;
    while (bits < 31 && (high - low) >> bits != 0) bits++;
    int32_t below = (int32_t)((UINT64_C(1) << rng_range(rng, 0, bits)) - 1);
    return low + rng_range(rng, 0, below < high - low ? below : high - low);
}

static inline int rng_chance(test_rng *rng, int32_t percent) {
    return rng_range(rng, 0, 99) < percent;
}

static inline int32_t rng_pick(test_rng *rng, const int32_t *choices, int32_t count) {
    return choices[rng_range(rng, 0, count - 1)];
}

/** Roughly normal: mean 0, variance 1, within +-3.5. */
static inline float rng_normal(test_rng *rng) {
    uint64_t bits = rng_next(rng);
    float sum = 0;
    for (int part = 0; part < 4; part++) sum += (float)(bits >> (16 * part) & 0xffffu) * 0x1p-16f;
    return (sum - 2.0f) * 1.7320508f;
}

#endif
