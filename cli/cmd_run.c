/* SPDX-License-Identifier: Apache-2.0 */
/* podattn run: one hybrid batch, timed in every way, and checked. */
#include "batch_args.h"
#include "batch_arrays.h"
#include "commands.h"
#include "engine.h"
#include "host_device.h"
#include "host_memory.h"
#include "progress.h"
#include "run_report.h"
#include "stopwatch.h"
#include "tensor_set.h"

#include <stdlib.h>

typedef struct run_options {
    const char *device;
    int32_t repeat, warmup;
    int32_t has_check;
    int32_t is_json;
} run_options;

#define FIELD(field) .offset = offsetof(run_options, field)

static const cli_option run_option_rows[] = {
    {"--device", "NAME", "cpu (default), or cpu:N with N threads", option_set_text, FIELD(device), 0, 0},
    {"--repeat", "N", "timed runs of each call (5)", option_set_int32, FIELD(repeat), 1, 1000000},
    {"--warmup", "N", "runs before them (1)", option_set_int32, FIELD(warmup), 0, 1000000},
    {"--check", NULL, "compare with the double-precision oracle", option_set_switch, FIELD(has_check), 1, 0},
    {"--json", NULL, "print JSON", option_set_switch, FIELD(is_json), 1, 0},
};

/** All that one run holds. */
typedef struct run_state {
    const run_options *options;
    pod_limits limits;
    batch_arrays arrays;
    tensor_set tensors;
    engine engine;
    double *times_us; /**< [NUM_RUN_ROWS][repeat] */
    run_report report;
} run_state;

/** Longest query first, which puts prefill work before decode work. */
static int compare_requests(const void *left, const void *right) {
    const batch_request *a = left, *b = right;
    if (a->q_len != b->q_len) return a->q_len > b->q_len ? -1 : 1;
    return (b->kv_len > a->kv_len) - (b->kv_len < a->kv_len);
}

/** Everything is counted before anything is taken. */
static cli_exit check_memory(run_state *run, pod_device *device, const batch_spec *spec, int64_t num_pages,
                             cli_error *error) {
    size_t workspace_bytes;
    if (pod_workspace_size(device, &run->limits, &workspace_bytes) != POD_OK) return cli_fail_library(error);
    run->report.workspace_bytes = (double)workspace_bytes;
    run->report.tensor_bytes = tensor_set_bytes(&run->limits, num_pages);
    double bytes = run->report.tensor_bytes + NUM_CALLS * run->report.workspace_bytes;
    bytes += batch_arrays_bytes(spec, &run->limits);
    if (run->options->has_check) bytes += check_reference_bytes(&run->limits);
    return host_memory_check("the batch", bytes, error);
}

static int64_t count_pages(const batch_spec *spec) {
    if (spec->page_size == 0) return spec->num_requests;
    int64_t num_pages = 0;
    for (int32_t r = 0; r < spec->num_requests; r++)
        num_pages += batch_pages(spec->requests[r].kv_len, spec->page_size);
    return num_pages;
}

static cli_exit set_up(run_state *run, pod_device *device, const batch_spec *spec, cli_error *error) {
    run->limits = batch_spec_limits(spec);
    int64_t num_pages = count_pages(spec);
    CLI_TRY(check_memory(run, device, spec, num_pages, error));
    CLI_TRY(batch_arrays_make(spec, &run->limits, &run->arrays, error));
    CLI_TRY(engine_make(device, &run->limits, &run->engine, error));
    CLI_TRY(engine_plan(&run->engine, &run->arrays.batch, error)); /* all of the input is validated here */
    CLI_TRY(tensor_set_make(spec, &run->limits, num_pages, &run->tensors, error));
    run->times_us = malloc((size_t)run->options->repeat * NUM_RUN_ROWS * sizeof(double));
    return run->times_us != NULL ? CLI_OK : cli_fail_memory(error);
}

static cli_exit run_serial(run_state *run, double *prefill_us, double *decode_us, cli_error *error) {
    CLI_TRY(engine_run(&run->engine, CALL_PREFILL, &run->tensors.tensors, prefill_us, error));
    return engine_run(&run->engine, CALL_DECODE, &run->tensors.tensors, decode_us, error);
}

