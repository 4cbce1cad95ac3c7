/* SPDX-License-Identifier: Apache-2.0 */
/* podattn plan: what every CTA of a target would do for a batch. Needs no such device. */
#include "commands.h"
#include "input/batch_args.h"
#include "input/batch_arrays.h"
#include "output/file_writer.h"
#include "output/format.h"
#include "output/plan_report.h"
#include "output/svg.h"
#include "run/planner.h"
#include "run/progress.h"
#include "run/stopwatch.h"

enum { LISTED_TICKETS = 6, NUM_BUILDS = 5, LONG_US = 500000 };

typedef struct plan_options {
    const char *target;
    const char *svg_path;
    int32_t shows_items;
    int32_t is_json;
} plan_options;

#define FIELD(field) .offset = offsetof(plan_options, field)

static const cli_option plan_option_rows[] = {
    {"--target", "TARGET", "h100 (default), a100, cpu, or sms=N: an H100 with N SMs; options as in h100,kernel=sm80",
     option_set_text, FIELD(target), 0, 0},
    {"--items", NULL, "list every work item", option_set_switch, FIELD(shows_items), 1, 0},
    {"--svg", "FILE", "write the simulated timeline as a picture", option_set_text, FIELD(svg_path), 0, 0},
    {"--json", NULL, "print JSON, every item included", option_set_switch, FIELD(is_json), 1, 0},
};

static cli_exit open_target(const char *target, pod_device **device, cli_error *error) {
    char name[64];
    snprintf(name, sizeof name, "sim:%.48s", target);
    if (pod_device_open(name, device) == POD_OK) return CLI_OK;
    return cli_fail(error, "--target: %s", pod_error_message());
}

/** Builds several times, unless that is long: the first touches fresh memory, and the best says what planning costs. */
static cli_exit build_plan(planner *planner, const pod_batch *batch, double *best_us, cli_error *error) {
    double first_us = stopwatch_us();
    for (int i = 0; i < NUM_BUILDS && (i == 0 || stopwatch_us() - first_us < LONG_US); i++) {
        double begin_us = stopwatch_us();
        CLI_TRY(planner_build(planner, batch, error));
        double took_us = stopwatch_us() - begin_us;
        if (i == 0 || took_us < *best_us) *best_us = took_us;
    }
    return CLI_OK;
}

static cli_exit write_svg(const plan_report *report, const char *path, cli_error *error) {
    char title[128];
    snprintf(title, sizeof title, "%s request%s of %s", format_count(report->spec->num_requests).text,
             report->spec->num_requests == 1 ? "" : "s",
             report->spec->model[0] != '\0' ? report->spec->model : "a model");
    text_buffer text;
    CLI_TRY(text_begin(&text, error));
    char target[96];
    const char *sms = strncmp(report->target, "sms=", 4) == 0 ? report->target + 4 : NULL;
    snprintf(target, sizeof target, sms != NULL ? "%s SMs" : "%s", sms != NULL ? sms : report->target);
    svg_caption caption = {title, target, &report->machine};
    svg_write(&report->timeline, report->spec, &caption, text.file);
    cli_exit code = text_end(&text, error);
    if (code == CLI_OK) code = file_write(path, &text, error);
    text_free(&text);
    return code;
}

static cli_exit report_plan(const plan_options *options, plan_report *report, cli_error *error) {
    report->info = pod_plan_info_init();
    if (pod_plan_get_info(report->plan, 0, &report->info) != POD_OK) return cli_fail_library(error);
    report->machine = machine_find(report->device, report->target, report->info.kernel);
    progress_stage("simulating");
    CLI_TRY(timeline_simulate(report->plan, &report->info, report->spec, &report->machine, options->svg_path != NULL,
                              &report->timeline, error));
    if (options->svg_path != NULL) CLI_TRY(write_svg(report, options->svg_path, error));
    progress_wipe();
    if (options->is_json) {
        plan_report_json(report, stdout);
    } else {
        plan_report_text(report, options->shows_items ? INT64_MAX : LISTED_TICKETS, stdout);
    }
    return CLI_OK;
}

static cli_exit plan_batch(const plan_options *options, const batch_spec *spec, pod_device *device,
                           device_memory *memory, cli_error *error) {
    pod_limits limits = batch_spec_limits(spec);
    planner planner = {.plan = NULL};
    batch_arrays arrays = {.batch = pod_batch_init()};
    plan_report report = {.target = options->target, .spec = spec, .device = device};
    progress_stage("planning");
    cli_exit code = planner_make(device, memory, &limits, &planner, error);
    if (code == CLI_OK) code = batch_arrays_make(spec, &limits, PAGES_IN_ORDER, &arrays, error);
    if (code == CLI_OK) code = build_plan(&planner, &arrays.batch, &report.build_us, error);
    report.plan = planner.plan;
    report.workspace_bytes = planner.workspace.plan_bytes + planner.workspace.scratch_bytes;
    if (code == CLI_OK) code = report_plan(options, &report, error);
    timeline_free(&report.timeline);
    batch_arrays_free(&arrays);
    planner_free(&planner);
    return code;
}

static cli_exit plan_with_spec(int argc, char **argv, batch_spec *spec, cli_error *error) {
    plan_options options = {.target = "h100"};
    const option_group groups[] = {
        batch_args_requests(spec),
        batch_args_shape(spec),
        {"plan", plan_option_rows, OPTION_COUNT(plan_option_rows), &options},
    };
    command_line line = {
        .usage = "podattn plan [requests] [shape] [--target TARGET] [--svg FILE] [--json]",
        .summary = "Plans one hybrid batch for a target and shows both work queues and a simulated timeline.",
        .example = "podattn plan --prefill 1024@8192 --decode 64@4096 --target h100 --svg timeline.svg",
        .groups = groups,
        .num_groups = OPTION_COUNT(groups),
    };
    CLI_TRY(options_parse(&line, argc, argv, error));
    if (line.wants_help) return CLI_OK;
    CLI_TRY(batch_spec_check(spec, error));
    pod_device *device;
    CLI_TRY(open_target(options.target, &device, error));
    const pod_device_info info = pod_device_info_init(); /* a simulated device has no memory of its own */
    device_memory *memory;
    cli_exit code = device_memory_open(options.target, &info, &memory, error);
    if (code == CLI_OK) code = plan_batch(&options, spec, device, memory, error);
    device_memory_close(memory);
    pod_device_close(device);
    return code;
}

cli_exit cmd_plan(int argc, char **argv, cli_error *error) {
    batch_spec spec = batch_spec_default();
    cli_exit code = plan_with_spec(argc, argv, &spec, error);
    batch_spec_free(&spec);
    return code;
}
