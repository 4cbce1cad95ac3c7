/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suite_peak.h"

static cli_exit write_rate(bench *bench, const char *name, const pod_device_rate *rate, cli_error *error) {
    const double values[] = {rate->tflops, rate->gb_per_s, rate->clock_mhz, rate->power_watts};
    FILE *file = bench_file_begin_case(&bench->file, error);
    if (file == NULL) return CLI_BAD_INPUT;
    fputs(name, file);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        fputc(';', file);
        if (values[i] > 0) fprintf(file, "%.3f", values[i]); /* empty where nothing was measured */
    }
    fputc('\n', file);
    return bench_file_end_case(&bench->file, CLI_OK, error);
}

cli_exit run_peak(bench *bench, cli_error *error) {
    pod_device_peak peak = pod_device_peak_init();
    if (bench_file_has(&bench->file, "read") || bench_is_late(bench, "read")) return CLI_OK;
    progress_stage("peak: reading and multiplying, some seconds");
    if (pod_device_measure_peak(bench->device.device, &peak) != POD_OK) return cli_fail_library(error);
    CLI_TRY(write_rate(bench, "read", &peak.read, error));
    CLI_TRY(write_rate(bench, "math", &peak.math, error));
    return peak.both.tflops > 0 ? write_rate(bench, "both", &peak.both, error) : CLI_OK;
}
