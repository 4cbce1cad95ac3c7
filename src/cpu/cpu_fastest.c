/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the kernels that a processor runs is the fastest there. Its features do not say: dot products of bf16 pairs
 * run at twice the rate of float ones on some processors, and at half of it on others. So each set computes a small
 * prefill item a few times, once per process, which takes about a millisecond. */
#include "cpu/cpu_kernels.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { ROWS = 48, HEAD_DIM = 128, TURNS = 12, SCRATCH_ALIGN = 64 };
#define MARGIN 1.1 /* sets that are as fast as this are equal: the better then is the same one in every process */

typedef struct trial {
    cpu_scratch scratch;
    pod_plan plan;
    pod_shape shape;
    pod_tensors tensors;
    pod_cache cache;
    uint16_t q[ROWS * HEAD_DIM], kv[CPU_TILE_TOKENS * HEAD_DIM];
} trial;

static void set_up(trial *made) {
    memset(made, 0, sizeof *made);
    pod_limits *limits = &made->plan.limits;
    limits->q_heads = limits->kv_heads = made->shape.group = made->shape.kv_heads = 1;
    limits->head_dim = limits->v_head_dim = HEAD_DIM;
    limits->q_dtype = limits->kv_dtype = limits->out_dtype = POD_BF16;
    limits->page_size = CPU_TILE_TOKENS;
    made->tensors.q = made->q;
    made->tensors.q_token_stride = HEAD_DIM;
    made->tensors.scale = 1;
    made->cache.k = made->cache.v = made->kv;
    made->cache.k_token_stride = made->cache.v_token_stride = HEAD_DIM;
}

/** Of this thread alone: what others do on its core does not count. */
static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double seconds_of(const cpu_kernels *kernels, trial *made) {
    const cpu_job job = {.plan = &made->plan,
                         .shape = &made->shape,
                         .tensors = &made->tensors,
                         .cache = &made->cache,
                         .head_dim = HEAD_DIM,
                         .v_head_dim = HEAD_DIM,
                         .q_stride = HEAD_DIM,
                         .v_stride = HEAD_DIM};
    const cpu_item item = {.request = {.q_len = ROWS, .kv_len = CPU_TILE_TOKENS},
                           .num_rows = ROWS,
                           .num_tiles = 1,
                           .kv_end = CPU_TILE_TOKENS};
    double begin_s = cpu_seconds();
    kernels->prefill(&job, &item, &made->scratch);
    return cpu_seconds() - begin_s;
}

/** The shortest time of each set. They take turns, so that a slow while (other work on the core, a clock that has yet
 * to rise) is not one's alone. */
static void try_all(const cpu_kernels *const sets[], int32_t count, trial *made, double seconds[CPU_MAX_SETS]) {
    for (int32_t i = 0; i < count; i++) seconds[i] = INFINITY;
    for (int turn = 0; turn < TURNS; turn++) {
        for (int32_t i = 0; i < count; i++) {
            /* Plain C is for processors that run nothing else. */
            if (sets[i] == NULL || sets[i] == &pod__cpu_kernels_generic) continue;
            seconds[i] = fmin(seconds[i], seconds_of(sets[i], made));
        }
    }
}

const cpu_kernels *pod__cpu_fastest_of(const cpu_kernels *const sets[], int32_t count) {
    double seconds[CPU_MAX_SETS] = {0}, least = INFINITY;
    trial *made = aligned_alloc(SCRATCH_ALIGN, (sizeof *made + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN);
    if (made != NULL) { /* without memory for a trial it is the first set that there is */
        set_up(made);
        try_all(sets, count, made, seconds);
        free(made);
    }
    for (int32_t i = 0; i < count; i++) least = fmin(least, seconds[i]);
    for (int32_t i = 0; i < count; i++) {
        if (sets[i] != NULL && seconds[i] <= least * MARGIN) return sets[i];
    }
    return NULL;
}

static const cpu_kernels *fastest;

static void find_fastest(void) {
    const cpu_kernels *sets[CPU_MAX_SETS];
    int32_t count = 0;
    while (pod__cpu_kernels_at(count, &sets[count])) count++;
    fastest = pod__cpu_fastest_of(sets, count);
}

const cpu_kernels *pod__cpu_fastest_kernels(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_fastest);
    return fastest;
}
