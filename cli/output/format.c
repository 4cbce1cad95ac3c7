/* SPDX-License-Identifier: Apache-2.0 */
#include "output/format.h"

#include <inttypes.h>
#include <stdio.h>

formatted format_count(int64_t value) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRId64, value), first = digits[0] == '-';
    formatted result = {""};
    char *out = result.text;
    for (int i = 0; i < length; i++) {
        if (i > first && (length - i) % 3 == 0) *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return result;
}

formatted format_bytes(double bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024;
        unit++;
    }
    formatted result = {""};
    snprintf(result.text, sizeof result.text, unit == 0 ? "%.0f %s" : "%.2f %s", bytes, units[unit]);
    return result;
}

formatted format_time(double microseconds) {
    formatted result = {""};
    if (microseconds < 1e3) {
        snprintf(result.text, sizeof result.text, "%.1f us", microseconds);
    } else if (microseconds < 1e6) {
        snprintf(result.text, sizeof result.text, "%.2f ms", microseconds / 1e3);
    } else {
        snprintf(result.text, sizeof result.text, "%.2f s", microseconds / 1e6);
    }
    return result;
}
