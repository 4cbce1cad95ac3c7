/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suite_peak.h"

/** Behind a semicolon; nothing where nothing was measured. */
static int print_known(char *text, size_t bytes, double value) {
    return value > 0 ? snprintf(text, bytes, ";%.3f", value) : snprintf(text, bytes, ";");
}

static cli_exit write_rate(bench *bench, const char *name, const pod_device_rate *rate, cli_error *error) {
    char line[160];
    const double values[] = {rate->tflops, rate->gb_per_s, rate->clock_mhz, rate->power_watts};
    size_t used = (size_t)snprintf(line, sizeof line, "%s", name);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        used += (size_t)print_known(line + used, sizeof line - used, values[i]);
    }
    snprintf(line + used, sizeof line - used, "\n");
    return bench_file_add(&bench->file, line, error);
}

cli_exit run_peak(bench *bench, cli_error *error) {
    pod_device_peak peak = pod_device_peak_init();
    if (bench_file_has(&bench->file, "read") || bench_is_late(bench, "read")) return CLI_OK;
    if (pod_device_measure_peak(bench->device.device, &peak) != POD_OK) return cli_fail_library(error);
    CLI_TRY(write_rate(bench, "read", &peak.read, error));
    CLI_TRY(write_rate(bench, "math", &peak.math, error));
    return peak.both.tflops > 0 ? write_rate(bench, "both", &peak.both, error) : CLI_OK;
}
