/* SPDX-License-Identifier: Apache-2.0 */
/* The processor's ceilings: all threads multiply, and all threads read, for about half a second each. */
#include "base/status.h"
#include "cpu/cpu_kernels.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum { DATA_ALIGN = 64, ROUNDS = 1 << 20 };
#define DATA_BYTES ((size_t)1 << 30) /* more than any cache */
#define SECONDS 0.5

typedef struct peak_team {
    const cpu_device *cpu;
    float *data;
    int64_t count;
    int32_t num_begun, num_filled; /**< threads that read */
    double rates[CPU_MAX_THREADS]; /**< of each thread, in operations or bytes per second */
} peak_team;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void multiply(void *context, int32_t thread, void *scratch) {
    peak_team *team = context;
    double flop = 0, begin_s = seconds_now(), now_s = begin_s;
    float result = 1; /* and remains so: x = 0.75 x + 0.25 */
    (void)scratch;
    while (result > 0 && now_s - begin_s < SECONDS) {
        flop += team->cpu->kernels->peak_multiply(ROUNDS, &result);
        now_s = seconds_now();
    }
    team->rates[thread] = flop / (now_s - begin_s);
}

/** A thread touches its part first, which places it in memory near to it, and waits for the others. */
static void read_part(void *context, int32_t thread, void *scratch) {
    peak_team *team = context;
    int64_t begin = team->count * thread / team->cpu->num_threads;
    int64_t end = team->count * (thread + 1) / team->cpu->num_threads;
    (void)scratch;
    __atomic_add_fetch(&team->num_begun, 1, __ATOMIC_RELAXED);
    for (int64_t i = begin; i < end; i++) team->data[i] = (float)(i % 1021);
    __atomic_add_fetch(&team->num_filled, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&team->num_filled, __ATOMIC_RELAXED) < __atomic_load_n(&team->num_begun, __ATOMIC_RELAXED)) {
        sched_yield();
    }
    double bytes = 0, begin_s = seconds_now(), now_s = begin_s;
    float largest = 0;
    while (largest >= 0 && now_s - begin_s < SECONDS) {
        largest = team->cpu->kernels->peak_read(team->data + begin, end - begin);
        bytes += (double)(end - begin) * sizeof *team->data;
        now_s = seconds_now();
    }
    team->rates[thread] = bytes / (now_s - begin_s);
}

/** The sum of the threads' rates. */
static pod_status run_all(peak_team *team, pod_pool_task *task, double *rate) {
    memset(team->rates, 0, sizeof team->rates);
    POD_TRY(pod__pool_run(team->cpu->pool, team->cpu->num_threads, task, team));
    *rate = 0;
    for (int32_t i = 0; i < team->cpu->num_threads; i++) *rate += team->rates[i];
    return POD_OK;
}

pod_status pod__cpu_measure_peak(const cpu_device *cpu, pod_device_peak *peak) {
    peak_team team = {.cpu = cpu, .count = (int64_t)(DATA_BYTES / sizeof(float))};
    team.data = aligned_alloc(DATA_ALIGN, DATA_BYTES);
    if (team.data == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for %zu bytes to read", DATA_BYTES);
    double bytes_per_s = 0, flop_per_s = 0;
    pod_status status = run_all(&team, read_part, &bytes_per_s);
    free(team.data);
    if (status == POD_OK) status = run_all(&team, multiply, &flop_per_s);
    peak->read.gb_per_s = bytes_per_s * 1e-9;
    peak->math.tflops = flop_per_s * 1e-12;
    return status;
}
