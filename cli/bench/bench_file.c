/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bench_file.h"

#include "input/file.h"
#include "output/file_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char left_out_prefix[] = "# left out: ";
static const char done_line[] = "# done\n";

cli_exit bench_file_make_folder(const char *path, cli_error *error) {
    char part[512];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part) return cli_fail(error, "--out is too long");
    for (char *slash = part + 1;; slash++) {
        slash += strcspn(slash, "/");
        char kept = *slash;
        *slash = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            return cli_fail(error, "%.200s: %s", part, strerror(errno));
        }
        *slash = kept;
        if (kept == '\0') return CLI_OK;
    }
}

/* ---- going on with a file ---- */

/** The line at `*cursor`, ended, or NULL after the last whole one. */
static char *next_line(char **cursor) {
    char *line = *cursor, *end = strchr(line, '\n');
    if (end == NULL) return NULL;
    *end = '\0';
    *cursor = end + 1;
    return line;
}

static int is_in(char *const *names, int32_t count, const char *name, size_t length) {
    for (int32_t i = 0; i < count; i++) {
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) return 1;
    }
    return 0;
}

static cli_exit keep_name(char ***names, int32_t *count, const char *name, size_t length, cli_error *error) {
    if (is_in(*names, *count, name, length)) return CLI_OK;
    char **grown = realloc(*names, ((size_t)*count + 1) * sizeof *grown);
    if (grown == NULL) return cli_fail_memory(error);
    *names = grown;
    grown[*count] = strndup(name, length);
    if (grown[*count] == NULL) return cli_fail_memory(error);
    (*count)++;
    return CLI_OK;
}

