/* SPDX-License-Identifier: Apache-2.0 */
/* The planner is written for a *team* of lanes that run the same code: one lane on the host, one CTA on a GPU. This is
 * the team of one lane; the including file may define POD_CORE_TEAM and its own type pod_team with pod_team_sync(),
 * pod_team_scan() and pod_team_reduce(). The result does not depend on the number of lanes. */
#ifndef POD_SCHEDULE_TEAM_H
#define POD_SCHEDULE_TEAM_H

#include "schedule/schedule_core.h"

#ifndef POD_CORE_TEAM
typedef struct pod_team {
    int32_t lane, num_lanes;
    int32_t radix_bits; /**< sort digits; num_lanes << radix_bits counters */
    int32_t *digits;    /**< [num_lanes << radix_bits] */
} pod_team;

/** All lanes meet. */
POD_CORE_FN void pod_team_sync(const pod_team *team) {
    (void)team;
}

/** Replaces each value by its sum over the lanes before this one; `totals`: over all lanes. Syncs. */
POD_CORE_FN void pod_team_scan(const pod_team *team, int32_t count, int32_t *values, int32_t *totals) {
    (void)team;
    for (int32_t i = 0; i < count; i++) {
        totals[i] = values[i];
        values[i] = 0;
    }
}

/** Replaces each sum by the sum over all lanes, and each maximum by the largest of all lanes. Syncs. */
POD_CORE_FN void pod_team_reduce(const pod_team *team, int32_t num_sums, int32_t *sums, int32_t num_maxima,
                                 int32_t *maxima) {
    (void)team;
    (void)num_sums;
    (void)sums;
    (void)num_maxima;
    (void)maxima;
}
#endif

#endif
