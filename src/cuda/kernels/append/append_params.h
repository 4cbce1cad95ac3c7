/* SPDX-License-Identifier: Apache-2.0 */
/* How the appending kernel is launched: a warp for each unit, which is a token and some of its rows. */
#ifndef POD_CUDA_APPEND_PARAMS_H
#define POD_CUDA_APPEND_PARAMS_H

#include "cache/append.h"
#include "schedule/schedule_core.h"

#define POD_APPEND_KERNEL "pod_append_rows"

enum {
    POD_APPEND_THREADS = 128,
    POD_APPEND_ELEMENTS = 8, /**< of a lane */
    POD_APPEND_PIECE = 256,  /**< elements of a warp: longer rows are several pieces, of which the first is rotated */
    POD_APPEND_STEPS = 4     /**< of a unit: in each, a warp moves as many rows as fit its lanes */
};

/** Pieces of a row. */
POD_CORE_FN int32_t pod_append_pieces(int32_t dim) {
    return pod_core_ceil_div(dim, POD_APPEND_PIECE);
}

/** Lanes that a row, or a piece, takes: a power of two, so that whole ones are in a warp. */
POD_CORE_FN int32_t pod_append_lanes(int32_t dim) {
    int32_t lanes = 1;
    while (lanes < POD_APPEND_PIECE / POD_APPEND_ELEMENTS && lanes * POD_APPEND_ELEMENTS < dim) lanes *= 2;
    return lanes;
}

/** Units of a token's rows of one kind. */
POD_CORE_FN int32_t pod_append_units(int32_t heads, int32_t dim) {
    return pod_core_ceil_div(heads * pod_append_pieces(dim), POD_APPEND_STEPS * (32 / pod_append_lanes(dim)));
}

/** Units of a token: first K's, then V's, then Q's. */
typedef struct pod_append_shares {
    int32_t k, v, q;
} pod_append_shares;

POD_CORE_FN pod_append_shares pod_append_share(const pod_append_job *job) {
    pod_append_shares units = {0, 0, 0};
    if (job->given.k != 0) units.k = pod_append_units(job->kv_heads, job->head_dim);
    if (job->given.v != 0) units.v = pod_append_units(job->kv_heads, job->v_head_dim);
    if (job->given.q != 0) units.q = pod_append_units(job->q_heads, job->head_dim);
    return units;
}

#endif
