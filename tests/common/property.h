/* SPDX-License-Identifier: Apache-2.0 */
/* Property tests: a property is checked on many seeded random cases. Case i runs with seed + i, so that a failure is
 * replayed alone by PODATTN_SEED=<its seed> PODATTN_COUNT=1. */
#ifndef POD_TEST_PROPERTY_H
#define POD_TEST_PROPERTY_H

#include "rng.h"

#include <stdio.h>
#include <stdlib.h>

/** Says what does not hold and ends the case. */
#define PROPERTY(condition, ...)                                                                                       \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #condition);                                    \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "\n");                                                                                     \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

static inline uint64_t property_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : otherwise;
}

/** Runs `count` cases; a case returns non-zero when the property does not hold. Returns the exit code. */
static inline int property_run(const char *name, uint64_t count, int (*run)(test_rng *rng, void *context),
                               void *context) {
    uint64_t seed = property_environment("PODATTN_SEED", 1);
    count = property_environment("PODATTN_COUNT", count);
    printf("%s: seed %llu, %llu cases\n", name, (unsigned long long)seed, (unsigned long long)count);
    fflush(stdout);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t case_seed = seed + i;
        test_rng rng = {case_seed};
        rng_next(&rng);
        if (run(&rng, context) != 0) {
            fprintf(stderr, "%s: FAILED; again with PODATTN_SEED=%llu PODATTN_COUNT=1\n", name,
                    (unsigned long long)case_seed);
            return EXIT_FAILURE;
        }
    }
    printf("%s: holds\n", name);
    return EXIT_SUCCESS;
}

#endif
