/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused of a pod_append: as validate.h for the other structs. */
#ifndef POD_API_TAKE_APPEND_H
#define POD_API_TAKE_APPEND_H

#include "cache/append.h"

/** Whether anything depends on the planned batch: places or positions. */
int pod__append_needs_batch(const pod_append *append);

/** Takes append, rope and cache into `job`, whose limits are filled in too. `batch` is the planned one, taken before;
 * NULL: there is none. What comes of the schedule is left to the caller. */
pod_status pod__take_append(const pod_limits *limits, const pod_batch *batch, const pod_append *append,
                            const pod_cache *cache, pod_append_job *job);

/** Every token's slot, position and pad, where the host can read them: on a CPU nothing is written if one is wrong. */
pod_status pod__check_append_tokens(const pod_append_job *job);

#endif
