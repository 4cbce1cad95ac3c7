/* SPDX-License-Identifier: Apache-2.0 */
/* Every rejection of input: each names the field, its index and the values. A take function copies a caller's struct of
 * any accepted version, refuses what is wrong with it and fills in defaults, so that what follows sees one form. */
#ifndef POD_API_VALIDATE_H
#define POD_API_VALIDATE_H

#include "backend/backend.h"
#include "podattn.h"

/** v_head_dim and max_masks are filled in. */
pod_status pod__take_limits(const pod_limits *given, pod_limits *limits);

/** The struct and its masks, POD_MAX_MASKS of which fit in `masks`; the arrays only if they are on the host. Afterwards
 * num_masks is at least 1, masks is `masks`, and num_q_tokens what q and out must have. `limits` were taken. */
pod_status pod__take_batch(const pod_limits *limits, const pod_batch *given, pod_batch *batch, pod_mask *masks);

/** Strides and scale are filled in. The mask is one of the batch's. */
pod_status pod__take_tensors(const pod_limits *limits, const pod_batch *batch, const pod_tensors *given,
                             pod_tensors *tensors);

/** Strides are filled in. */
pod_status pod__take_cache(const pod_limits *limits, int32_t num_pages, const pod_cache *given, pod_cache *cache);

/** Those of a cache in host memory, strides filled in: finite and above 0. */
pod_status pod__validate_scales(const pod_limits *limits, const pod_cache *cache);

/** Strides are filled in. */
pod_status pod__take_parts(const pod_parts *given, pod_parts *parts);

/** q and out have the tokens that the batch needs, as far as they say how many they have. */
pod_status pod__validate_tokens(const pod_batch *batch, const pod_tensors *tensors);

/** An array of doubles: not NULL, and aligned. */
pod_status pod__check_doubles(const char *field, const double *array);

/** Pointers, alignment, sizes. */
pod_status pod__validate_workspace(const pod_workspace *workspace, const pod_layout *layout);

/** Whether one of the plan's schedules, which the host can read, is what the last build put there. */
pod_status pod__check_schedule(const pod_plan *plan, int32_t mask, const pod_schedule *schedule);

/** Whether the workspace still holds what the last build put there. A GPU's memory the host cannot look at without
 * waiting: there it knows of its own builds alone. */
pod_status pod__check_workspace(const pod_plan *plan, int32_t mask);

/** Not NULL, and built. */
pod_status pod__validate_built(const pod_plan *plan);

#endif
