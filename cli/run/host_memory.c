/* SPDX-License-Identifier: Apache-2.0 */
#include "run/host_memory.h"

#include "output/format.h"
#include "run/memory_group.h"

#include <math.h>

double host_memory_available(void) {
    double machine = 1024 * memory_read_number("/proc/meminfo", "MemAvailable: %lf");
    return fmin(machine, memory_group_left("/proc/self/cgroup", "/sys/fs/cgroup"));
}

cli_exit host_memory_check(const char *what, double bytes, cli_error *error) {
    double available = host_memory_available();
    if (bytes <= available) return CLI_OK;
    return cli_fail(error, "out of memory: %s needs %s, and %s are available", what, format_bytes(bytes).text,
                    format_bytes(available).text);
}
