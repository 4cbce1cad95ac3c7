/* SPDX-License-Identifier: Apache-2.0 */
#include "run/progress.h"

#include "run/stopwatch.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_COLUMNS = 256 };
#define COUNTED_US 1.5e6 /* a line that is older says how old it is */

static struct {
    pthread_mutex_t lock;
    int is_drawn;
    int has_clock;              /**< the thread that counts was started */
    double last_us;             /**< when the text was drawn */
    char text[MAX_COLUMNS + 1]; /**< without seconds */
} line = {.lock = PTHREAD_MUTEX_INITIALIZER};

int progress_is_shown(void) {
    return isatty(STDERR_FILENO);
}

/** Characters that fit the terminal: a line that wraps could not be wiped. */
static int columns(void) {
    struct winsize size;
    int known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    return known && size.ws_col < MAX_COLUMNS ? size.ws_col - 1 : known ? MAX_COLUMNS : 79;
}

/** With the lock. */
static void put(const char *text) {
    fprintf(stderr, "\r\033[K%.*s", columns(), text);
    fflush(stderr);
}

static void *count_seconds(void *unused) {
    (void)unused;
    for (;;) {
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
        pthread_mutex_lock(&line.lock);
        double age_us = stopwatch_us() - line.last_us;
        if (line.is_drawn && age_us > COUNTED_US) {
            char counted[sizeof line.text + 32];
            snprintf(counted, sizeof counted, "%s, for %.0f s", line.text, age_us * 1e-6);
            put(counted);
        }
        pthread_mutex_unlock(&line.lock);
    }
    return NULL;
}

/** With the lock. Without the thread, a line that does not change looks as it did. */
static void start_clock(void) {
    pthread_t thread;
    if (!line.has_clock && pthread_create(&thread, NULL, count_seconds, NULL) == 0) pthread_detach(thread);
    line.has_clock = 1;
}

static void draw(const char *format, va_list arguments) {
    pthread_mutex_lock(&line.lock);
    start_clock();
    vsnprintf(line.text, sizeof line.text, format, arguments);
    put(line.text);
    line.is_drawn = 1;
    line.last_us = stopwatch_us();
    pthread_mutex_unlock(&line.lock);
}

void progress_stage(const char *format, ...) {
    if (!progress_is_shown()) return;
    va_list arguments;
    va_start(arguments, format);
    draw(format, arguments);
    va_end(arguments);
}

/** The thread that draws is the only one that changes the text. */
void progress_update(const char *format, ...) {
    if ((line.is_drawn && stopwatch_us() - line.last_us < 1e5) || !progress_is_shown()) return;
    va_list arguments;
    va_start(arguments, format);
    draw(format, arguments);
    va_end(arguments);
}

void progress_wipe(void) {
    pthread_mutex_lock(&line.lock);
    if (line.is_drawn) fputs("\r\033[K", stderr);
    line.is_drawn = 0;
    pthread_mutex_unlock(&line.lock);
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
