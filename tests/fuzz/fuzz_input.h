/* SPDX-License-Identifier: Apache-2.0 */
/* Reads numbers out of a fuzzer's bytes; zeros when they run out. */
#ifndef POD_TEST_FUZZ_INPUT_H
#define POD_TEST_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct fuzz_input {
    const uint8_t *data;
    size_t size;
} fuzz_input;

static inline uint8_t fuzz_byte(fuzz_input *input) {
    if (input->size == 0) return 0;
    input->size--;
    return *input->data++;
}

/** A number in [low, high] for most bytes, anything for the others. */
static inline int32_t fuzz_number(fuzz_input *input, int32_t low, int32_t high) {
    static const int32_t wild[] = {-1, 0, INT32_MAX, INT32_MIN, 1 << 24, 1 << 30};
    uint8_t byte = fuzz_byte(input);
    if (byte >= 250) return wild[byte - 250];
    return low + (int32_t)((byte | (uint32_t)fuzz_byte(input) << 8) % ((uint32_t)(high - low) + 1));
}

/** What a fuzzer reports: the message, then a crash. */
#define FUZZ_CHECK(condition, ...)                                                                                     \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "not so: %s: ", #condition);                                                               \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
