/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the prefill queue of kernels without decode work, where every request is prefill work. Row tiles of
 * short requests, decodes above all, are bound by reading keys, those of long ones by arithmetic. Longest first, the
 * two would take turns; so the short ones are spread among the long ones, and both are under way at any time. */
#ifndef POD_SCHEDULE_INTERLEAVE_H
#define POD_SCHEDULE_INTERLEAVE_H

#include "schedule/team.h"

/* Marks loops that rarely repeat in a large team: rolled code is smaller. */
#ifndef POD_CORE_ROLLED
#define POD_CORE_ROLLED
#endif

/** What of the queue is short, and what is not. */
typedef struct pod_core_kinds {
    int32_t num_short, num_long;
    int32_t spread; /**< of the short ones, how many are spread; the others come last */
} pod_core_kinds;

/** Whether an entry's request has no more rows than half of a tile. */
POD_CORE_FN int pod_core_is_short(const pod_shape *shape, const pod_tiling *tiling, const pod_schedule *schedule,
                                  const pod_prefill_entry *entry) {
    return schedule->requests[entry->request].q_len * shape->group <= tiling->prefill_tile_rows / 2;
}

/** Place in the queue of the `rank`-th short entry: with those of the long ones before it that come as early. */
POD_CORE_FN int32_t pod_core_short_place(const pod_core_kinds *kinds, int32_t rank) {
    if (rank >= kinds->spread) return kinds->num_long + rank;
    int64_t before = (2 * (int64_t)rank + 1) * kinds->num_long + kinds->spread;
    return rank + (int32_t)pod_core_div(before, 2 * (int64_t)kinds->spread);
}

/** The same of the `rank`-th long one. */
POD_CORE_FN int32_t pod_core_long_place(const pod_core_kinds *kinds, int32_t rank) {
    int64_t before = (2 * (int64_t)rank + 1) * kinds->spread + kinds->num_long - 1;
    return rank + (int32_t)pod_core_div(before, 2 * (int64_t)kinds->num_long);
}

/** How many short entries are spread. The others keep all workers busy while the last long one runs, which takes half
 * of its time on average. `tickets`: of an entry. */
POD_CORE_FN int32_t pod_core_spread(const pod_tiling *tiling, int32_t num_short, int32_t longest_short,
                                    int32_t longest_long, int32_t tickets) {
    int64_t last_tiles = (int64_t)tiling->num_lone_ctas * longest_long;
    int64_t last = pod_core_div(last_tiles, 2 * (int64_t)longest_short * tickets);
    return last < num_short ? num_short - (int32_t)last : 0;
}

/** Reorders the `count` sorted entries; each kind stays longest first. `tickets`: of an entry. */
POD_CORE_FN void pod_core_interleave(const pod_team *team, const pod_shape *shape, const pod_tiling *tiling,
                                     const pod_schedule *schedule, pod_prefill_entry *unused, int32_t begin,
                                     int32_t end, int32_t tickets) {
    int32_t num_short = 0, totals[2], longest[2] = {0, 0};
    pod_team_sync(team); /* the entries are there */
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        const pod_prefill_entry *entry = &schedule->entries[i];
        int is_short = pod_core_is_short(shape, tiling, schedule, entry);
        longest[0] = pod_core_max(longest[0], is_short ? 0 : entry->num_tiles);
        longest[1] = pod_core_max(longest[1], is_short ? entry->num_tiles : 0);
        num_short += is_short;
    }
    int32_t ranks[2] = {num_short, end - begin - num_short};
    pod_team_scan(team, 2, ranks, totals);
    pod_team_reduce(team, 0, ranks, 2, longest);
    if (totals[0] == 0 || totals[1] == 0) return;
    pod_core_kinds kinds = {totals[0], totals[1], 0};
    kinds.spread = pod_core_spread(tiling, totals[0], longest[1], longest[0], tickets);
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) {
        pod_prefill_entry entry = schedule->entries[i];
        int is_short = pod_core_is_short(shape, tiling, schedule, &entry);
        int32_t place = is_short ? pod_core_short_place(&kinds, ranks[0]++) : pod_core_long_place(&kinds, ranks[1]++);
        unused[place] = entry;
    }
    pod_team_sync(team);
    POD_CORE_ROLLED
    for (int32_t i = begin; i < end; i++) schedule->entries[i] = unused[i];
}

#endif
