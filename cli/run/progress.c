/* SPDX-License-Identifier: Apache-2.0 */
#include "run/progress.h"

#include "run/stopwatch.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

progress progress_begin(void) {
    return (progress){.is_shown = isatty(STDERR_FILENO)};
}

void progress_update(progress *progress, const char *format, ...) {
    double now_us = stopwatch_us();
    if (!progress->is_shown || now_us - progress->last_us < 1e5) return;
    progress->last_us = now_us;
    va_list arguments;
    va_start(arguments, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, arguments);
    fflush(stderr);
    va_end(arguments);
}

void progress_end(progress *progress) {
    if (progress->is_shown) fputs("\r\033[K", stderr);
}
