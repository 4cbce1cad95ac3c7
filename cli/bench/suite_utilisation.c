/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suite_utilisation.h"

#include "bench/batch_row.h"
#include "bench/case_lists.h"
#include "bench/ncu.h"

#include <math.h>
#include <stdlib.h>

enum { V_FUSED, V_SERIAL, V_STREAMS, V_PREFILL, V_DECODE, NUM_VARIANTS };

static const batch_variant variants[NUM_VARIANTS] = {[V_FUSED] = {"fused", WAY_FUSED, NULL},
                                                     [V_SERIAL] = {"serial", WAY_SERIAL, NULL},
                                                     [V_STREAMS] = {"streams", WAY_STREAMS, NULL},
                                                     [V_PREFILL] = {"prefill", WAY_PREFILL, NULL},
                                                     [V_DECODE] = {"decode", WAY_DECODE, NULL}};

typedef struct utilisation {
    pod_device_peak peak;
    int has_counters;
    const bench_case *counted; /**< that the counters below are of */
    ncu_counters counters[NUM_VARIANTS];
    int is_counted[NUM_VARIANTS];
} utilisation;

/** Without counters, everything is set against what the device can do; the file says why there are none. */
static cli_exit begin(bench *bench, void *context, cli_error *error) {
    utilisation *utilisation = context;
    utilisation->peak = pod_device_peak_init();
    utilisation->has_counters = bench->is_gpu && ncu_is_there();
    if (bench->is_gpu && !utilisation->has_counters) {
        CLI_TRY(bench_file_comment(&bench->file,
                                   "Nsight Compute (ncu) is not on the PATH: percentages are what was achieved of what "
                                   "podattn peak measures",
                                   error));
    }
    if (pod_device_measure_peak(bench->device.device, &utilisation->peak) == POD_OK) return CLI_OK;
    return cli_fail_library(error);
}

/** The comment names the first failure; the others have the same reason. */
static void give_up_counting(bench *bench, utilisation *utilisation, const char *reason) {
    cli_error ignored;
    char comment[600];
    snprintf(comment, sizeof comment, "counters: %s", reason);
    bench_file_comment(&bench->file, comment, &ignored);
    utilisation->has_counters = 0;
}

/** The variants of one kernel each, in one run of ncu: starting it and filling the memory is what takes time. */
static void count(bench *bench, utilisation *utilisation, const batch_row *row) {
    enum { NUM_COUNTED = 3 };
    static const int counted[NUM_COUNTED] = {V_FUSED, V_PREFILL, V_DECODE};
    ncu_counters counters[NUM_COUNTED];
    char launch[200];
    cli_error error;
    utilisation->counted = row->c;
    memset(utilisation->is_counted, 0, sizeof utilisation->is_counted);
    if (!utilisation->has_counters) return;
    snprintf(launch, sizeof launch, "%s/%s/%s/%s", row->c->name, variants[V_FUSED].name, variants[V_PREFILL].name,
             variants[V_DECODE].name);
    progress_update(&bench->progress, "utilisation: counters of %s", row->c->name);
    if (ncu_count(bench->suite, bench->device_name, launch, NUM_COUNTED, counters, &error) != CLI_OK) {
        give_up_counting(bench, utilisation, error.line);
        return;
    }
    for (int i = 0; i < NUM_COUNTED; i++) {
        utilisation->counters[counted[i]] = counters[i];
        utilisation->is_counted[counted[i]] = 1;
    }
}

/** Serial's two kernels run one after the other: their percentages, weighted by their times. */
static void weigh_serial(utilisation *utilisation, double prefill_us, double decode_us) {
    if (!utilisation->is_counted[V_PREFILL] || !utilisation->is_counted[V_DECODE]) return;
    const ncu_counters *prefill = &utilisation->counters[V_PREFILL], *decode = &utilisation->counters[V_DECODE];
    double share = prefill_us / (prefill_us + decode_us);
    utilisation->is_counted[V_SERIAL] = 1;
    utilisation->counters[V_SERIAL] =
        (ncu_counters){share * prefill->sm_percent + (1 - share) * decode->sm_percent,
                       share * prefill->tensor_percent + (1 - share) * decode->tensor_percent,
                       share * prefill->dram_percent + (1 - share) * decode->dram_percent};
}

static const char *variant_name(const batch_row *row, int32_t variant) {
    return row->variants[variant].name;
}

static int find_variant(const char *name) {
    for (int v = 0; v < NUM_VARIANTS; v++) {
        if (strcmp(variants[v].name, name) == 0) return v;
    }
    return V_FUSED;
}

static double median_us(const batch_row *row, int wanted) {
    double *scratch = malloc((size_t)row->lineup.repeat * sizeof *scratch), us = 0;
    for (int32_t v = 0; v < row->lineup.num_variants && scratch != NULL; v++) {
        if (find_variant(variant_name(row, v)) == wanted) us = batch_row_median_us(row, v, scratch);
    }
    free(scratch);
    return us;
}

static void add_columns(bench *bench, void *context, const batch_row *row, int32_t variant, FILE *file) {
    utilisation *utilisation = context;
    int v = find_variant(variant_name(row, variant));
    if (utilisation->counted != row->c) {
        count(bench, utilisation, row);
        weigh_serial(utilisation, median_us(row, V_PREFILL), median_us(row, V_DECODE));
    }
    if (utilisation->is_counted[v]) {
        const ncu_counters *counters = &utilisation->counters[v];
        fprintf(file, ";%.2f;", counters->sm_percent);
        if (!isnan(counters->tensor_percent)) fprintf(file, "%.2f", counters->tensor_percent);
        fprintf(file, ";%.2f;ncu", counters->dram_percent);
        return;
    }
    double us = median_us(row, v);
    double math_percent = 100 * row->work[variant].flop / us * 1e-6 / utilisation->peak.math.tflops;
    double read_percent = 100 * row->work[variant].kv_bytes / us * 1e-3 / utilisation->peak.read.gb_per_s;
    fprintf(file, ";%.2f;;%.2f;peak", math_percent, read_percent);
}

cli_exit run_utilisation(bench *bench, cli_error *error) {
    utilisation utilisation = {.counted = NULL};
    const batch_suite suite = {.variants = variants,
                               .num_variants = NUM_VARIANTS,
                               .list_cases = list_utilisation,
                               .begin = begin,
                               .add_columns = add_columns,
                               .context = &utilisation};
    return batch_suite_run(bench, &suite, error);
}
