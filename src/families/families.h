/* SPDX-License-Identifier: Apache-2.0 */
/* Which limits a kernel family can serve, for those who choose one: the cuda backend, and sim where it plays one. */
#ifndef POD_CORE_FAMILIES_H
#define POD_CORE_FAMILIES_H

#include "podattn.h"

#include <stdio.h>

/** Tokens of the smallest box that the sm90 kernels copy; they cut pages into whole boxes. */
enum { POD_SM90_MIN_BOX_TOKENS = 8 };

/** Whether no request of these limits has a second page. */
static inline int pod__has_one_page(const pod_limits *limits) {
    return limits->max_kv_len <= limits->page_size;
}

static inline int pod__sm90_takes(const pod_limits *limits) {
    return limits->page_size % POD_SM90_MIN_BOX_TOKENS == 0 || pod__has_one_page(limits);
}

/** Says why it does not. */
static inline void pod__sm90_note(const pod_limits *limits, char *note, size_t bytes) {
    snprintf(note, bytes, "sm90: page_size = %d is no multiple of %d and max_kv_len = %d is more than a page",
             limits->page_size, POD_SM90_MIN_BOX_TOKENS, limits->max_kv_len);
}

#endif
