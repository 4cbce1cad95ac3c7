/* SPDX-License-Identifier: Apache-2.0 */
/* A batch as the library takes it: packed starts, lengths, and a page table whose pages are scattered. */
#ifndef CLI_BATCH_ARRAYS_H
#define CLI_BATCH_ARRAYS_H

#include "input/batch_spec.h"

typedef struct batch_arrays {
    pod_batch batch; /**< points to what is below */
    pod_mask mask;
    int32_t *q_start, *kv_len, *page_table;
} batch_arrays;

/** Where a request's pages are. A schedule does not depend on it, but times do; in order is faster to make. */
typedef enum page_order { PAGES_SCATTERED, PAGES_IN_ORDER } page_order;

/** Bytes that batch_arrays_make() takes. */
double batch_arrays_bytes(const batch_spec *spec, const pod_limits *limits);

/** Lays the spec's requests out in its order. Pages are a random permutation, from the spec's seed. */
cli_exit batch_arrays_make(const batch_spec *spec, const pod_limits *limits, page_order order, batch_arrays *arrays,
                           cli_error *error);
void batch_arrays_free(batch_arrays *arrays);

#endif
