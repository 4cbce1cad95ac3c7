/* SPDX-License-Identifier: Apache-2.0 */
#include "output/plan_report.h"

#include "output/batch_report.h"
#include "output/format.h"
#include "output/json_writer.h"

/* ---- text ---- */

static void print_header(const plan_report *report, FILE *file) {
    const pod_plan_info *info = &report->info;
    fputs("shape     ", file);
    batch_report_shape(report->spec, file);
    fputs("batch     ", file);
    batch_report_requests(report->spec, file);
    fprintf(file, "target    %s: %d CTAs; prefill tiles of %d rows x %d keys, ", report->target, info->num_ctas,
            info->prefill_tile_rows, info->prefill_tile_tokens);
    if (info->decode_rows > 0)
        fprintf(file, "decode of up to %d rows x %d keys\n", info->decode_rows, info->decode_tile_tokens);
    else
        fputs("also of decodes\n", file);
    fprintf(file, "kernel    %s%s%s%s\n", info->kernel, *info->kernel_note != '\0' ? " (" : "", info->kernel_note,
            *info->kernel_note != '\0' ? ")" : "");
    fprintf(file, "prefill   requests %s, items %s, %s of them parts of splits, tiles %s\n",
            format_count(info->num_prefill_requests).text, format_count(info->num_prefill_items).text,
            format_count(info->num_prefill_splits).text, format_count(info->num_prefill_tiles).text);
    fprintf(file, "decode    requests %s, tickets %s (equal slices), items %s, tiles %s\n",
            format_count(info->num_decode_requests).text, format_count(info->num_decode_slices).text,
            format_count(info->num_decode_items).text, format_count(info->num_decode_tiles).text);
    fprintf(file, "planned   in %s on this host, workspace %s\n", format_time(report->build_us).text,
            format_bytes((double)report->workspace_bytes).text);
}

typedef struct item_printer {
    FILE *file;
    int64_t max_tickets;
    pod_work_kind kind; /**< of the queue that is being printed */
} item_printer;

static int print_item(void *context, const pod_work_item *item) {
    const item_printer *printer = context;
    if (item->kind < printer->kind) return 0;
    if (item->kind > printer->kind || item->ticket >= printer->max_tickets)
        return 1; /* there is nothing more to list */
    char rows[32], keys[32], part[32];
    snprintf(rows, sizeof rows, "%d..%d", item->row_begin, item->row_end);
    snprintf(keys, sizeof keys, "%d..%d", item->kv_begin, item->kv_end);
    snprintf(part, sizeof part, "%d of %d", item->part + 1, item->num_parts);
    fprintf(printer->file, "  %7d  %7d  %7d  %15s  %19s  %6d  %s\n", item->ticket, item->request, item->kv_head, rows,
            keys, item->num_tiles, item->num_parts > 1 ? part : "whole");
    return 0;
}

/** Prefill's, whose items come first. */
static int count_tickets(void *context, const pod_work_item *item) {
    int64_t *num_tickets = context;
    if (item->kind != POD_WORK_PREFILL) return 1;
    *num_tickets = item->ticket + 1;
    return 0;
}

static void print_queue(const plan_report *report, pod_work_kind kind, int64_t max_tickets, FILE *file) {
    int is_prefill = kind == POD_WORK_PREFILL;
    int64_t num_tickets = is_prefill ? 0 : report->info.num_decode_slices;
    if (is_prefill) pod_plan_visit(report->plan, 0, count_tickets, &num_tickets);
    if (num_tickets == 0) return;
    const char *order =
        report->info.decode_rows > 0 ? ", longest first" : ", longest first, short requests among long ones";
    fprintf(file, "\n%s queue%s", is_prefill ? "prefill" : "decode", is_prefill ? order : "");
    if (max_tickets < num_tickets) {
        fprintf(file, " (the first %s of %s tickets; --items shows all)", format_count(max_tickets).text,
                format_count(num_tickets).text);
    }
    fprintf(file, "\n  %7s  %7s  %7s  %15s  %19s  %6s  %s\n", "ticket", "request", "kv head", "rows", "keys", "tiles",
            "part");
    item_printer printer = {file, max_tickets, kind};
    pod_plan_visit(report->plan, 0, print_item, &printer);
}

