/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suite_utilisation.h"

#include "bench/case_lists.h"

static const batch_variant variants[] = {{"fused", WAY_FUSED, NULL},
                                         {"serial", WAY_SERIAL, NULL},
                                         {"streams", WAY_STREAMS, NULL},
                                         {"prefill", WAY_PREFILL, NULL},
                                         {"decode", WAY_DECODE, NULL}};

static cli_exit begin(bench *bench, void *context, cli_error *error) {
    pod_device_peak *peak = context;
    *peak = pod_device_peak_init();
    return pod_device_measure_peak(bench->device.device, peak) == POD_OK ? CLI_OK : cli_fail_library(error);
}

static void add_columns(void *context, const workload *work, double median_us, FILE *file) {
    const pod_device_peak *peak = context;
    double math_percent = 100 * work->flop / median_us * 1e-6 / peak->math.tflops;
    double read_percent = 100 * work->kv_bytes / median_us * 1e-3 / peak->read.gb_per_s;
    fprintf(file, ";%.2f;;%.2f;peak", math_percent, read_percent);
}

cli_exit run_utilisation(bench *bench, cli_error *error) {
    pod_device_peak peak;
    const batch_suite suite = {.variants = variants,
                               .num_variants = sizeof variants / sizeof variants[0],
                               .list_cases = list_utilisation,
                               .begin = begin,
                               .add_columns = add_columns,
                               .context = &peak};
    return batch_suite_run(bench, &suite, error);
}
