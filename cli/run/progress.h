/* SPDX-License-Identifier: Apache-2.0 */
/* One line on stderr that says what long work is doing; silent where stderr is no terminal. A terminal has one such
 * line, so there is one of them. Where it does not change for seconds, a thread counts them at its end. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

/** Whether anybody sees it. */
int progress_is_shown(void);

/** Something else begins. */
void progress_stage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** How far it is: drawn at most ten times a second. */
void progress_update(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Wipes the line, before anything else is printed. */
void progress_wipe(void);

/** "3 min left" and the like, after `begin_us` on the stopwatch, with `done` of `all` done; "" where nobody knows. */
typedef struct progress_time {
    char text[32];
} progress_time;
progress_time progress_left(double begin_us, double done, double all);

#endif
