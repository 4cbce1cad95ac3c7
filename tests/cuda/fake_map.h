/* SPDX-License-Identifier: Apache-2.0 */
/* What the fake driver keeps of a tensor map in place of the hardware's encoding. */
#ifndef POD_TEST_FAKE_MAP_H
#define POD_TEST_FAKE_MAP_H

#include <stdint.h>

enum { FAKE_MAP_RANK = 5 };

typedef struct fake_map {
    const void *address;
    uint32_t extents[FAKE_MAP_RANK];     /**< less 1 */
    uint64_t strides[FAKE_MAP_RANK - 1]; /**< in bytes */
    uint16_t box[FAKE_MAP_RANK];
    uint8_t rank;
    uint8_t is_bf16; /**< or f16 */
} fake_map;

#endif
