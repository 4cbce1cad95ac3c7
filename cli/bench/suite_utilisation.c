/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suite_utilisation.h"

cli_exit utilisation_begin(bench *bench, cli_error *error) {
    bench->peak = pod_device_peak_init();
    progress_stage("%s: the device's peak, some seconds", bench->suite);
    return pod_device_measure_peak(bench->device.device, &bench->peak) == POD_OK ? CLI_OK : cli_fail_library(error);
}

void utilisation_add_columns(const bench *bench, const batch_row *row, int32_t variant, double median_us, FILE *file) {
    const workload *work = &row->work[variant];
    double math_percent = 100 * work->flop / median_us * 1e-6 / bench->peak.math.tflops;
    double read_percent = 100 * work->kv_bytes / median_us * 1e-3 / bench->peak.read.gb_per_s;
    fprintf(file, ";%.2f;;%.2f;peak", math_percent, read_percent);
}
