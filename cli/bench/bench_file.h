/* SPDX-License-Identifier: Apache-2.0 */
/* A suite's CSV file. It grows by whole cases, so that it is valid whenever the program stops, and a later run can go
 * on with it. Lines that begin with # are comments; the first column names the case. */
#ifndef CLI_BENCH_FILE_H
#define CLI_BENCH_FILE_H

#include "output/text_buffer.h"

#include <stdint.h>

/** What to do with a file that is there already. */
typedef enum bench_file_mode { BENCH_FILE_NEW, BENCH_FILE_RESUME, BENCH_FILE_OVERWRITE } bench_file_mode;

typedef struct bench_file {
    char path[512];
    int is_open;
    int descriptor;         /**< of the file, which no other podattn bench writes meanwhile */
    text_buffer case_lines; /**< of the case that has begun */
    char **kept_cases;      /**< that were there already */
    int32_t num_kept, num_done, num_left_out;
    char first_reason[160]; /**< why the first one was left out */
    cli_error failure;      /**< what could not be added first; line "" if nothing */
} bench_file;

/**
 * Begins or goes on with DIR/SUITE.csv. `identity` are comment lines that must be the same for a file to be gone on
 * with; `heading` are comment lines that may differ, and the columns. A case that was left out is forgotten with its
 * rows. Fails where another podattn bench writes the file.
 */
cli_exit bench_file_open(bench_file *file, bench_file_mode mode, const char *folder, const char *suite,
                         const char *identity, const char *heading, cli_error *error);

/** Whether the case was there already. */
int bench_file_has(const bench_file *file, const char *case_name);

/** Where the lines of a case are written, until it ends: then they are added together, or, if the case failed with
 * `code`, dropped. A case without lines is not one. NULL where it cannot begin; then there is nothing to end. */
FILE *bench_file_begin_case(bench_file *file, cli_error *error);
cli_exit bench_file_end_case(bench_file *file, cli_exit code, cli_error *error);

void bench_file_comment(bench_file *file, const char *comment);

/** Notes that a case is missing, and why. */
void bench_file_leave_out(bench_file *file, const char *case_name, const char *reason);

/** Ends the file, with a word that it is complete if it is. Fails if something could not be added to it. Allowed for
 * one that was never opened. */
cli_exit bench_file_close(bench_file *file, cli_error *error);

/** Makes a folder, and those above it. */
cli_exit bench_file_make_folder(const char *path, cli_error *error);

#endif
