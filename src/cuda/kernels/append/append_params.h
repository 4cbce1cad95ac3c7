/* SPDX-License-Identifier: Apache-2.0 */
/* What the appending kernel is launched with, and how its work is cut: grid.x over tokens, a warp each, and grid.y over
 * units, the rows of a token that a warp takes. Whatever is the same for all tokens is computed here, on the host. */
#ifndef POD_CUDA_APPEND_PARAMS_H
#define POD_CUDA_APPEND_PARAMS_H

#include "cache/append.h"
#include "schedule/schedule_core.h"

#define POD_APPEND_KERNEL "pod_append_rows"

enum {
    POD_APPEND_THREADS = 128,
    POD_APPEND_LANES = 32,
    POD_APPEND_TOKENS = POD_APPEND_THREADS / POD_APPEND_LANES, /**< of a CTA */
    POD_APPEND_ELEMENTS = 8,    /**< of a chunk: 16 bytes, or 32 of f32; a lane has two chunks of a row */
    POD_APPEND_LANE_BYTES = 64, /**< of a unit: two chunks of as many rows, one after the other */
    POD_APPEND_CTAS_PER_SM = 8,
    POD_APPEND_MAX_STRIPES = 6,
    POD_APPEND_SMEM_BYTES = POD_APPEND_TOKENS * 2 * (POD_ROPE_MAX_PAIRS + 16) * 4 /**< a warp_rotation for each warp */
};

enum { POD_APPEND_K, POD_APPEND_V, POD_APPEND_Q };

/** How elements meet their partners. */
enum {
    POD_APPEND_MOVED,  /**< none is rotated */
    POD_APPEND_HALVES, /**< both are in the lane's chunks, one in each */
    POD_APPEND_PAIRS,  /**< both are neighbours in a chunk */
    POD_APPEND_UNEVEN  /**< what is rotated ends within a chunk: element by element */
};

/** The rows of one kind, or a stripe of their columns: as many as fit a warp. Strides count elements. Chunks are
 * numbered from the row's beginning; a row's pairs of chunks are items, and a lane takes one of them in each step: item
 * i has chunks i and i + num_paired where i < num_paired (halves that are rotated with each other), and of the chunks
 * that are left the same number j = i - num_paired of either half. */
typedef struct pod_append_stripe {
    const void *from;
    void *to;
    int64_t from_token_stride, from_head_stride;
    int64_t to_page_stride, to_token_stride, to_head_stride;
    const float *scales; /**< NULL: none */
    pod_dtype to_dtype;
    int32_t kind;
    int32_t rotation;
    int32_t heads;
    int32_t num_chunks, num_paired;
    int32_t half_rest; /**< of the chunks that are left, rounded up */
    int32_t first_item;
    int32_t lane_shift; /**< log2 of the lanes that a row takes */
    int32_t first_unit; /**< of the units of a token */
} pod_append_stripe;

typedef struct pod_append_params {
    pod_append_job job;
    pod_append_stripe stripes[POD_APPEND_MAX_STRIPES];
    int32_t first_units[POD_APPEND_MAX_STRIPES]; /**< of the units of a token; INT32_MAX behind the last stripe */
    int32_t num_stripes, num_units;
} pod_append_params;

/** Of a job that is not empty. */
pod_append_params pod__cuda_append_params(const pod_append_job *job);

/** Where a lane of a warp is in its unit. */
typedef struct pod_append_lane {
    int32_t head, per_step; /**< of the first step, and heads from step to step */
    int32_t item;
    int32_t chunks[2];
    int32_t has_first, has_second; /**< the chunks are there */
} pod_append_lane;

POD_CORE_FN pod_append_lane pod_append_core_lane(const pod_append_stripe *stripe, int32_t first_head, int32_t lane) {
    pod_append_lane at;
    at.per_step = POD_APPEND_LANES >> stripe->lane_shift;
    at.head = first_head + (lane >> stripe->lane_shift);
    at.item = stripe->first_item + (lane & ((1 << stripe->lane_shift) - 1));
    int32_t is_paired = at.item < stripe->num_paired;
    at.chunks[0] = is_paired ? at.item : at.item + stripe->num_paired;
    at.chunks[1] = at.chunks[0] + (is_paired ? stripe->num_paired : stripe->half_rest);
    at.has_first = is_paired || at.item - stripe->num_paired < stripe->half_rest;
    at.has_second = at.has_first && at.chunks[1] < stripe->num_chunks;
    return at;
}

/** The stripe that a unit is of. Not by a loop that ends early: each turn would wait for the last. */
POD_CORE_FN int32_t pod_append_core_stripe(const pod_append_params *params, int32_t unit) {
    int32_t stripe = 0;
    for (int i = 1; i < POD_APPEND_MAX_STRIPES; i++) stripe += params->first_units[i] <= unit;
    return stripe;
}

#endif
