/* SPDX-License-Identifier: Apache-2.0 */
#include "output/replay_report.h"

#include "output/batch_report.h"
#include "output/device_report.h"
#include "output/format.h"
#include "output/table.h"
#include "run/stopwatch.h"

#include <math.h>
#include <stdlib.h>

/** One way of computing all steps. */
typedef struct step_times {
    double total_us, p50_us, p99_us;
} step_times;

/** Bytes of the KV cache over all steps. */
typedef struct step_bytes {
    double mean, most;
} step_bytes;

typedef struct memory_sums {
    step_bytes physical, used, waste;
    double fragmentation; /**< the share of the pages that requests need, which no token has */
    double mean_cache_us, p99_cache_us;
} memory_sums;

typedef struct replay_sums {
    int64_t prefill_tokens, decode_tokens, num_hybrid_steps;
    double mean_plan_us;
    step_times fused, serial, streams;
    double hybrid_speed_up; /**< serial / fused over the hybrid steps, 0 if there is none */
    memory_sums memory;
} replay_sums;

static double fused_us(const replay_step *step) {
    return step->fused_us;
}

static double serial_us(const replay_step *step) {
    return step->serial_us;
}

static double streams_us(const replay_step *step) {
    return step->streams_us;
}

static int is_hybrid(const replay_step *step) {
    return step->prefill_us > 0 && step->decode_us > 0;
}

static step_times sum_times(const replay_report *report, double (*time_us)(const replay_step *), double *scratch) {
    step_times times = {0, 0, 0};
    for (int64_t s = 0; s < report->num_steps; s++) {
        scratch[s] = time_us(&report->steps[s]);
        times.total_us += scratch[s];
    }
    times.p50_us = quantile(scratch, (size_t)report->num_steps, 0.50);
    times.p99_us = quantile(scratch, (size_t)report->num_steps, 0.99);
    return times;
}

static void add_bytes(step_bytes *sum, double bytes, int64_t num_steps) {
    sum->mean += bytes / (double)num_steps;
    if (bytes > sum->most) sum->most = bytes;
}

static memory_sums sum_memory(const replay_report *report, double *scratch) {
    memory_sums sums = {.fragmentation = 0};
    for (int64_t s = 0; s < report->num_steps; s++) {
        const step_memory *memory = &report->steps[s].memory;
        add_bytes(&sums.physical, memory->physical_bytes, report->num_steps);
        add_bytes(&sums.used, memory->used_bytes, report->num_steps);
        add_bytes(&sums.waste, memory->waste_bytes, report->num_steps);
        scratch[s] = memory->cache_us;
        sums.mean_cache_us += memory->cache_us / (double)report->num_steps;
    }
    if (sums.used.mean > 0) sums.fragmentation = sums.waste.mean / (sums.used.mean + sums.waste.mean);
    sums.p99_cache_us = quantile(scratch, (size_t)report->num_steps, 0.99);
    return sums;
}

static cli_exit sum_steps(const replay_report *report, replay_sums *sums, cli_error *error) {
    *sums = (replay_sums){.prefill_tokens = 0};
    double *scratch = malloc(((size_t)report->num_steps + 1) * sizeof *scratch);
    if (scratch == NULL) return cli_fail_memory(error);
    sums->fused = sum_times(report, fused_us, scratch);
    sums->serial = sum_times(report, serial_us, scratch);
    sums->streams = sum_times(report, streams_us, scratch);
    sums->memory = sum_memory(report, scratch);
    free(scratch);
    double hybrid_fused_us = 0, hybrid_serial_us = 0;
    for (int64_t s = 0; s < report->num_steps; s++) {
        const replay_step *step = &report->steps[s];
        sums->prefill_tokens += step->prefill_tokens;
        sums->decode_tokens += step->decode_tokens;
        sums->mean_plan_us += step->plan_us / (double)report->num_steps;
        if (!is_hybrid(step)) continue;
        sums->num_hybrid_steps++;
        hybrid_fused_us += fused_us(step);
        hybrid_serial_us += serial_us(step);
    }
    if (sums->num_hybrid_steps > 0) sums->hybrid_speed_up = hybrid_serial_us / hybrid_fused_us;
    return CLI_OK;
}

