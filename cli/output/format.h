/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as a person reads them. */
#ifndef CLI_FORMAT_H
#define CLI_FORMAT_H

#include <stdint.h>

typedef struct formatted {
    char text[48];
} formatted;

/** 1234567 -> "1,234,567" */
formatted format_count(int64_t value);
/** 1234567 bytes -> "1.18 MiB" */
formatted format_bytes(double bytes);
/** 1234.5 us -> "1.23 ms" */
formatted format_time(double microseconds);

#endif
