/* SPDX-License-Identifier: Apache-2.0 */
#include "run/host_memory.h"

#include "output/format.h"

#include <math.h>
#include <stdio.h>

static double read_number(const char *path, const char *format) {
    FILE *file = fopen(path, "r");
    if (file == NULL) return HUGE_VAL;
    char line[256];
    double value = HUGE_VAL;
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, format, &value) != 1) continue;
    fclose(file);
    return value;
}

double host_memory_available(void) {
    double machine = 1024 * read_number("/proc/meminfo", "MemAvailable: %lf");
    double limit = read_number("/sys/fs/cgroup/memory.max", "%lf"); /* "max" scans as no number */
    double used = read_number("/sys/fs/cgroup/memory.current", "%lf");
    double group = isfinite(limit) && isfinite(used) ? fmax(limit - used, 0) : HUGE_VAL;
    return fmin(machine, group);
}

cli_exit host_memory_check(const char *what, double bytes, cli_error *error) {
    double available = host_memory_available();
    if (bytes <= available) return CLI_OK;
    return cli_fail(error, "out of memory: %s needs %s, and %s are available", what, format_bytes(bytes).text,
                    format_bytes(available).text);
}
