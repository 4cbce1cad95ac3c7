/* SPDX-License-Identifier: Apache-2.0 */
/* podattn peak: a device's ceilings, measured. */
#include "commands.h"
#include "input/options.h"
#include "output/device_report.h"
#include "output/table.h"
#include "podattn.h"
#include "run/progress.h"

#include <math.h>

typedef struct peak_options {
    const char *device;
    int32_t is_json;
} peak_options;

#define FIELD(field) .offset = offsetof(peak_options, field)

static const cli_option peak_option_rows[] = {
    {"--device", "NAME", "auto (default), cpu, cpu:N with N threads, or cuda:N", option_set_text, FIELD(device), 0, 0},
    {"--json", NULL, "print JSON", option_set_switch, FIELD(is_json), 1, 0},
};

typedef struct peak_report {
    pod_device_info device;
    pod_device_peak peak;
} peak_report;

static int has_both(const peak_report *report) {
    return report->peak.both.tflops > 0;
}

/** How long a second of reading and a second of multiplying take side by side: 1 is a perfect overlap, 2 is none. */
static double corun_factor(const peak_report *report) {
    double math = report->peak.both.tflops / report->peak.math.tflops;
    double read = report->peak.both.gb_per_s / report->peak.read.gb_per_s;
    double shorter_s = 1 / fmax(math, read);
    return shorter_s + 1 - shorter_s * fmin(math, read); /* what is left of the longer side runs alone */
}

/* ---- text ---- */

static void add_known(table *table, int digits, double value) {
    if (value > 0) {
        table_cell(table, "%.*f", digits, value);
    } else {
        table_cell(table, "-");
    }
}

static void print_text(const peak_report *report) {
    static const char *const names[] = {"read alone", "math alone", "both together"};
    const pod_device_rate *rates[] = {&report->peak.read, &report->peak.math, &report->peak.both};
    printf("device    %s: %s", report->device.backend, report->device.name);
    if (report->device.num_threads > 0) printf(", %s, threads: %d", report->device.kernel, report->device.num_threads);
    printf("\n\n");
    table table = table_begin(5);
    static const char *const headings[] = {"measured", "TFLOP/s", "GB/s", "clock MHz", "power W"};
    for (int column = 0; column < 5; column++) table_cell(&table, "%s", headings[column]);
    for (int row = 0; row < 2 + has_both(report); row++) {
        table_cell(&table, "%s", names[row]);
        add_known(&table, 3, rates[row]->tflops);
        add_known(&table, 1, rates[row]->gb_per_s);
        add_known(&table, 0, rates[row]->clock_mhz);
        add_known(&table, 0, rates[row]->power_watts);
    }
    table_print(&table, stdout);
    if (!has_both(report)) return;
    printf("\n  a second of each, side by side  %.2f s (%.0f %% of math and %.0f %% of reading meanwhile)\n",
           corun_factor(report), 100 * report->peak.both.tflops / report->peak.math.tflops,
           100 * report->peak.both.gb_per_s / report->peak.read.gb_per_s);
}

/* ---- JSON ---- */

static void write_known(json_writer *json, const char *key, double value) {
    if (value > 0) {
        json_number(json, key, value);
    } else {
        json_null(json, key);
    }
}

static void write_rate(json_writer *json, const char *key, const pod_device_rate *rate) {
    json_begin_row(json, key);
    write_known(json, "tflops", rate->tflops);
    write_known(json, "gb_per_s", rate->gb_per_s);
    write_known(json, "clock_mhz", rate->clock_mhz);
    write_known(json, "power_watts", rate->power_watts);
    json_end_object(json);
}

static void print_json(const peak_report *report) {
    json_writer json = json_begin(stdout);
    json_text(&json, "command", "peak");
    device_report_json(&report->device, report->device.kernel, NULL, &json);
    write_rate(&json, "read", &report->peak.read);
    write_rate(&json, "math", &report->peak.math);
    if (has_both(report)) {
        write_rate(&json, "both", &report->peak.both);
        json_number(&json, "corun_factor", corun_factor(report));
    } else {
        json_null(&json, "both");
        json_null(&json, "corun_factor");
    }
    json_end(&json);
}

/* ---- the command ---- */

static cli_exit measure(const char *name, peak_report *report, cli_error *error) {
    pod_device *device;
    report->device = pod_device_info_init();
    report->peak = pod_device_peak_init();
    if (pod_device_open(name, &device) != POD_OK) return cli_fail(error, "--device: %s", pod_error_message());
    pod_status status = pod_device_get_info(device, &report->device);
    progress_stage("reading and multiplying, some seconds");
    if (status == POD_OK) status = pod_device_measure_peak(device, &report->peak);
    progress_wipe();
    pod_device_close(device);
    return status == POD_OK ? CLI_OK : cli_fail_library(error);
}

cli_exit cmd_peak(int argc, char **argv, cli_error *error) {
    peak_options options = {.device = "auto"};
    const option_group group = {"peak", peak_option_rows, OPTION_COUNT(peak_option_rows), &options};
    command_line line = {
        .usage = "podattn peak [--device NAME] [--json]",
        .summary =
            "Measures what a device can do at most: reading memory, multiplying, and on a GPU both together, with\n"
            "clock and power where they are known. Takes some seconds; nothing else should run meanwhile.",
        .example = "podattn peak --device cpu",
        .groups = &group,
        .num_groups = 1,
    };
    CLI_TRY(options_parse(&line, argc, argv, error));
    if (line.wants_help) return CLI_OK;
    peak_report report;
    CLI_TRY(measure(options.device, &report, error));
    if (options.is_json) {
        print_json(&report);
    } else {
        print_text(&report);
    }
    return CLI_OK;
}
