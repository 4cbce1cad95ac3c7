/* SPDX-License-Identifier: Apache-2.0 */
#include "team_plan.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

enum { MAX_VALUES = 16 };

/** What the lanes share. */
typedef struct team_shared {
    pthread_barrier_t barrier;
    int32_t *values; /**< [num_lanes][MAX_VALUES] */
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

/** Every lane's values, for all to read until the next sync. */
static inline void publish(const pod_team *team, int32_t count, const int32_t *values) {
    for (int32_t i = 0; i < count; i++) team->shared->values[team->lane * MAX_VALUES + i] = values[i];
    pod_team_sync(team);
}

static inline void pod_team_scan(const pod_team *team, int32_t count, int32_t *values, int32_t *totals) {
    publish(team, count, values);
    for (int32_t i = 0; i < count; i++) {
        values[i] = totals[i] = 0;
        for (int32_t lane = 0; lane < team->num_lanes; lane++) {
            int32_t value = team->shared->values[lane * MAX_VALUES + i];
            if (lane < team->lane) values[i] += value;
            totals[i] += value;
        }
    }
    pod_team_sync(team);
}

static inline void pod_team_reduce(const pod_team *team, int32_t num_sums, int32_t *sums, int32_t num_maxima,
                                   int32_t *maxima) {
    int32_t before[MAX_VALUES];
    pod_team_scan(team, num_sums, sums, before);
    for (int32_t i = 0; i < num_sums; i++) sums[i] = before[i];
    publish(team, num_maxima, maxima);
    for (int32_t i = 0; i < num_maxima; i++) {
        for (int32_t lane = 0; lane < team->num_lanes; lane++) {
            int32_t value = team->shared->values[lane * MAX_VALUES + i];
            if (value > maxima[i]) maxima[i] = value;
        }
    }
    pod_team_sync(team);
}

#include "schedule/planner.h"

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
    shared.values = calloc(count * MAX_VALUES, sizeof *shared.values);
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
