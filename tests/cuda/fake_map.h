/* SPDX-License-Identifier: Apache-2.0 */
/* What the fake driver keeps of a tensor map in place of the hardware's encoding. */
#ifndef POD_TEST_FAKE_MAP_H
#define POD_TEST_FAKE_MAP_H

#include <stdint.h>

typedef struct fake_map {
    const void *address;
    uint64_t extents[4], strides[3]; /**< strides in bytes */
    uint32_t box[4];
    int32_t type; /**< a CUtensorMapDataType */
} fake_map;

#endif
