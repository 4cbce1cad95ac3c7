/* SPDX-License-Identifier: Apache-2.0 */
/* One random pod_cache_append(): everything that a device reads or writes is in one arena, which tests copy to wherever
 * the device's memory is. Afterwards each row is held against the oracle, and every other byte has to be as before. */
#ifndef POD_TEST_APPEND_CASE_H
#define POD_TEST_APPEND_CASE_H

#include "podattn.h"
#include "random_batch.h"

#include <stddef.h>

/** The call with all its pointers into one arena. */
typedef struct append_call {
    pod_batch batch;
    pod_mask mask;
    pod_rope rope;
    pod_append append;
    pod_cache cache;
} append_call;

typedef struct append_case {
    pod_limits limits; /**< kv_dtype may be f8e4m3 */
    append_call host;
    unsigned char *arena;
    size_t arena_bytes;
    int32_t needs_build; /**< 0: the plan needs no build */
    int32_t bad_token;   /**< the only one whose slot, position or pad is wrong; -1: none */
    double angle_error;  /**< of cosine and sine */
    int64_t *slots;      /**< the oracle's, as are the next three */
    double *k, *v, *q;
} append_case;

typedef struct append_bounds {
    int32_t max_requests, max_q_tokens, max_kv_len;
    const pod_device *device; /**< NULL, or the GPU: dtypes, head sizes, alignment and strides as it takes them */
} append_bounds;

/** Returns 0 if there is no memory. Free it also then. */
int append_case_make(append_case *c, test_rng *rng, const append_bounds *bounds);
void append_case_free(append_case *c);

/** The call on a copy of the arena at `base`; structs of `moved` point to each other. */
void append_case_move(const append_case *c, unsigned char *base, append_call *moved);

/** Expects the tokens of a request to be left out. */
void append_case_drop_request(append_case *c, int32_t r);

/** Whether `after`, the arena that came back, has what the oracle says, and nothing else has changed. Prints what
 * differs. */
int append_case_check(const append_case *c, const unsigned char *after);

/** What the case is, in one line. */
void append_case_print(const append_case *c);

#endif
