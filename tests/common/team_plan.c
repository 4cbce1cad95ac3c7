/* SPDX-License-Identifier: Apache-2.0 */
#include "team_plan.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

/** What the lanes share. */
typedef struct team_shared {
    pthread_barrier_t barrier;
    int64_t *values; /**< [num_lanes] */
} team_shared;

#define POD_CORE_TEAM
typedef struct pod_team {
    int32_t lane, num_lanes;
    int32_t radix_bits;
    int32_t *digits;
    team_shared *shared;
} pod_team;

static inline void pod_team_sync(const pod_team *team) {
    pthread_barrier_wait(&team->shared->barrier);
}

static inline int64_t pod_team_scan(const pod_team *team, int64_t value, int64_t *total) {
    team->shared->values[team->lane] = value;
    pod_team_sync(team);
    int64_t before = 0;
    *total = 0;
    for (int32_t lane = 0; lane < team->num_lanes; lane++) {
        if (lane < team->lane) before += team->shared->values[lane];
        *total += team->shared->values[lane];
    }
    pod_team_sync(team);
    return before;
}

static inline int32_t pod_team_max(const pod_team *team, int32_t value) {
    team->shared->values[team->lane] = value;
    pod_team_sync(team);
    for (int32_t lane = 0; lane < team->num_lanes; lane++) {
        if (team->shared->values[lane] > value) value = (int32_t)team->shared->values[lane];
    }
    pod_team_sync(team);
    return value;
}

#include "plan_core.h"

typedef struct lane_arguments {
    pod_team team;
    const pod_shape *shape;
    const pod_tiling *tiling;
    const pod_schedule *schedule;
    pthread_t thread;
} lane_arguments;

static void *lane_main(void *context) {
    lane_arguments *lane = context;
    pod_core_plan(&lane->team, lane->shape, lane->tiling, lane->schedule);
    return NULL;
}

static void run_lanes(lane_arguments *lanes, int num_lanes) {
    for (int i = 1; i < num_lanes; i++) {
        /* The lanes that run already wait for this one at a barrier: there is no way back. */
        if (pthread_create(&lanes[i].thread, NULL, lane_main, &lanes[i]) != 0) abort();
    }
    lane_main(&lanes[0]);
    for (int i = 1; i < num_lanes; i++) pthread_join(lanes[i].thread, NULL);
}

int team_plan(int num_lanes, int radix_bits, const pod_shape *shape, const pod_tiling *tiling,
              const pod_schedule *schedule) {
    if (num_lanes < 1) return 0;
    size_t count = (size_t)num_lanes;
    team_shared shared;
    lane_arguments *lanes = calloc(count, sizeof *lanes);
    int32_t *digits = calloc(count << radix_bits, sizeof *digits);
    shared.values = calloc(count, sizeof *shared.values);
    int done = lanes != NULL && digits != NULL && shared.values != NULL &&
               pthread_barrier_init(&shared.barrier, NULL, (unsigned)num_lanes) == 0;
    if (done) {
        for (int i = 0; i < num_lanes; i++) {
            lanes[i].team = (pod_team){i, num_lanes, radix_bits, digits, &shared};
            lanes[i].shape = shape;
            lanes[i].tiling = tiling;
            lanes[i].schedule = schedule;
        }
        run_lanes(lanes, num_lanes);
        pthread_barrier_destroy(&shared.barrier);
    }
    free(shared.values);
    free(digits);
    free(lanes);
    return done;
}