/* ---- text ---- */

static void print_cache(const replay_report *report, FILE *file) {
    const scheduler_config *config = &report->config;
    if (report->cache == REPLAY_PAGED) {
        fprintf(file, "KV cache  %s pages x %d tokens, %s", format_count(config->num_pages).text, config->page_size,
                format_bytes(report->cache_bytes).text);
    } else {
        fprintf(file, "KV cache  virtual, %s, physical pages of %s, at most %s",
                report->cache == REPLAY_MEGA ? "all layers together" : "a tensor per layer",
                format_bytes((double)report->virtual_info.page_bytes).text, format_bytes(report->cache_bytes).text);
    }
    if (report->num_layers == 1)
        fputs(" for one layer\n\n", file);
    else
        fprintf(file, " for %d layers\n\n", report->num_layers);
}

static void print_bytes(const char *name, const step_bytes *bytes, FILE *file) {
    fprintf(file, "  %-17s  %s on average, %s at most\n", name, format_bytes(bytes->mean).text,
            format_bytes(bytes->most).text);
}

static void print_memory(const replay_report *report, const memory_sums *sums, FILE *file) {
    fputc('\n', file);
    print_bytes("memory taken", &sums->physical, file);
    print_bytes("of it used", &sums->used, file);
    print_bytes("wasted in pages", &sums->waste, file);
    fprintf(file, "  fragmentation      %.1f %%\n", 100 * sums->fragmentation);
    if (report->cache == REPLAY_PAGED) return;
    const pod_virtual_stats *stats = &report->stats;
    fprintf(file, "  physical pages     taken %s, mapped %s, unmapped %s; rows found mapped %s\n",
            format_count(stats->num_creates).text, format_count(stats->num_maps).text,
            format_count(stats->num_unmaps).text, format_count(stats->num_reused_rows).text);
    fprintf(file, "  virtual cache      %s per step, p99 %s; the driver %s\n", format_time(sums->mean_cache_us).text,
            format_time(sums->p99_cache_us).text, format_time(stats->driver_us).text);
    fprintf(file, "  waited             in %s of %s steps\n", format_count(stats->num_waits).text,
            format_count(report->num_steps).text);
}

static void print_setting(const replay_report *report, FILE *file) {
    const scheduler_config *config = &report->config;
    fprintf(file, "trace     %s (%s): requests %s", report->trace_name, trace_format_name(report->trace->format),
            format_count(report->trace->num_requests).text);
    if (report->num_skipped > 0) fprintf(file, " (skipped %s more)", format_count(report->num_skipped).text);
    trace_means means = trace_mean_tokens(report->trace);
    fprintf(file, ", mean prompt %s tokens, mean answer %s", format_count((int64_t)lround(means.prefill_tokens)).text,
            format_count((int64_t)lround(means.decode_tokens)).text);
    fputs("\nshape     ", file);
    batch_report_shape(report->spec, file);
    device_report_text(&report->device, report->device.kernel, file);
    fprintf(file, "\nschedule  chunks of %s tokens, at most %s requests at a time\n",
            format_count(config->chunk_tokens).text, format_count(config->max_batch).text);
    print_cache(report, file);
}

static void print_counts(const replay_report *report, const replay_sums *sums, FILE *file) {
    fprintf(file, "  steps              %s, %s of them hybrid\n", format_count(report->num_steps).text,
            format_count(sums->num_hybrid_steps).text);
    fprintf(file, "  tokens             %s prefill, %s decode\n", format_count(sums->prefill_tokens).text,
            format_count(sums->decode_tokens).text);
    fprintf(file, "  requests finished  %s of %s\n\n", format_count(report->num_finished).text,
            format_count(report->trace->num_requests).text);
}

