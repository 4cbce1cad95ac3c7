/* SPDX-License-Identifier: Apache-2.0 */
/* One line on stderr that says how far long work is; silent where stderr is no terminal. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

typedef struct progress {
    int is_shown;
    double last_us; /**< when it was drawn */
} progress;

progress progress_begin(void);
/** At most ten times a second. */
void progress_update(progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Wipes the line. */
void progress_end(progress *progress);

#endif
