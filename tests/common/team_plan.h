/* SPDX-License-Identifier: Apache-2.0 */
/* The planner with many lanes: threads that meet at a barrier, as the threads of a CTA do. */
#ifndef POD_TEST_TEAM_PLAN_H
#define POD_TEST_TEAM_PLAN_H

struct pod_shape;
struct pod_tiling;
struct pod_schedule;

/** Plans with `num_lanes` threads, sorting by `radix_bits` at a time. Returns 0 if threads or memory ran out. */
int team_plan(int num_lanes, int radix_bits, const struct pod_shape *shape, const struct pod_tiling *tiling,
              const struct pod_schedule *schedule);

#endif
