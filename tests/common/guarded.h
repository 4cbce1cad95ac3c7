/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of an exact size between two red zones: what is written there is seen at once under AddressSanitizer and by
 * guarded_intact() elsewhere. */
#ifndef POD_TEST_GUARDED_H
#define POD_TEST_GUARDED_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define POD_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POD_TEST_ASAN 1
#endif
#endif

#ifdef POD_TEST_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(begin, bytes) ((void)(begin), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(begin, bytes) ((void)(begin), (void)(bytes))
#endif

enum { GUARD_BYTES = 4096, GUARD_FILL = 0xa5 };

typedef struct guarded {
    unsigned char *allocation;
    unsigned char *data; /**< aligned to 256 bytes */
    size_t bytes;
} guarded;

/** Memory filled with `fill`; data is NULL if there is none. */
static inline guarded guarded_alloc(size_t bytes, int fill) {
    guarded memory = {NULL, NULL, bytes};
    size_t rounded = (bytes + 255) & ~(size_t)255;
    memory.allocation = aligned_alloc(256, rounded + 2 * (size_t)GUARD_BYTES);
    if (memory.allocation == NULL) return memory;
    memory.data = memory.allocation + GUARD_BYTES;
    memset(memory.allocation, GUARD_FILL, rounded + 2 * (size_t)GUARD_BYTES);
    memset(memory.data, fill, bytes);
    ASAN_POISON_MEMORY_REGION(memory.allocation, GUARD_BYTES);
    ASAN_POISON_MEMORY_REGION(memory.data + bytes, rounded - bytes + GUARD_BYTES);
    return memory;
}

/** 1 if nothing was written outside. */
static inline int guarded_intact(const guarded *memory) {
    size_t behind = ((memory->bytes + 255) & ~(size_t)255) - memory->bytes + GUARD_BYTES;
    ASAN_UNPOISON_MEMORY_REGION(memory->allocation, GUARD_BYTES);
    ASAN_UNPOISON_MEMORY_REGION(memory->data + memory->bytes, behind);
    int intact = 1;
    for (size_t i = 0; i < GUARD_BYTES; i++) intact &= memory->allocation[i] == GUARD_FILL;
    for (size_t i = 0; i < behind; i++) intact &= memory->data[memory->bytes + i] == GUARD_FILL;
    ASAN_POISON_MEMORY_REGION(memory->allocation, GUARD_BYTES);
    ASAN_POISON_MEMORY_REGION(memory->data + memory->bytes, behind);
    return intact;
}

static inline void guarded_free(guarded *memory) {
    if (memory->allocation == NULL) return;
    ASAN_UNPOISON_MEMORY_REGION(memory->allocation, GUARD_BYTES);
    ASAN_UNPOISON_MEMORY_REGION(memory->data + memory->bytes,
                                ((memory->bytes + 255) & ~(size_t)255) - memory->bytes + GUARD_BYTES);
    free(memory->allocation);
    memset(memory, 0, sizeof *memory);
}

#endif