static void add_times(table *table, const char *name, const step_times *times, int64_t num_steps) {
    table_cell(table, "%s", name);
    table_cell(table, "%s", format_time(times->total_us).text);
    table_cell(table, "%s", format_time(times->total_us / (double)num_steps).text);
    table_cell(table, "%s", format_time(times->p50_us).text);
    table_cell(table, "%s", format_time(times->p99_us).text);
}

static void print_times(const replay_report *report, const replay_sums *sums, FILE *file) {
    table times = table_begin(5);
    static const char *const headings[] = {"time of one layer", "total", "mean step", "p50 step", "p99 step"};
    for (int column = 0; column < 5; column++) table_cell(&times, "%s", headings[column]);
    add_times(&times, "fused", &sums->fused, report->num_steps);
    add_times(&times, "serial", &sums->serial, report->num_steps);
    if (report->has_streams) add_times(&times, "streams", &sums->streams, report->num_steps);
    table_print(&times, file);
    fprintf(file, "\n  serial / fused     %.2f x", sums->serial.total_us / sums->fused.total_us);
    if (sums->num_hybrid_steps > 0) fprintf(file, ", %.2f x over the hybrid steps", sums->hybrid_speed_up);
    fprintf(file, "\n  planning           %s per step, once for all layers\n", format_time(sums->mean_plan_us).text);
}

cli_exit replay_report_text(const replay_report *report, FILE *file, cli_error *error) {
    replay_sums sums;
    CLI_TRY(sum_steps(report, &sums, error));
    print_setting(report, file);
    print_counts(report, &sums, file);
    print_times(report, &sums, file);
    print_memory(report, &sums.memory, file);
    if (report->num_checked_steps == 0) return CLI_OK;
    fprintf(file, "\nchecked steps %s, worst: ", format_count(report->num_checked_steps).text);
    check_print(report->errors, report->tolerance, file);
    fprintf(file, "\ncheck: %s\n", report->passes ? "PASS" : "FAIL");
    return CLI_OK;
}

/* ---- JSON ---- */

static void write_setting(const replay_report *report, json_writer *json) {
    trace_means means = trace_mean_tokens(report->trace);
    json_begin_object(json, "trace");
    json_text(json, "name", report->trace_name);
    json_text(json, "format", trace_format_name(report->trace->format));
    json_int(json, "num_requests", report->trace->num_requests);
    json_int(json, "num_skipped", report->num_skipped);
    json_number(json, "mean_prefill_tokens", means.prefill_tokens);
    json_number(json, "mean_decode_tokens", means.decode_tokens);
    json_end_object(json);
    device_report_json(&report->device, report->device.kernel, NULL, json);
    json_begin_row(json, "schedule");
    json_int(json, "chunk_tokens", report->config.chunk_tokens);
    json_int(json, "max_batch", report->config.max_batch);
    json_int(json, "page_size", report->config.page_size);
    json_int(json, "num_pages", report->config.num_pages);
    json_number(json, "cache_bytes", report->cache_bytes);
    json_end_object(json);
}

static void write_bytes(const char *key, const step_bytes *bytes, json_writer *json) {
    json_begin_row(json, key);
    json_number(json, "mean_bytes", bytes->mean);
    json_number(json, "most_bytes", bytes->most);
    json_end_object(json);
}

