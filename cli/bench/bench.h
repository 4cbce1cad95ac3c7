/* SPDX-License-Identifier: Apache-2.0 */
/* podattn bench: what its suites share. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "bench/arena.h"
#include "bench/bench_file.h"
#include "bench/gpu_state.h"
#include "input/batch_file.h"
#include "input/trace.h"
#include "run/compute_device.h"
#include "run/progress.h"

enum { BENCH_MAX_FILES = 16 };

typedef struct bench_options {
    const char *out, *device, *trace;
    const char *batch_files[BENCH_MAX_FILES];
    int32_t num_batch_files;
    const char *kv_dtype; /**< of the batches of these files; NULL: bf16 */
    const char *launch;   /**< CASE/VARIANT/VARIANT... for a profiler; NULL: measure */
    int32_t is_short, resumes, overwrites, is_json;
    int32_t repeat; /**< 0: the device's default */
    int64_t time_limit_s;
} bench_options;

typedef struct bench {
    const bench_options *options;
    const char *suite; /**< the current one */
    compute_device device;
    const char *device_name; /**< that opens it again, with further options after it */
    int is_gpu, is_short;
    int32_t warmup, repeat;
    arena arena;
    pod_nvml nvml;                       /**< of the GPU */
    batch_list batches[BENCH_MAX_FILES]; /**< of --batches, file by file */
    trace trace;                         /**< of --trace; empty without */
    pod_device_peak peak;                /**< of the device, where a suite needs it */
    double deadline_us;                  /**< of the current suite, on the stopwatch */
    bench_file file;
} bench;

/** Whether the current suite's time is up; then the case is noted as left out. */
int bench_is_late(bench *bench, const char *case_name);

/** Notes a case that failed for `reason`. */
void bench_leave_out(bench *bench, const char *case_name, const char *reason);

#endif
