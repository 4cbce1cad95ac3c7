/* SPDX-License-Identifier: Apache-2.0 */
/* How the KV cache is addressed, for gcc, clang and nvcc: a request's key is in a slot of a page, and an element of the
 * cache follows from page, slot and KV head by strides. A request without a page table has the one page that bears its
 * own number. */
#ifndef POD_SCHEDULE_CACHE_CORE_H
#define POD_SCHEDULE_CACHE_CORE_H

#include "schedule/schedule_core.h"

/** Strides of K or of V, in elements. */
typedef struct pod_cache_strides {
    int64_t page, token, head;
} pod_cache_strides;

/** A key within its request's row of the page table: the entry, and the token's place in that page. */
typedef struct pod_key_slot {
    int32_t page_idx, slot;
} pod_key_slot;

/** Pages that a context needs. */
POD_CORE_FN int32_t pod_core_num_pages(int32_t kv_len, int32_t page_size) {
    return pod_core_ceil_div(kv_len, page_size);
}

/** Entries [begin, end) of a request's row of the page table that its queries need, where they see as far back as
 * through a window of `window_tokens` (0: all): the others may be anything. */
typedef struct pod_page_range {
    int32_t begin, end;
} pod_page_range;

POD_CORE_FN pod_page_range pod_core_needed_pages(int32_t q_len, int32_t kv_len, int32_t window_tokens,
                                                 int32_t page_size) {
    pod_page_range pages = {0, pod_core_num_pages(kv_len, page_size)};
    pages.begin = q_len == 0 ? pages.end : pod_core_window_begin(window_tokens, kv_len - q_len) / page_size;
    return pages;
}

/** Whether a page number of the page table names one of the cache's pages. */
POD_CORE_FN int pod_core_is_page(int32_t page, int32_t num_pages) {
    return (uint32_t)page < (uint32_t)num_pages;
}

/** log2(page_size), -1 where that is not a whole number. */
POD_CORE_FN int32_t pod_core_page_shift(int32_t page_size) {
    int32_t shift = 0;
    while (page_size >> shift > 1) shift++;
    return page_size == 1 << shift ? shift : -1;
}

/** Where a key is. `page_shift` is pod_core_page_shift(), or -1 if that is not known. */
POD_CORE_FN pod_key_slot pod_core_key_slot(int32_t page_size, int32_t page_shift, int32_t key) {
    pod_key_slot at;
    at.page_idx = page_shift >= 0 ? key >> page_shift : key / page_size;
    at.slot = key - at.page_idx * page_size;
    return at;
}

/** First element of a token of a KV head. */
POD_CORE_FN int64_t pod_core_cache_offset(const pod_cache_strides *strides, int64_t page, int32_t slot,
                                          int32_t kv_head) {
    return page * strides->page + slot * strides->token + kv_head * strides->head;
}

#endif
