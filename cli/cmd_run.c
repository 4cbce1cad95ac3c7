/* SPDX-License-Identifier: Apache-2.0 */
/* podattn run: one hybrid batch, timed in every way, and checked. */
#include "commands.h"
#include "input/batch_args.h"
#include "input/batch_arrays.h"
#include "output/format.h"
#include "output/run_report.h"
#include "run/compute_device.h"
#include "run/engine.h"
#include "run/host_memory.h"
#include "run/lineup.h"
#include "run/progress.h"
#include "run/stopwatch.h"
#include "run/tensor_set.h"

#include <stdlib.h>

enum { DEFAULT_REPEAT = 5, DEFAULT_REPEAT_GPU = 30 };

typedef struct run_options {
    const char *device;
    int32_t repeat, warmup;
    int32_t has_check;
    int32_t is_json;
} run_options;

#define FIELD(field) .offset = offsetof(run_options, field)

static const cli_option run_option_rows[] = {
    {"--device", "NAME", "auto (default), cpu, cpu:N with N threads, or cuda:N", option_set_text, FIELD(device), 0, 0},
    {"--repeat", "N", "timed runs of each call (5; 30 on a GPU)", option_set_int32, FIELD(repeat), 1, 1000000},
    {"--warmup", "N", "runs before them (1)", option_set_int32, FIELD(warmup), 0, 1000000},
    {"--check", NULL, "compare with the double-precision oracle", option_set_switch, FIELD(has_check), 1, 0},
    {"--json", NULL, "print JSON", option_set_switch, FIELD(is_json), 1, 0},
};

/** All that one run holds. */
typedef struct run_state {
    const run_options *options;
    compute_device device;
    pod_device *hfuse_device; /**< the same GPU under another name; NULL where there is no such row */
    pod_limits limits;
    batch_arrays arrays;
    tensor_set tensors;
    engine engine, hfuse_engine;
    lineup lineup;
    run_report report;
} run_state;

/** Everything is counted before anything is taken. */
static cli_exit check_memory(run_state *run, const batch_spec *spec, int64_t num_pages, cli_error *error) {
    size_t workspace_bytes;
    CLI_TRY(planner_bytes(run->device.device, &run->limits, &workspace_bytes, error));
    run->report.workspace_bytes = (double)workspace_bytes;
    run->report.tensor_bytes = tensor_set_bytes(spec, &run->limits, num_pages);
    double bytes = run->report.tensor_bytes;
    if (device_memory_is_host(run->device.memory)) bytes += NUM_CALLS * run->report.workspace_bytes;
    bytes += batch_arrays_bytes(spec, &run->limits);
    if (run->options->has_check) bytes += check_reference_bytes(&run->limits);
    return host_memory_check("the batch", bytes, error);
}

/** The baseline that pairs both kinds of work inside CTAs is the same GPU, opened with another option. */
static cli_exit set_up_hfuse(run_state *run, cli_error *error) {
    char name[64];
    snprintf(name, sizeof name, "cuda:%d,fusion=hfuse", device_memory_ordinal(run->device.memory));
    if (pod_device_open(name, &run->hfuse_device) != POD_OK) return cli_fail_library(error);
    pod_workspace sizes = pod_workspace_init();
    pod_status status = pod_workspace_size(run->hfuse_device, &run->limits, &sizes);
    if (status == POD_E_UNSUPPORTED) return CLI_OK; /* the baseline has fewer shapes than the library */
    if (status != POD_OK) return cli_fail_library(error);
    run->report.has_hfuse = 1;
    CLI_TRY(engine_make(run->hfuse_device, run->device.memory, &run->limits, &run->hfuse_engine, error));
    return engine_plan(&run->hfuse_engine, &run->arrays.batch, error);
}

static cli_exit set_up(run_state *run, const batch_spec *spec, cli_error *error) {
    int is_gpu = !device_memory_is_host(run->device.memory);
    run->report.is_gpu = is_gpu;
    run->limits = batch_spec_limits(spec);
    int64_t num_pages = batch_spec_pages(spec);
    CLI_TRY(check_memory(run, spec, num_pages, error));
    CLI_TRY(batch_arrays_make(spec, &run->limits, PAGES_SCATTERED, &run->arrays, error));
    CLI_TRY(engine_make(run->device.device, run->device.memory, &run->limits, &run->engine, error));
    CLI_TRY(engine_plan(&run->engine, &run->arrays.batch, error)); /* all of the input is validated here */
    if (is_gpu && HAS_BASELINES) CLI_TRY(set_up_hfuse(run, error));
    progress_stage("making tensors of %s", format_bytes(run->report.tensor_bytes).text);
    return tensor_set_make(spec, &run->limits, num_pages, run->device.memory, &run->tensors, error);
}

/** A row's engine, and how it is run. */
static engine *row_engine(run_state *run, run_row row, engine_way *way) {
    static const engine_way ways[NUM_RUN_ROWS] = {
        [RUN_FUSED] = WAY_FUSED, [RUN_SERIAL] = WAY_SERIAL,   [RUN_STREAMS] = WAY_STREAMS,
        [RUN_HFUSE] = WAY_FUSED, [RUN_PREFILL] = WAY_PREFILL, [RUN_DECODE] = WAY_DECODE,
    };
    *way = ways[row];
    return row == RUN_HFUSE ? &run->hfuse_engine : &run->engine;
}

