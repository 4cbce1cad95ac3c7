/* SPDX-License-Identifier: Apache-2.0 */
/* A suite's CSV file. It grows by whole cases, so that it is valid whenever the program stops, and a later run can go
 * on with it. Lines that begin with # are comments; the first column names the case. */
#ifndef CLI_BENCH_FILE_H
#define CLI_BENCH_FILE_H

#include "cli_error.h"

#include <stdint.h>
#include <stdio.h>

/** What to do with a file that is there already. */
typedef enum bench_file_mode { BENCH_FILE_NEW, BENCH_FILE_RESUME, BENCH_FILE_OVERWRITE } bench_file_mode;

typedef struct bench_file {
    char path[512];
    FILE *file;
    FILE *case_file; /**< of the case that has begun */
    char *case_lines;
    size_t case_bytes;
    char **kept_cases; /**< that were there already */
    int32_t num_kept, num_done, num_left_out;
    char first_reason[160]; /**< why the first one was left out */
} bench_file;

/**
 * Begins or goes on with DIR/SUITE.csv. `identity` are comment lines that must be the same for a file to be gone on
 * with; `state` are comment lines that may differ. A case that was left out is forgotten with its rows.
 */
cli_exit bench_file_open(bench_file *file, bench_file_mode mode, const char *folder, const char *suite,
                         const char *identity, const char *state, const char *columns, cli_error *error);

/** Whether the case was there already. */
int bench_file_has(const bench_file *file, const char *case_name);

/** Where the lines of a case are written, until it ends: then they are added together, or, if the case failed with
 * `code`, dropped. A case without lines is not one. NULL where there is no memory. */
FILE *bench_file_begin_case(bench_file *file);
cli_exit bench_file_end_case(bench_file *file, cli_exit code, cli_error *error);

cli_exit bench_file_comment(bench_file *file, const char *comment, cli_error *error);

/** Notes that a case is missing, and why. */
void bench_file_leave_out(bench_file *file, const char *case_name, const char *reason);

/** Ends the file, with a word that it is complete if it is. Allowed for one that was never opened. */
cli_exit bench_file_close(bench_file *file, cli_error *error);

/** Makes a folder, and those above it. */
cli_exit bench_file_make_folder(const char *path, cli_error *error);

#endif
