/* SPDX-License-Identifier: Apache-2.0 */
/* podattn bench: suites of measurements, each into a CSV file. */
#include "bench/bench.h"
#include "bench/commit.h"
#include "bench/suites.h"
#include "commands.h"
#include "input/csv_name.h"
#include "input/number.h"
#include "input/options.h"
#include "output/json_writer.h"
#include "run/stopwatch.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_SUITES = 16, REPEAT = 50, WARMUP = 4, CPU_REPEAT = 5, CPU_WARMUP = 1, MAX_REPEAT = 1000 };

#define FIELD(field) .offset = offsetof(bench_options, field)

static cli_exit add_batch_file(const cli_option *option, void *target, const char *text, cli_error *error) {
    bench_options *options = target;
    if (options->num_batch_files == BENCH_MAX_FILES) {
        return cli_fail(error, "%s is given more than %d times", option->name, BENCH_MAX_FILES);
    }
    options->batch_files[options->num_batch_files++] = text;
    return CLI_OK;
}

static cli_exit set_kv_dtype(const cli_option *option, void *target, const char *text, cli_error *error) {
    batch_spec tried = batch_spec_default();
    CLI_TRY(batch_spec_set_kv_dtype(&tried, option->name, text, error));
    return option_set_text(option, target, text, error);
}

static const cli_option bench_option_rows[] = {
    {"--out", "DIR", "where the files go (bench/out)", option_set_text, FIELD(out), 0, 0},
    {"--device", "NAME", "auto (default), cpu, cpu:N with N threads, or cuda:N", option_set_text, FIELD(device), 0, 0},
    {"--short", NULL, "a sample of each suite; always so on a CPU", option_set_switch, FIELD(is_short), 1, 0},
    {"--time-limit", "S", "seconds for all suites together", option_set_int64, FIELD(time_limit_s), 1, NUMBER_MAX},
    {"--resume", NULL, "go on with files that this command began", option_set_switch, FIELD(resumes), 1, 0},
    {"--overwrite", NULL, "begin files anew", option_set_switch, FIELD(overwrites), 1, 0},
    {"--repeat", "N", "timed turns of each row (50; 5 on a CPU)", option_set_int32, FIELD(repeat), 1, MAX_REPEAT},
    {"--batches", "FILE", "batches for the suite batches; may be repeated", add_batch_file, 0, 0, 0},
    {"--kv-dtype", "NAME", "of their KV caches: bf16 (default), f16, f32 or f8e4m3", set_kv_dtype, FIELD(kv_dtype), 0,
     0},
    {"--trace", "FILE", "a trace instead of the synthetic ones", option_set_text, FIELD(trace), 0, 0},
    {"--launch", "CASE/VARIANT...", "only compute this a few times, for a profiler", option_set_text, FIELD(launch), 0,
     0},
    {"--json", NULL, "print JSON", option_set_switch, FIELD(is_json), 1, 0},
};

/** What became of a suite. */
typedef struct suite_result {
    const bench_suite *suite;
    char path[512];
    int32_t num_done, num_kept, num_left_out;
    char reason[160]; /**< why the first row, or the whole suite, was left out; "" */
} suite_result;

/* ---- the file's heading ---- */

/** The command that makes the file as it is. */
static void print_command(const bench *bench, const bench_suite *suite, FILE *file) {
    const bench_options *options = bench->options;
    fprintf(file, "# command: podattn bench %s --device %s", bench->suite, bench->device_name);
    if (bench->is_short) fprintf(file, " --short");
    fprintf(file, " --repeat %d", bench->repeat);
    for (int32_t f = 0; f < options->num_batch_files && suite->needs_batches; f++) {
        fprintf(file, " --batches %s", options->batch_files[f]);
    }
    if (suite->needs_batches && options->kv_dtype != NULL) fprintf(file, " --kv-dtype %s", options->kv_dtype);
    if (suite->takes_trace && options->trace != NULL) fprintf(file, " --trace %s", options->trace);
    fputc('\n', file);
}

