/* SPDX-License-Identifier: Apache-2.0 */
/* A float's bits, and a float of bits. */
#ifndef POD_BASE_FLOAT_BITS_H
#define POD_BASE_FLOAT_BITS_H

#include <stdint.h>
#include <string.h>

static inline float pod__float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t pod__float_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#endif
