/* SPDX-License-Identifier: Apache-2.0 */
/* From a model's settings to what the rotation of a position needs. */
#ifndef POD_CACHE_ROPE_H
#define POD_CACHE_ROPE_H

#include "podattn.h"

enum { POD_ROPE_MAX_PAIRS = 128 };

/** Turns by which each pair of elements is rotated per position, modulo 1, in units of 2^-64: a product with a position
 * wraps around as an angle does, so that no position is too large. */
typedef struct pod_rope_turns {
    uint64_t turns[POD_ROPE_MAX_PAIRS];
    int32_t num_pairs;
    float amplitude; /**< cosine and sine are multiplied by it */
} pod_rope_turns;

/** Radians per position of pair `j`. Defaults of the rope are filled in. */
double pod__rope_frequency(const pod_rope *rope, int32_t j);

/** Of a rope without tables. */
pod_rope_turns pod__rope_turns(const pod_rope *rope);

#endif
