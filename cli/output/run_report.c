/* SPDX-License-Identifier: Apache-2.0 */
#include "output/run_report.h"

#include "output/batch_report.h"
#include "output/device_report.h"
#include "output/format.h"
#include "output/table.h"

#include <math.h>

static const char *const row_names[NUM_RUN_ROWS] = {"fused", "serial",        "streams",
                                                    "hfuse", "prefill alone", "decode alone"};
static const char *const row_keys[NUM_RUN_ROWS] = {"fused", "serial", "streams", "hfuse", "prefill", "decode"};

static double tflops(const run_report *report, int row) {
    return report->work[row].flop / report->median_us[row] * 1e-6;
}

static double gb_per_s(const run_report *report, int row) {
    return report->work[row].kv_bytes / report->median_us[row] * 1e-3;
}

/** How far the row is from the perfect overlap, 1. */
static double to_longer_side(const run_report *report, int row) {
    return report->median_us[row] / fmax(report->median_us[RUN_PREFILL], report->median_us[RUN_DECODE]);
}

static double speed_up(const run_report *report) {
    return report->median_us[RUN_SERIAL] / report->median_us[RUN_FUSED];
}

/* ---- text ---- */

static void print_problem(const run_report *report, FILE *file) {
    fputs("shape     ", file);
    batch_report_shape(report->spec, file);
    fputs("batch     ", file);
    batch_report_requests(report->spec, file);
    device_report_text(&report->device, report->plan.kernel, file);
    if (*report->plan.kernel_note != '\0') fprintf(file, " (%s)", report->plan.kernel_note);
    fprintf(file, "\nmemory    tensors %s, workspace %s\n", format_bytes(report->tensor_bytes).text,
            format_bytes(report->workspace_bytes).text);
    fprintf(file, "plan      built in %s", format_time(report->plan_us).text);
    fprintf(file, ": %s prefill items and %s decode tickets\n\n", format_count(report->plan.num_prefill_items).text,
            format_count(report->plan.num_decode_slices).text);
}

static void add_speeds(const run_report *report, int row, table *times) {
    table_cell(times, "%s", format_time(report->median_us[row]).text);
    if (!report->is_gpu) {
        table_cell(times, "%.3f", tflops(report, row));
        table_cell(times, "%.2f", gb_per_s(report, row));
        return;
    }
    table_cell(times, "%.1f", tflops(report, row));
    table_cell(times, "%.3f", gb_per_s(report, row) / 1e3);
    table_cell(times, "%.3f", to_longer_side(report, row));
}

static void print_times(const run_report *report, FILE *file) {
    int num_columns = report->is_gpu ? 5 : 4;
    table times = table_begin(num_columns);
    table_cell(&times, "call");
    table_cell(&times, "median");
    table_cell(&times, "TFLOP/s");
    table_cell(&times, report->is_gpu ? "KV TB/s" : "KV GB/s");
    if (report->is_gpu) table_cell(&times, "/ longer side");
    for (int row = 0; row < NUM_RUN_ROWS; row++) {
        if (!run_row_exists(report, row)) continue;
        table_cell(&times, "%s", row_names[row]);
        if (report->median_us[row] > 0) {
            add_speeds(report, row, &times);
        } else {
            for (int column = 1; column < num_columns; column++) table_cell(&times, "-");
        }
    }
    table_print(&times, file);
    fprintf(file, "\n  fused / longer side  %.2f x\n  serial / fused       %.2f x\n", to_longer_side(report, RUN_FUSED),
            speed_up(report));
}

static void print_check(const run_report *report, FILE *file) {
    for (int row = 0; row < NUM_WHOLE_RUN_ROWS; row++) {
        if (!run_row_exists(report, row)) continue;
        fprintf(file, "\n%-10s", row_names[row]);
        check_print(report->errors[row], report->tolerance, file);
    }
    fprintf(file, "\ncheck: %s\n", report->passes ? "PASS" : "FAIL");
}

void run_report_text(const run_report *report, FILE *file) {
    print_problem(report, file);
    print_times(report, file);
    if (report->has_check) print_check(report, file);
}

/* ---- JSON ---- */

static void write_call(const run_report *report, int row, json_writer *json) {
    if (report->median_us[row] == 0) {
        json_null(json, row_keys[row]);
        return;
    }
    json_begin_row(json, row_keys[row]);
    json_number(json, "median_us", report->median_us[row]);
    json_number(json, "tflops", tflops(report, row));
    json_number(json, "kv_gb_per_s", gb_per_s(report, row));
    json_number(json, "flop", report->work[row].flop);
    json_number(json, "kv_bytes", report->work[row].kv_bytes);
    json_end_object(json);
}

static void write_check(const run_report *report, json_writer *json) {
    if (!report->has_check) {
        json_null(json, "check");
        return;
    }
    json_begin_object(json, "check");
    json_bool(json, "passes", report->passes);
    for (int row = 0; row < NUM_WHOLE_RUN_ROWS; row++) {
        if (run_row_exists(report, row)) check_write(report->errors[row], row_keys[row], json);
    }
    check_write(report->tolerance, "tolerance", json);
    json_end_object(json);
}

void run_report_json(const run_report *report, FILE *file) {
    json_writer json = json_begin(file);
    json_text(&json, "command", "run");
    batch_report_shape_json(report->spec, &json);
    batch_report_requests_json(report->spec, &json);
    device_report_json(&report->device, report->plan.kernel, report->plan.kernel_note, &json);
    json_number(&json, "tensor_bytes", report->tensor_bytes);
    json_number(&json, "workspace_bytes", report->workspace_bytes);
    json_number(&json, "plan_us", report->plan_us);
    json_begin_object(&json, "calls");
    for (int row = 0; row < NUM_RUN_ROWS; row++) {
        if (run_row_exists(report, row)) write_call(report, row, &json);
    }
    json_end_object(&json);
    json_number(&json, "fused_to_longer_side", to_longer_side(report, RUN_FUSED));
    json_number(&json, "serial_to_fused", speed_up(report));
    write_check(report, &json);
    json_end(&json);
}