/** Poisons, runs, and only then compares. */
static cli_exit check_row(run_state *run, run_row row, const check_reference *reference, cli_error *error) {
    engine_way way;
    engine *engine = row_engine(run, row, &way);
    CLI_TRY(tensor_set_poison(&run->tensors, error));
    CLI_TRY(engine_run(engine, way, &run->tensors.placed, error));
    CLI_TRY(tensor_set_fetch(&run->tensors, error));
    run->report.errors[row] = check_compare(reference, &run->tensors.host.tensors);
    run->report.passes &= pod__errors_within(run->report.errors[row], run->report.tolerance);
    return CLI_OK;
}

static cli_exit check_rows(run_state *run, cli_error *error) {
    check_reference reference;
    run_report *report = &run->report;
    report->has_check = report->passes = 1;
    report->tolerance = pod__errors_allowed(run->limits.out_dtype);
    progress_stage("checking: the oracle computes");
    cli_exit code = check_reference_make(&run->limits, &run->arrays.batch, &run->tensors.host, &reference, error);
    for (int row = 0; row < NUM_WHOLE_RUN_ROWS && code == CLI_OK; row++) {
        if (!run_row_exists(report, row)) continue;
        progress_stage("checking: call %d of %d", row + 1, NUM_WHOLE_RUN_ROWS);
        code = check_row(run, (run_row)row, &reference, error);
    }
    check_reference_free(&reference);
    return code;
}

static cli_exit time_calls(run_state *run, cli_error *error) {
    const run_options *options = run->options;
    run_report *report = &run->report;
    run_row rows[NUM_RUN_ROWS];
    lineup *lineup = &run->lineup;
    lineup->memory = run->device.memory;
    lineup->warmup = options->warmup;
    lineup->repeat = options->repeat > 0 ? options->repeat : report->is_gpu ? DEFAULT_REPEAT_GPU : DEFAULT_REPEAT;
    for (int row = 0; row < NUM_RUN_ROWS; row++) {
        if (!run_row_exists(report, row)) continue;
        lineup_variant *variant = &lineup->variants[lineup->num_variants];
        rows[lineup->num_variants++] = (run_row)row;
        variant->engine = row_engine(run, (run_row)row, &variant->way);
        variant->layer = run->tensors.placed;
    }
    lineup->shows_progress = 1;
    CLI_TRY(lineup_time(lineup, error));
    for (int32_t v = 0; v < lineup->num_variants; v++) {
        double *took_us = lineup->took_us + (int64_t)v * lineup->repeat;
        report->median_us[rows[v]] = quantile(took_us, (size_t)lineup->repeat, 0.5);
    }
    return CLI_OK;
}

static void count_work(run_state *run) {
    workload *work = run->report.work;
    work[RUN_FUSED] = workload_of(run->report.spec, &run->limits, &run->engine.batches[CALL_FUSED]);
    work[RUN_SERIAL] = work[RUN_STREAMS] = work[RUN_HFUSE] = work[RUN_FUSED];
    work[RUN_PREFILL] = workload_of(run->report.spec, &run->limits, &run->engine.batches[CALL_PREFILL]);
    work[RUN_DECODE] = workload_of(run->report.spec, &run->limits, &run->engine.batches[CALL_DECODE]);
}

static cli_exit run_batch(run_state *run, const batch_spec *spec, cli_error *error) {
    CLI_TRY(set_up(run, spec, error));
    if (run->options->has_check) CLI_TRY(check_rows(run, error));
    CLI_TRY(time_calls(run, error));
    count_work(run);
    progress_wipe();
    run->report.plan = run->engine.info;
    run->report.plan_us = run->engine.plan_us;
    if (run->options->is_json) {
        run_report_json(&run->report, stdout);
    } else {
        run_report_text(&run->report, stdout);
    }
    return run->report.has_check && !run->report.passes ? CLI_CHECK_FAILED : CLI_OK;
}

static cli_exit run_with_options(const run_options *options, batch_spec *spec, cli_error *error) {
    CLI_TRY(batch_spec_check(spec, error));
    batch_spec_sort(spec);
    run_state run = {.options = options, .report = {.spec = spec}};
    CLI_TRY(compute_device_open(options->device, &run.device, error));
    run.report.device = run.device.info;
    cli_exit code = run_batch(&run, spec, error);
    free(run.lineup.took_us);
    engine_free(&run.hfuse_engine);
    engine_free(&run.engine);
    tensor_set_free(&run.tensors);
    batch_arrays_free(&run.arrays);
    pod_device_close(run.hfuse_device);
    compute_device_close(&run.device);
    return code;
}

static cli_exit run_with_spec(int argc, char **argv, batch_spec *spec, cli_error *error) {
    run_options options = {.device = "auto", .warmup = 1};
    const option_group groups[] = {
        batch_args_requests(spec),
        batch_args_shape(spec),
        {"run", run_option_rows, OPTION_COUNT(run_option_rows), &options},
    };
    command_line line = {
        .usage = "podattn run [requests] [shape] [--device NAME] [--check] [--json]",
        .summary = "Computes the attention of one hybrid batch of random data: fused in one call, serial as a prefill\n"
                   "call and then a decode call, and each side alone; on a GPU also with the two calls on two\n"
                   "streams. Prints medians and, with --check, errors.",
        .example = "podattn run --model llama-3-8b --prefill 512@4096 --decode 32@2048 --page-size 16 --check",
        .groups = groups,
        .num_groups = OPTION_COUNT(groups),
    };
    CLI_TRY(options_parse(&line, argc, argv, error));
    if (line.wants_help) return CLI_OK;
    return run_with_options(&options, spec, error);
}

cli_exit cmd_run(int argc, char **argv, cli_error *error) {
    batch_spec spec = batch_spec_default();
    cli_exit code = run_with_spec(argc, argv, &spec, error);
    batch_spec_free(&spec);
    return code;
}