static void print_timeline(const plan_report *report, FILE *file) {
    const timeline *t = &report->timeline;
    const char *row = report->machine.kernel.row_name;
    double serial_us = t->prefill_alone_us + t->decode_alone_us;
    fprintf(file, "\nsimulated on %d %ss of %.2f TFLOP/s and %.1f GB/s each\n", t->num_rows, row,
            report->machine.row_tflops, report->machine.row_gb_per_s);
    fprintf(file, "  fused makespan  %9.1f us, %.3f of an equal share of the work, %.1f us\n", t->makespan_us,
            t->makespan_us / t->share_us, t->share_us);
    fprintf(file, "  serial          %9.1f us: prefill alone %.1f us, then decode alone %.1f us\n", serial_us,
            t->prefill_alone_us, t->decode_alone_us);
    fprintf(file, "  speed-up        %9.2f x\n", serial_us / t->makespan_us);
    fprintf(file, "  busiest %-6s  %9.1f us (%s %d), idlest %.1f us (%s %d), mean %.1f us\n", row, t->busiest_end_us,
            row, t->busiest_row, t->idlest_end_us, row, t->idlest_row, t->mean_end_us);
}

void plan_report_text(const plan_report *report, int64_t max_tickets, FILE *file) {
    print_header(report, file);
    print_queue(report, POD_WORK_PREFILL, max_tickets, file);
    print_queue(report, POD_WORK_DECODE, max_tickets, file);
    print_timeline(report, file);
}

/* ---- JSON ---- */

static void write_plan(const plan_report *report, json_writer *json) {
    const pod_plan_info *info = &report->info;
    json_begin_object(json, "plan");
    json_text(json, "kernel", info->kernel);
    json_text(json, "kernel_note", info->kernel_note);
    json_int(json, "num_ctas", info->num_ctas);
    json_int(json, "prefill_tile_rows", info->prefill_tile_rows);
    json_int(json, "prefill_tile_tokens", info->prefill_tile_tokens);
    json_int(json, "decode_rows", info->decode_rows);
    json_int(json, "decode_tile_tokens", info->decode_tile_tokens);
    json_int(json, "num_prefill_requests", info->num_prefill_requests);
    json_int(json, "num_decode_requests", info->num_decode_requests);
    json_int(json, "num_prefill_items", info->num_prefill_items);
    json_int(json, "num_prefill_splits", info->num_prefill_splits);
    json_int(json, "num_prefill_tiles", info->num_prefill_tiles);
    json_int(json, "num_decode_slices", info->num_decode_slices);
    json_int(json, "num_decode_items", info->num_decode_items);
    json_int(json, "num_decode_tiles", info->num_decode_tiles);
    json_int(json, "workspace_bytes", (int64_t)report->workspace_bytes);
    json_number(json, "build_us", report->build_us);
    json_end_object(json);
}

static int write_item(void *context, const pod_work_item *item) {
    json_writer *json = context;
    json_begin_row(json, NULL);
    json_text(json, "kind", item->kind == POD_WORK_PREFILL ? "prefill" : "decode");
    json_int(json, "ticket", item->ticket);
    json_int(json, "request", item->request);
    json_int(json, "kv_head", item->kv_head);
    json_int(json, "row_begin", item->row_begin);
    json_int(json, "row_end", item->row_end);
    json_int(json, "kv_begin", item->kv_begin);
    json_int(json, "kv_end", item->kv_end);
    json_int(json, "num_tiles", item->num_tiles);
    json_int(json, "part", item->part);
    json_int(json, "num_parts", item->num_parts);
    json_end_object(json);
    return 0;
}

static void write_timeline(const plan_report *report, json_writer *json) {
    const timeline *t = &report->timeline;
    json_begin_object(json, "simulation");
    json_text(json, "row", report->machine.kernel.row_name);
    json_int(json, "num_rows", t->num_rows);
    json_number(json, "row_tflops", report->machine.row_tflops);
    json_number(json, "row_gb_per_s", report->machine.row_gb_per_s);
    json_number(json, "makespan_us", t->makespan_us);
    json_number(json, "share_us", t->share_us);
    json_number(json, "prefill_alone_us", t->prefill_alone_us);
    json_number(json, "decode_alone_us", t->decode_alone_us);
    json_int(json, "busiest_row", t->busiest_row);
    json_number(json, "busiest_end_us", t->busiest_end_us);
    json_int(json, "idlest_row", t->idlest_row);
    json_number(json, "idlest_end_us", t->idlest_end_us);
    json_number(json, "mean_end_us", t->mean_end_us);
    json_end_object(json);
}

void plan_report_json(const plan_report *report, FILE *file) {
    json_writer json = json_begin(file);
    json_text(&json, "command", "plan");
    json_text(&json, "target", report->target);
    batch_report_shape_json(report->spec, &json);
    batch_report_requests_json(report->spec, &json);
    write_plan(report, &json);
    json_begin_array(&json, "items");
    pod_plan_visit(report->plan, 0, write_item, &json);
    json_end_array(&json);
    write_timeline(report, &json);
    json_end(&json);
}