static void print_identity(const bench *bench, const bench_suite *suite, FILE *file) {
    const pod_device_info *info = &bench->device.info;
    fprintf(file, "# podattn %s, %s: %s\n", pod_version(), bench->suite, suite->title);
    fprintf(file, "# device: %s: %s, kernel %s, CTAs: %d", info->backend, info->name, info->kernel, info->num_ctas);
    if (info->num_threads > 0) fprintf(file, ", threads: %d", info->num_threads);
    fprintf(file, "\n# commit: %s\n", bench_commit());
    print_command(bench, suite, file);
}

static void print_heading(const bench *bench, const bench_suite *suite, char *text, size_t bytes) {
    char date[32] = "", gpu[256];
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    gpu_state_print(&bench->nvml, gpu, sizeof gpu);
    snprintf(text, bytes, "# date: %s\n# state: %s\n# turns: %d timed after %d; times in microseconds%s\n%s\n", date,
             gpu, bench->repeat, bench->warmup, bench->is_gpu ? "" : "; tokens / 16, decodes / 4", suite->columns);
}

/* ---- one suite ---- */

static cli_exit open_file(bench *bench, const bench_suite *suite, cli_error *error) {
    const bench_options *options = bench->options;
    char heading[1024];
    text_buffer identity;
    bench_file_mode mode = options->overwrites ? BENCH_FILE_OVERWRITE
                           : options->resumes  ? BENCH_FILE_RESUME
                                               : BENCH_FILE_NEW;
    CLI_TRY(text_begin(&identity, error));
    print_identity(bench, suite, identity.file);
    print_heading(bench, suite, heading, sizeof heading);
    cli_exit code = text_end(&identity, error);
    if (code == CLI_OK) {
        code = bench_file_open(&bench->file, mode, options->out, suite->name, identity.data, heading, error);
    }
    text_free(&identity);
    return code;
}

/** What the device cannot do, "" if it can. */
static const char *why_not(const bench *bench, const bench_suite *suite) {
    if (suite->needs_gpu && !bench->is_gpu) return "needs a GPU";
    if (suite->needs_batches && bench->options->num_batch_files == 0) return "needs --batches FILE";
    return "";
}

/** A suite that fails leaves what it has; the others go on. */
static void end_suite(bench *bench, cli_exit code, const cli_error *reason, suite_result *result) {
    char comment[300];
    if (bench->is_gpu) {
        size_t used = (size_t)snprintf(comment, sizeof comment, "state at the end: ");
        gpu_state_print(&bench->nvml, comment + used, sizeof comment - used);
        bench_file_comment(&bench->file, comment);
    }
    if (code != CLI_OK) bench_leave_out(bench, bench->suite, reason->line);
    snprintf(result->path, sizeof result->path, "%s", bench->file.path);
    snprintf(result->reason, sizeof result->reason, "%s", bench->file.first_reason);
    result->num_done = bench->file.num_done;
    result->num_kept = bench->file.num_kept;
    result->num_left_out = bench->file.num_left_out;
}

static cli_exit run_suite(bench *bench, const bench_suite *suite, suite_result *result, cli_error *error) {
    cli_error reason = {""};
    *result = (suite_result){.suite = suite};
    snprintf(result->reason, sizeof result->reason, "%s", why_not(bench, suite));
    if (result->reason[0] != '\0') return CLI_OK;
    bench->suite = suite->name;
    CLI_TRY(open_file(bench, suite, error));
    cli_exit code = bench_suite_run(bench, suite, &reason);
    end_suite(bench, code, &reason, result);
    return bench_file_close(&bench->file, error);
}

/* ---- report ---- */

