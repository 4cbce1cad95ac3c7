/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that a captured graph can be replayed for: other query tokens, lengths, pages and contents, within the
 * requests, tokens and pages that the case was made with. */
#ifndef POD_TEST_GPU_CHANGE_H
#define POD_TEST_GPU_CHANGE_H

#include "gpu_case.h"

/** The batch that a case was made with, of which each later step has at most the tokens and the lengths. */
typedef struct gpu_room {
    int32_t *q_start, *kv_len;
} gpu_room;

/** What an uploaded case has room for. */
gpu_room gpu_room_of(const gpu_case *c);
void gpu_room_free(gpu_room *room);

/** Another step, on the host and in the same arrays on the GPU: fewer query tokens, none, or as many as there were,
 * distributed in another way; any lengths; pages, keys, values and words of trees anew. */
void gpu_change(gpu_case *c, const gpu *gpu, test_rng *rng, const gpu_room *room);

#endif
