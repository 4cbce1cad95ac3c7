/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/ncu.h"

#include "bench/child.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS_BEFORE = 2 };
enum { SM, TENSOR, DRAM, NUM_COUNTERS };

static const char *const counter_names[NUM_COUNTERS] = {
    [SM] = "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    [TENSOR] = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    [DRAM] = "dram__throughput.avg.pct_of_peak_sustained_elapsed",
};

int ncu_is_there(void) {
    const char *path = getenv("PATH");
    while (path != NULL && *path != '\0') {
        char file[PATH_MAX];
        int length = (int)strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/ncu", length, path);
        if (access(file, X_OK) == 0) return 1;
        path += length + (path[length] == ':');
    }
    return 0;
}

/** Takes the next field, quoted or bare, off a line, in place; NULL behind the last one. */
static char *take_field(char **line) {
    char *field = *line;
    if (*field == '\0' || *field == '\n' || *field == '\r') return NULL;
    int is_quoted = *field == '"';
    field += is_quoted;
    char *end = field + strcspn(field, is_quoted ? "\"" : ",\r\n");
    *line = is_quoted && *end == '"' ? end + 1 : end;
    if (**line == ',')
        ++*line;
    else
        *line += strlen(*line); /* it was the last one */
    *end = '\0';
    return field;
}

/** "1,234.5" is how ncu writes it in some languages; NaN if it is no number: "n/a". */
static double number(const char *text) {
    char digits[64], *end;
    size_t used = 0;
    for (; *text != '\0' && used + 1 < sizeof digits; text++) {
        if (*text != ',') digits[used++] = *text;
    }
    digits[used] = '\0';
    double value = strtod(digits, &end);
    return end == digits ? NAN : value;
}

/** The line behind the one at `line`, or NULL. Fields end a line in place, so this comes first. */
static char *line_behind(char *line) {
    char *end = line != NULL ? strchr(line, '\n') : NULL;
    return end != NULL ? end + 1 : NULL;
}

/** Where the counters stand among a line's fields; -1 for one that is not there. */
static void find_columns(char *heading, int columns[NUM_COUNTERS]) {
    char *name;
    for (int c = 0; c < NUM_COUNTERS; c++) columns[c] = -1;
    for (int i = 0; (name = take_field(&heading)) != NULL; i++) {
        for (int c = 0; c < NUM_COUNTERS; c++) {
            if (strcmp(name, counter_names[c]) == 0) columns[c] = i;
        }
    }
}

static int parse_row(char *row, const int columns[NUM_COUNTERS], ncu_counters *counters) {
    double values[NUM_COUNTERS] = {NAN, NAN, NAN};
    char *field;
    for (int i = 0; (field = take_field(&row)) != NULL; i++) {
        for (int c = 0; c < NUM_COUNTERS; c++) {
            if (columns[c] == i) values[c] = number(field);
        }
    }
    *counters = (ncu_counters){values[SM], values[TENSOR], values[DRAM]};
    return !isnan(values[SM]) && !isnan(values[DRAM]);
}

/** ncu's raw page: a line of names, one of units, one of values per launch; around them, what else it has to say. */
static int parse(char *output, int num_kernels, ncu_counters *counters) {
    char *heading = strstr(output, "\"ID\"");
    char *units = line_behind(heading), *row = line_behind(units);
    int columns[NUM_COUNTERS], num_read = 0;
    if (heading != NULL) find_columns(heading, columns);
    while (row != NULL && *row == '"' && num_read < num_kernels) {
        char *next = line_behind(row);
        if (!parse_row(row, columns, &counters[num_read])) return 0;
        num_read++;
        row = next;
    }
    return num_read == num_kernels;
}

/** What ncu itself says was wrong, behind a colon; else nothing. */
static void add_reason(const char *output, cli_error *error) {
    static const char mark[] = "==ERROR== ";
    const char *line = strstr(output, mark);
    size_t used = strlen(error->line);
    if (line == NULL) return;
    line += sizeof mark - 1;
    snprintf(error->line + used, sizeof error->line - used, ": %.*s", (int)strcspn(line, "\r\n"), line);
}

cli_exit ncu_count(const char *suite, const char *device, const char *launch, int num_kernels, ncu_counters *counters,
                   cli_error *error) {
    char self[PATH_MAX], metrics[512], skipped[16], counted[16], *output = NULL;
    int exit_code = 0;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) return cli_fail(error, "this program does not find itself");
    self[length] = '\0';
    snprintf(metrics, sizeof metrics, "%s,%s,%s", counter_names[SM], counter_names[TENSOR], counter_names[DRAM]);
    snprintf(skipped, sizeof skipped, "%d", ROUNDS_BEFORE * num_kernels);
    snprintf(counted, sizeof counted, "%d", num_kernels);
    /* Clocks stay as they are when attention is timed. */
    const char *const command[] = {"ncu",
                                   "--clock-control",
                                   "none",
                                   "--csv",
                                   "--page",
                                   "raw",
                                   "--print-units",
                                   "base",
                                   "--metrics",
                                   metrics,
                                   "--kernel-name",
                                   "regex:^pod_sm[0-9]+_",
                                   "--launch-skip",
                                   skipped,
                                   "--launch-count",
                                   counted,
                                   self,
                                   "bench",
                                   suite,
                                   "--device",
                                   device,
                                   "--launch",
                                   launch,
                                   NULL};
    CLI_TRY(child_run(command, &output, &exit_code, error));
    cli_exit code = CLI_OK;
    if (exit_code != 0) {
        code = cli_fail(error, "ncu ended with exit code %d", exit_code);
    } else if (!parse(output, num_kernels, counters)) {
        code = cli_fail(error, "ncu counted nothing; it may need permission to read the GPU's counters");
    }
    if (code != CLI_OK) add_reason(output, error);
    free(output);
    return code;
}
