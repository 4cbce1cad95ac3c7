/* SPDX-License-Identifier: Apache-2.0 */
/* Where a token goes and at which position it is, for gcc, clang and nvcc. Memory that only a GPU has read is not
 * trusted: what is wrong is said of the token, and leads nowhere. */
#ifndef POD_CACHE_APPEND_CORE_H
#define POD_CACHE_APPEND_CORE_H

#include "cache/append.h"
#include "schedule/cache_core.h"

typedef struct pod_append_place {
    int64_t page, position;
    int32_t slot;
    int32_t is_stored;    /**< k and v are */
    int32_t has_position; /**< q is written, rotated by it if there is a rope */
    int32_t is_bad;       /**< the caller is told; then neither of the others is set */
} pod_append_place;

/** Whether the request is in order and owns the token. */
POD_CORE_FN int32_t pod_append_core_owns(const pod_append_job *job, int32_t r, int32_t token) {
    pod_request request = job->requests[r];
    if (request.error != POD_REQUEST_OK || (job->page_errors != 0 && job->page_errors[r] != 0)) return 0;
    return token >= request.q_begin && token - request.q_begin < request.q_len;
}

/** Element of `positions`. */
POD_CORE_FN int64_t pod_append_core_position(const pod_append *append, int64_t token) {
    if (append->position_bytes == 4) return ((const int32_t *)append->positions)[token];
    return ((const int64_t *)append->positions)[token];
}

/** The place of a token of request `r`; r is -1 if the job needs no batch, or no request owns the token. */
POD_CORE_FN pod_append_place pod_append_core_place(const pod_append_job *job, int32_t r, int32_t token) {
    const pod_append *append = &job->given;
    pod_append_place place = {0, 0, 0, 0, 0, 0};
    if (job->requests != 0 && r < 0) return place;
    /* Both are read before either is waited for. */
    int64_t slot = append->slot_mapping != 0 ? append->slot_mapping[token] : 0, in_context = 0;
    int64_t given_position = append->rope != 0 && append->positions != 0 ? pod_append_core_position(append, token) : 0;
    if (job->requests != 0) {
        pod_request request = job->requests[r];
        in_context = (int64_t)request.kv_len - request.q_len + (token - request.q_begin);
        int32_t pad = append->left_pad != 0 ? append->left_pad[r] : 0;
        place.position = in_context > pad ? in_context - pad : 0;
        place.is_bad = in_context < 0 || pad < 0;
    }
    if (append->slot_mapping != 0) {
        place.is_stored = slot >= 0;
        place.is_bad |= slot >= (int64_t)job->num_pages * job->page_size;
        if (place.is_stored) {
            place.page = job->page_shift >= 0 ? slot >> job->page_shift : pod_core_div(slot, job->page_size);
            place.slot = (int32_t)(slot - place.page * job->page_size);
        }
    } else if (append->k != 0 && !place.is_bad) {
        pod_key_slot at = pod_core_key_slot(job->page_size, job->page_shift, (int32_t)in_context);
        int32_t page = job->page_table != 0 ? job->page_table[r * job->page_table_stride + at.page_idx] : r;
        place.page = page;
        place.slot = at.slot;
        place.is_stored = 1;
        place.is_bad = !pod_core_is_page(page, job->num_pages);
    }
    place.has_position = 1;
    if (append->rope != 0) {
        if (append->positions != 0) place.position = given_position;
        int64_t end = job->rope.cos != 0 ? job->rope.table_positions : (int64_t)1 << 31;
        place.has_position = place.position >= 0 && place.position < end;
        /* The position of a token whose slot is negative may be anything, as padding's is. */
        place.is_bad |= !place.has_position && (place.is_stored || append->slot_mapping == 0);
    }
    if (place.is_bad) place.is_stored = place.has_position = 0;
    return place;
}

#endif
