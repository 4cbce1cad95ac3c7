/* SPDX-License-Identifier: Apache-2.0 */
#include "ncu.h"

#include "child.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FIELDS = 64, NUM_COUNTERS = 3 };

static const char *const counter_names[NUM_COUNTERS] = {
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
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

/** Splits a line of quoted or bare fields in place. */
static int split(char *line, char *fields[MAX_FIELDS]) {
    int count = 0;
    while (count < MAX_FIELDS && *line != '\0' && *line != '\n' && *line != '\r') {
        int is_quoted = *line == '"';
        fields[count++] = line += is_quoted;
        line += strcspn(line, is_quoted ? "\"" : ",\r\n");
        int is_last = *line == '\0' || (!is_quoted && *line != ',');
        if (*line != '\0') *line++ = '\0';
        if (is_last) break;
        if (is_quoted && *line == ',') line++;
    }
    return count;
}

/** "1,234.5" is how ncu writes it in some languages. */
static double number(const char *text) {
    char digits[64];
    size_t used = 0;
    for (; *text != '\0' && used + 1 < sizeof digits; text++) {
        if (*text != ',') digits[used++] = *text;
    }
    digits[used] = '\0';
    return strtod(digits, NULL);
}

/** ncu's raw page: a line of names, one of units, one of values per launch; around them, what else it has to say. */
static int parse(char *output, double values[NUM_COUNTERS]) {
    char *heading = strstr(output, "\"ID\"");
    if (heading == NULL) return 0;
    char *units = strchr(heading, '\n');
    char *row = units != NULL ? strchr(units + 1, '\n') : NULL;
    if (row == NULL) return 0;
    char *names[MAX_FIELDS], *fields[MAX_FIELDS];
    int num_names = split(heading, names), num_fields = split(row + 1, fields), found = 0;
    for (int i = 0; i < num_names && i < num_fields; i++) {
        for (int c = 0; c < NUM_COUNTERS; c++) {
            if (strcmp(names[i], counter_names[c]) != 0) continue;
            values[c] = number(fields[i]);
            found++;
        }
    }
    return found == NUM_COUNTERS;
}

cli_exit ncu_count(const char *suite, const char *device, const char *launch, ncu_counters *counters,
                   cli_error *error) {
    char self[PATH_MAX], metrics[512], *output = NULL;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) return cli_fail(error, "this program does not find itself");
    self[length] = '\0';
    snprintf(metrics, sizeof metrics, "%s,%s,%s", counter_names[0], counter_names[1], counter_names[2]);
    /* The third launch: the first ones load the code. Clocks stay as they are when attention is timed. */
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
                                   "2",
                                   "--launch-count",
                                   "1",
                                   self,
                                   "bench",
                                   suite,
                                   "--device",
                                   device,
                                   "--launch",
                                   launch,
                                   NULL};
    double values[NUM_COUNTERS] = {0};
    CLI_TRY(child_run(command, &output, error));
    int is_read = parse(output, values);
    free(output);
    if (!is_read) return cli_fail(error, "ncu counted nothing; it may need permission to read the GPU's counters");
    *counters = (ncu_counters){values[0], values[1], values[2]};
    return CLI_OK;
}