static void free_names(char **names, int32_t count) {
    for (int32_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

/** The case that a comment says was left out, or NULL. Reasons follow the first ": ". */
static const char *left_out_case(const char *line, size_t *length) {
    size_t prefix = sizeof left_out_prefix - 1;
    if (strncmp(line, left_out_prefix, prefix) != 0) return NULL;
    const char *end = strstr(line + prefix, ": ");
    if (end == NULL) return NULL;
    *length = (size_t)(end - line) - prefix;
    return line + prefix;
}

static cli_exit find_left_out(const char *data, char ***names, int32_t *count, cli_error *error) {
    char *copy = strdup(data), *cursor = copy;
    if (copy == NULL) return cli_fail_memory(error);
    cli_exit code = CLI_OK;
    for (char *line; code == CLI_OK && (line = next_line(&cursor)) != NULL;) {
        size_t length;
        const char *name = left_out_case(line, &length);
        if (name != NULL) code = keep_name(names, count, name, length, error);
    }
    free(copy);
    return code;
}

/** Copies what stays: comments but those on the end of the file, the heading, and rows of cases that were not left out.
 */
static cli_exit copy_lines(bench_file *file, char *data, FILE *to, char *const *left_out, int32_t num_left_out,
                           cli_error *error) {
    int has_heading = 0;
    for (char *line, *cursor = data; (line = next_line(&cursor)) != NULL;) {
        size_t length = strcspn(line, ";");
        int is_comment = line[0] == '#';
        if (is_comment &&
            (strncmp(line, left_out_prefix, sizeof left_out_prefix - 1) == 0 || strcmp(line, "# done") == 0))
            continue;
        if (!is_comment && has_heading) {
            if (is_in(left_out, num_left_out, line, length)) continue;
            CLI_TRY(keep_name(&file->kept_cases, &file->num_kept, line, length, error));
        }
        has_heading |= !is_comment;
        fprintf(to, "%s\n", line);
    }
    return CLI_OK;
}

/** What stays of a file that is gone on with. */
static cli_exit keep_lines(bench_file *file, char *data, const char *identity, FILE *to, cli_error *error) {
    char **left_out = NULL;
    int32_t num_left_out = 0;
    if (strncmp(data, identity, strlen(identity)) != 0) {
        return cli_fail(error, "%.200s is of another command, device or commit; give another --out, or --overwrite",
                        file->path);
    }
    cli_exit code = find_left_out(data, &left_out, &num_left_out, error);
    if (code == CLI_OK) code = copy_lines(file, data, to, left_out, num_left_out, error);
    free_names(left_out, num_left_out);
    return code;
}

/* ---- writing ---- */

/** Adds text, or, where the disk is full, nothing of it. What failed first is kept until the file is closed. */
static cli_exit add(bench_file *file, const char *text, cli_error *error) {
    off_t begin = lseek(file->descriptor, 0, SEEK_END);
    for (size_t left = strlen(text); left > 0;) {
        ssize_t written = write(file->descriptor, text, left);
        if (written < 0 && errno != EINTR) {
            cli_exit code = cli_fail(error, "%.200s: %s", file->path, strerror(errno));
            if (file->failure.line[0] == '\0') file->failure = *error;
            return ftruncate(file->descriptor, begin) == 0 ? code : CLI_BAD_INPUT;
        }
        if (written > 0) text += written, left -= (size_t)written;
    }
    return CLI_OK;
}

/** What the file begins with, of what was there and what is asked for. An empty one was never begun. */
static cli_exit print_beginning(bench_file *file, bench_file_mode mode, char *data, const char *identity,
                                const char *heading, FILE *to, cli_error *error) {
    if (data[0] != '\0' && mode == BENCH_FILE_NEW) {
        return cli_fail(error, "%.200s exists; give --resume, --overwrite or another --out", file->path);
    }
    if (data[0] != '\0' && mode == BENCH_FILE_RESUME) return keep_lines(file, data, identity, to, error);
    fprintf(to, "%s%s", identity, heading);
    return CLI_OK;
}

static cli_exit begin(bench_file *file, bench_file_mode mode, const char *identity, const char *heading,
                      cli_error *error) {
    char *data;
    size_t size;
    text_buffer text;
    CLI_TRY(file_read(file->path, &data, &size, error));
    cli_exit code = text_begin(&text, error);
    if (code == CLI_OK) code = print_beginning(file, mode, data, identity, heading, text.file, error);
    if (code == CLI_OK) code = text_end(&text, error);
    if (code == CLI_OK) code = file_write_and_keep(file->path, &text, &file->descriptor, error);
    file->is_open = code == CLI_OK;
    text_free(&text);
    free(data);
    return code;
}

cli_exit bench_file_open(bench_file *file, bench_file_mode mode, const char *folder, const char *suite,
                         const char *identity, const char *heading, cli_error *error) {
    int lock;
    struct stat status;
    *file = (bench_file){.is_open = 0};
    if (snprintf(file->path, sizeof file->path, "%s/%s.csv", folder, suite) >= (int)sizeof file->path) {
        return cli_fail(error, "--out is too long");
    }
    CLI_TRY(file_lock(file->path, &lock, error));
    cli_exit code = begin(file, mode, identity, heading, error);
    if (code != CLI_OK && fstat(lock, &status) == 0 && status.st_size == 0) unlink(file->path);
    close(lock);
    return code;
}

int bench_file_has(const bench_file *file, const char *case_name) {
    return is_in(file->kept_cases, file->num_kept, case_name, strlen(case_name));
}

FILE *bench_file_begin_case(bench_file *file, cli_error *error) {
    return text_begin(&file->case_lines, error) == CLI_OK ? file->case_lines.file : NULL;
}

cli_exit bench_file_end_case(bench_file *file, cli_exit code, cli_error *error) {
    if (code == CLI_OK) code = text_end(&file->case_lines, error);
    if (code == CLI_OK && file->case_lines.size > 0) {
        code = add(file, file->case_lines.data, error);
        file->num_done += code == CLI_OK;
    }
    text_free(&file->case_lines);
    return code;
}

void bench_file_comment(bench_file *file, const char *comment) {
    char line[1024];
    cli_error kept_in_file;
    snprintf(line, sizeof line, "# %.1000s\n", comment);
    add(file, line, &kept_in_file);
}

void bench_file_leave_out(bench_file *file, const char *case_name, const char *reason) {
    char comment[960];
    if (file->num_left_out++ == 0) snprintf(file->first_reason, sizeof file->first_reason, "%s", reason);
    snprintf(comment, sizeof comment, "%s%s: %s", left_out_prefix + strlen("# "), case_name, reason);
    bench_file_comment(file, comment);
}

cli_exit bench_file_close(bench_file *file, cli_error *error) {
    if (file->is_open) {
        if (file->num_left_out == 0) add(file, done_line, error);
        close(file->descriptor);
    }
    free_names(file->kept_cases, file->num_kept);
    file->is_open = 0;
    file->kept_cases = NULL;
    if (file->failure.line[0] == '\0') return CLI_OK;
    *error = file->failure;
    return CLI_BAD_INPUT;
}
