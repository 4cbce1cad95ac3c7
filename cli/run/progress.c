/* SPDX-License-Identifier: Apache-2.0 */
#include "run/progress.h"

#include "run/stopwatch.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MAX_COLUMNS = 256 };

static struct {
    int is_drawn;
    double last_us; /**< when it was drawn */
} line;

int progress_is_shown(void) {
    return isatty(STDERR_FILENO);
}

/** Characters that fit the terminal: a line that wraps could not be wiped. */
static int columns(void) {
    struct winsize size;
    int known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    return known && size.ws_col < MAX_COLUMNS ? size.ws_col - 1 : known ? MAX_COLUMNS : 79;
}

static void draw(const char *format, va_list arguments) {
    char text[MAX_COLUMNS + 1];
    vsnprintf(text, sizeof text, format, arguments);
    fprintf(stderr, "\r\033[K%.*s", columns(), text);
    fflush(stderr);
    line.is_drawn = 1;
    line.last_us = stopwatch_us();
}

void progress_stage(const char *format, ...) {
    if (!progress_is_shown()) return;
    va_list arguments;
    va_start(arguments, format);
    draw(format, arguments);
    va_end(arguments);
}

void progress_update(const char *format, ...) {
    if ((line.is_drawn && stopwatch_us() - line.last_us < 1e5) || !progress_is_shown()) return;
    va_list arguments;
    va_start(arguments, format);
    draw(format, arguments);
    va_end(arguments);
}

void progress_wipe(void) {
    if (line.is_drawn) fputs("\r\033[K", stderr);
    line.is_drawn = 0;
}

progress_time progress_left(double begin_us, double done, double all) {
    progress_time left = {""};
    double left_s = done > 0 ? (stopwatch_us() - begin_us) * 1e-6 * (all - done) / done : 0;
    if (done <= 0) return left;
    if (left_s < 100) {
        snprintf(left.text, sizeof left.text, ", %.0f s left", left_s);
    } else if (left_s < 6000) {
        snprintf(left.text, sizeof left.text, ", %.0f min left", left_s / 60);
    } else {
        snprintf(left.text, sizeof left.text, ", %.0f h left", left_s / 3600);
    }
    return left;
}