/** Poisons, runs, and only then asks the oracle, so that no memory that held the answer comes by. */
static cli_exit check_both(run_state *run, cli_error *error) {
    double unused_us[2];
    check_reference reference;
    run_report *report = &run->report;
    tensor_set_poison(&run->tensors);
    CLI_TRY(engine_run(&run->engine, CALL_FUSED, &run->tensors.tensors, unused_us, error));
    cli_exit code = check_reference_make(&run->limits, &run->arrays.batch, &run->tensors.tensors, &reference, error);
    if (code == CLI_OK) {
        report->fused_errors = check_compare(&reference, &run->tensors.tensors);
        tensor_set_poison(&run->tensors);
        code = run_serial(run, &unused_us[0], &unused_us[1], error);
        report->serial_errors = check_compare(&reference, &run->tensors.tensors);
    }
    check_reference_free(&reference);
    report->has_check = 1;
    report->tolerance = check_tolerance(run->limits.out_dtype);
    report->passes =
        check_passes(report->fused_errors, report->tolerance) && check_passes(report->serial_errors, report->tolerance);
    return code;
}

/** Fused and serial take turns, so that a change of the machine's speed meets both. */
static cli_exit time_calls(run_state *run, cli_error *error) {
    int32_t repeat = run->options->repeat, total = run->options->warmup + repeat;
    progress progress = progress_begin();
    for (int32_t i = -run->options->warmup; i < repeat; i++) {
        double fused_us, prefill_us, decode_us;
        progress_update(&progress, "run %d of %d", i + run->options->warmup + 1, total);
        CLI_TRY(engine_run(&run->engine, CALL_FUSED, &run->tensors.tensors, &fused_us, error));
        CLI_TRY(run_serial(run, &prefill_us, &decode_us, error));
        if (i < 0) continue;
        run->times_us[RUN_FUSED * repeat + i] = fused_us;
        run->times_us[RUN_SERIAL * repeat + i] = prefill_us + decode_us;
        run->times_us[RUN_PREFILL * repeat + i] = prefill_us;
        run->times_us[RUN_DECODE * repeat + i] = decode_us;
    }
    progress_end(&progress);
    for (int row = 0; row < NUM_RUN_ROWS; row++) {
        run->report.median_us[row] = quantile(run->times_us + row * (int64_t)repeat, (size_t)repeat, 0.5);
    }
    return CLI_OK;
}

static void count_work(run_state *run) {
    run->report.work[RUN_FUSED] = run->report.work[RUN_SERIAL] =
        workload_of(&run->limits, &run->engine.batches[CALL_FUSED]);
    run->report.work[RUN_PREFILL] = workload_of(&run->limits, &run->engine.batches[CALL_PREFILL]);
    run->report.work[RUN_DECODE] = workload_of(&run->limits, &run->engine.batches[CALL_DECODE]);
}

static cli_exit run_batch(run_state *run, pod_device *device, const batch_spec *spec, cli_error *error) {
    CLI_TRY(set_up(run, device, spec, error));
    if (run->options->has_check) CLI_TRY(check_both(run, error));
    CLI_TRY(time_calls(run, error));
    count_work(run);
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
    qsort(spec->requests, (size_t)spec->num_requests, sizeof *spec->requests, compare_requests);
    run_state run = {.options = options, .report = {.spec = spec}};
    pod_device *device;
    CLI_TRY(host_device_open(options->device, &device, &run.report.device, error));
    cli_exit code = run_batch(&run, device, spec, error);
    free(run.times_us);
    engine_free(&run.engine);
    tensor_set_free(&run.tensors);
    batch_arrays_free(&run.arrays);
    pod_device_close(device);
    return code;
}

static cli_exit run_with_spec(int argc, char **argv, batch_spec *spec, cli_error *error) {
    run_options options = {.device = "cpu", .repeat = 5, .warmup = 1};
    const option_group groups[] = {
        batch_args_requests(spec),
        batch_args_shape(spec),
        {"run", run_option_rows, OPTION_COUNT(run_option_rows), &options},
    };
    command_line line = {
        .usage = "podattn run [requests] [shape] [--device NAME] [--check] [--json]",
        .summary = "Computes the attention of one hybrid batch of random data: fused in one call, serial as a prefill\n"
                   "call and then a decode call, and each side alone. Prints medians and, with --check, errors.",
        .groups = groups,
        .num_groups = OPTION_COUNT(groups),
    };
    CLI_TRY(options_parse(&line, argc, argv, error));
    if (line.wants_help) {
        options_print_help(&line, stdout);
        return CLI_OK;
    }
    return run_with_options(&options, spec, error);
}

cli_exit cmd_run(int argc, char **argv, cli_error *error) {
    batch_spec spec = batch_spec_default();
    cli_exit code = run_with_spec(argc, argv, &spec, error);
    batch_spec_free(&spec);
    return code;
}
