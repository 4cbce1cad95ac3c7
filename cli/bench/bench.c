/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bench.h"

#include "run/stopwatch.h"

int bench_is_late(bench *bench, const char *case_name) {
    if (stopwatch_us() < bench->deadline_us) return 0;
    bench_leave_out(bench, case_name, "the time limit");
    return 1;
}

void bench_leave_out(bench *bench, const char *case_name, const char *reason) {
    bench_file_leave_out(&bench->file, case_name, reason);
}