static void print_text(const suite_result *results, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        const suite_result *r = &results[i];
        if (r->path[0] == '\0') {
            printf("%-13s left out: %s\n", r->suite->name, r->reason);
            continue;
        }
        printf("%-13s %s: cases done %d", r->suite->name, r->path, r->num_done);
        if (r->num_kept > 0) printf(", there before %d", r->num_kept);
        if (r->num_left_out > 0) printf(", left out %d: %s", r->num_left_out, r->reason);
        printf("\n");
    }
}

static void print_json(const suite_result *results, int32_t count) {
    json_writer json = json_begin(stdout);
    json_text(&json, "command", "bench");
    json_text(&json, "commit", bench_commit());
    json_begin_array(&json, "suites");
    for (int32_t i = 0; i < count; i++) {
        const suite_result *r = &results[i];
        json_begin_row(&json, NULL);
        json_text(&json, "suite", r->suite->name);
        if (r->path[0] != '\0') {
            json_text(&json, "file", r->path);
        } else {
            json_null(&json, "file");
        }
        json_int(&json, "num_done", r->num_done);
        json_int(&json, "num_kept", r->num_kept);
        json_int(&json, "num_left_out", r->num_left_out);
        json_text(&json, "reason", r->reason);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end(&json);
}

/* ---- the command ---- */

static cli_exit choose_suites(const command_line *line, const bench_suite *chosen[MAX_SUITES], int32_t *count,
                              cli_error *error) {
    *count = 0;
    for (int i = 0; i < line->num_operands; i++) {
        const char *name = line->operands[i];
        const bench_suite *suite = bench_suite_find(name);
        if (strcmp(name, "all") == 0) {
            for (*count = 0; bench_suite_at((size_t)*count) != NULL; (*count)++) {
                chosen[*count] = bench_suite_at((size_t)*count);
            }
            return CLI_OK;
        }
        if (suite == NULL) return cli_fail(error, "unknown suite \"%.64s\"; podattn bench --help lists them", name);
        for (int32_t k = 0; k < *count; k++) {
            if (chosen[k] == suite) return cli_fail(error, "the suite %s is given twice", name);
        }
        chosen[(*count)++] = suite;
    }
    return CLI_OK;
}

/** What is left of the time limit is divided among the suites that are left. */
static double next_deadline_us(double end_us, int32_t num_left) {
    double now_us = stopwatch_us();
    return isfinite(end_us) ? now_us + (end_us - now_us) / num_left : end_us;
}

static cli_exit run_suites(bench *bench, const bench_suite *const chosen[], int32_t count, cli_error *error) {
    suite_result results[MAX_SUITES];
    const bench_options *options = bench->options;
    double limit_us = options->time_limit_s > 0 ? (double)options->time_limit_s * 1e6 : HUGE_VAL;
    double end_us = stopwatch_us() + limit_us;
    CLI_TRY(bench_file_make_folder(options->out, error));
    for (int32_t i = 0; i < count; i++) {
        bench->deadline_us = next_deadline_us(end_us, count - i);
        CLI_TRY(run_suite(bench, chosen[i], &results[i], error));
    }
    progress_wipe();
    if (options->is_json) {
        print_json(results, count);
    } else {
        print_text(results, count);
    }
    return CLI_OK;
}

/** Nothing but what a profiler is to see. */
static cli_exit launch(bench *bench, const bench_suite *suite, cli_error *error) {
    if (strcmp(why_not(bench, suite), "") != 0) {
        return cli_fail(error, "%s %s", suite->name, why_not(bench, suite));
    }
    if (suite->batches == NULL) return cli_fail(error, "--launch: %s has no batches", suite->name);
    bench->suite = suite->name;
    bench->deadline_us = HUGE_VAL;
    return bench_suite_run(bench, suite, error);
}

/** How "auto" is called once it is known what it is. */
static const char *device_name(const bench *bench) {
    if (strcmp(bench->options->device, "auto") != 0) return bench->options->device;
    return bench->is_gpu ? "cuda:0" : "cpu";
}

/** What can be wrong with the input shows before anything is measured. */
static cli_exit read_files(bench *bench, cli_error *error) {
    const bench_options *options = bench->options;
    for (int32_t f = 0; f < options->num_batch_files; f++) {
        CLI_TRY(csv_name_check("--batches", options->batch_files[f], error)); /* which the cases and the heading name */
        CLI_TRY(file_parse(options->batch_files[f], batch_file_parse, &bench->batches[f], error));
    }
    if (options->trace == NULL) return CLI_OK;
    CLI_TRY(csv_name_check("--trace", options->trace, error));
    return file_parse(options->trace, trace_parse, &bench->trace, error);
}

static cli_exit bench_on_device(bench *bench, const bench_suite *const chosen[], int32_t count, cli_error *error) {
    const bench_options *options = bench->options;
    CLI_TRY(compute_device_open(options->device, &bench->device, error));
    bench->is_gpu = !device_memory_is_host(bench->device.memory);
    bench->is_short = options->is_short || !bench->is_gpu;
    bench->device_name = device_name(bench);
    bench->warmup = bench->is_gpu ? WARMUP : CPU_WARMUP;
    bench->repeat = options->repeat > 0 ? options->repeat : bench->is_gpu ? REPEAT : CPU_REPEAT;
    bench->arena.memory = bench->device.memory;
    gpu_state_open(&bench->nvml, bench->device.memory);
    cli_exit code = options->launch != NULL ? launch(bench, chosen[0], error) : run_suites(bench, chosen, count, error);
    pod__nvml_close(&bench->nvml);
    arena_free(&bench->arena);
    compute_device_close(&bench->device);
    return code;
}

static cli_exit bench_with_options(const bench_options *options, const bench_suite *const chosen[], int32_t count,
                                   cli_error *error) {
    bench bench = {.options = options};
    cli_exit code = read_files(&bench, error);
    if (code == CLI_OK) code = bench_on_device(&bench, chosen, count, error);
    for (int32_t f = 0; f < BENCH_MAX_FILES; f++) batch_list_free(&bench.batches[f]);
    trace_free(&bench.trace);
    return code;
}

static void print_suites(void) {
    printf("\nsuites\n");
    for (size_t i = 0; bench_suite_at(i) != NULL; i++) {
        printf("  %-26s %s\n", bench_suite_at(i)->name, bench_suite_at(i)->title);
    }
    printf("  %-26s %s\n", "all", "all of them");
}

cli_exit cmd_bench(int argc, char **argv, cli_error *error) {
    const bench_suite *chosen[MAX_SUITES];
    int32_t count;
    bench_options options = {.out = "bench/out", .device = "auto"};
    const option_group group = {"bench", bench_option_rows, OPTION_COUNT(bench_option_rows), &options};
    command_line line = {
        .usage = "podattn bench SUITE... [--out DIR] [--device NAME] [--short] [--time-limit S] [--resume] [--json]",
        .summary = "Measures sweeps, each into DIR/SUITE.csv. What is there is valid whenever the program stops.",
        .example = "podattn bench chunk_waves sweep --short --out bench/out --time-limit 300",
        .groups = &group,
        .num_groups = 1,
        .operand_name = "SUITE",
        .max_operands = MAX_SUITES,
    };
    CLI_TRY(options_parse(&line, argc, argv, error));
    if (line.wants_help) {
        print_suites();
        return CLI_OK;
    }
    CLI_TRY(choose_suites(&line, chosen, &count, error));
    if (count == 0) return cli_fail(error, "no SUITE is given; podattn bench --help lists them");
    if (options.resumes && options.overwrites) return cli_fail(error, "--resume and --overwrite are both given");
    if (options.launch != NULL && count > 1)
        return cli_fail(error, "--launch is for one SUITE, but %d are given", count);
    return bench_with_options(&options, chosen, count, error);
}
