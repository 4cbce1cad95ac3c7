/* SPDX-License-Identifier: Apache-2.0 */
/* Whether what stands in a workspace can be a schedule: everything that is read from it leads to a place that exists,
 * and every loop over it ends. A workspace that was overwritten is then an error and not a crash. */
#ifndef POD_SCHEDULE_SOUNDNESS_H
#define POD_SCHEDULE_SOUNDNESS_H

#include "schedule/workspace.h"

/** Counts of the header alone: what the sizes of the other arrays follow from. */
int pod__schedule_has_sound_counts(const pod_shape *shape, const pod_tiling *tiling, const pod_layout *layout,
                                   const pod_schedule_header *header);

/** All of it, whose counts are sound. Tickets and counters too, which are 0 between two calls, if `schedule` has
 * counters: a copy has none. */
int pod__schedule_is_sound(const pod_shape *shape, const pod_tiling *tiling, const pod_layout *layout,
                           const pod_schedule *schedule);

/** A number that tells the planned requests from others: lengths that changed may be sound, and lead past the batch's
 * pages and queries. */
uint64_t pod__schedule_digest(const pod_shape *shape, const pod_schedule *schedule);

#endif