static void write_memory(const replay_report *report, const memory_sums *sums, json_writer *json) {
    static const char *const names[] = {"paged", "virtual", "mega"};
    const pod_virtual_stats *stats = &report->stats;
    json_begin_object(json, "cache");
    json_text(json, "kind", names[report->cache]);
    json_int(json, "num_layers", report->num_layers);
    write_bytes("physical", &sums->physical, json);
    write_bytes("used", &sums->used, json);
    write_bytes("waste", &sums->waste, json);
    json_number(json, "fragmentation", sums->fragmentation);
    if (report->cache != REPLAY_PAGED) {
        json_int(json, "physical_page_bytes", report->virtual_info.page_bytes);
        json_int(json, "num_tensors", report->virtual_info.num_tensors);
        json_int(json, "num_creates", stats->num_creates);
        json_int(json, "num_maps", stats->num_maps);
        json_int(json, "num_unmaps", stats->num_unmaps);
        json_int(json, "num_reused_rows", stats->num_reused_rows);
        json_int(json, "num_waits", stats->num_waits);
        json_number(json, "mean_us", sums->mean_cache_us);
        json_number(json, "p99_us", sums->p99_cache_us);
        json_number(json, "driver_us", stats->driver_us);
        json_number(json, "longest_wait_us", stats->longest_wait_us);
    }
    json_end_object(json);
}

static void write_times(const char *key, const step_times *times, int64_t num_steps, json_writer *json) {
    json_begin_row(json, key);
    json_number(json, "total_us", times->total_us);
    json_number(json, "mean_us", times->total_us / (double)num_steps);
    json_number(json, "p50_us", times->p50_us);
    json_number(json, "p99_us", times->p99_us);
    json_end_object(json);
}

static void write_steps(const replay_report *report, json_writer *json) {
    json_begin_array(json, "steps");
    for (int64_t s = 0; s < report->num_steps; s++) {
        const replay_step *step = &report->steps[s];
        json_begin_row(json, NULL);
        json_int(json, "num_requests", step->num_requests);
        json_int(json, "prefill_tokens", step->prefill_tokens);
        json_int(json, "decode_tokens", step->decode_tokens);
        json_number(json, "plan_us", step->plan_us);
        json_number(json, "fused_us", step->fused_us);
        json_number(json, "prefill_us", step->prefill_us);
        json_number(json, "decode_us", step->decode_us);
        if (report->has_streams) {
            json_number(json, "serial_us", step->serial_us);
            json_number(json, "streams_us", step->streams_us);
        }
        json_number(json, "physical_bytes", step->memory.physical_bytes);
        json_number(json, "used_bytes", step->memory.used_bytes);
        json_number(json, "waste_bytes", step->memory.waste_bytes);
        if (report->cache != REPLAY_PAGED) json_number(json, "cache_us", step->memory.cache_us);
        json_end_object(json);
    }
    json_end_array(json);
}

static void write_check(const replay_report *report, json_writer *json) {
    if (report->num_checked_steps == 0) {
        json_null(json, "check");
        return;
    }
    json_begin_object(json, "check");
    json_bool(json, "passes", report->passes);
    json_int(json, "num_steps", report->num_checked_steps);
    check_write(report->errors, "worst", json);
    check_write(report->tolerance, "tolerance", json);
    json_end_object(json);
}

cli_exit replay_report_json(const replay_report *report, FILE *file, cli_error *error) {
    replay_sums sums;
    CLI_TRY(sum_steps(report, &sums, error));
    json_writer json = json_begin(file);
    json_text(&json, "command", "replay");
    write_setting(report, &json);
    batch_report_shape_json(report->spec, &json);
    json_int(&json, "num_steps", report->num_steps);
    json_int(&json, "num_hybrid_steps", sums.num_hybrid_steps);
    json_int(&json, "prefill_tokens", sums.prefill_tokens);
    json_int(&json, "decode_tokens", sums.decode_tokens);
    json_int(&json, "num_finished", report->num_finished);
    write_times("fused", &sums.fused, report->num_steps, &json);
    write_times("serial", &sums.serial, report->num_steps, &json);
    if (report->has_streams) write_times("streams", &sums.streams, report->num_steps, &json);
    json_number(&json, "serial_to_fused", sums.serial.total_us / sums.fused.total_us);
    json_number(&json, "mean_plan_us", sums.mean_plan_us);
    write_memory(report, &sums.memory, &json);
    write_check(report, &json);
    write_steps(report, &json);
    json_end(&json);
    return CLI_OK;
}
