/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bench_file.h"

#include "input/file.h"

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

static cli_exit rewrite(bench_file *file, char *data, cli_error *error) {
    char **left_out = NULL;
    int32_t num_left_out = 0;
    file_writer writer;
    cli_exit code = find_left_out(data, &left_out, &num_left_out, error);
    if (code == CLI_OK) code = file_write_begin(&writer, file->path, error);
    if (code == CLI_OK) {
        code = copy_lines(file, data, writer.file, left_out, num_left_out, error);
        cli_exit end = file_write_end(&writer, error);
        if (code == CLI_OK) code = end;
    }
    free_names(left_out, num_left_out);
    return code;
}

static cli_exit resume(bench_file *file, const char *identity, cli_error *error) {
    char *data;
    size_t size;
    CLI_TRY(file_read(file->path, &data, &size, error));
    char *text = realloc(data, size + 1);
    if (text == NULL) {
        free(data);
        return cli_fail_memory(error);
    }
    text[size] = '\0';
    cli_exit code;
    if (strncmp(text, identity, strlen(identity)) != 0) {
        code = cli_fail(error, "%.200s is of another command, device or commit; give another --out, or --overwrite",
                        file->path);
    } else {
        code = rewrite(file, text, error);
    }
    free(text);
    return code;
}

/* ---- writing ---- */

static cli_exit check_written(const bench_file *file, cli_error *error) {
    if (fflush(file->file) == 0 && !ferror(file->file)) return CLI_OK;
    return cli_fail(error, "%.200s: %s", file->path, strerror(errno));
}

cli_exit bench_file_open(bench_file *file, bench_file_mode mode, const char *folder, const char *suite,
                         const char *identity, const char *state, const char *columns, cli_error *error) {
    *file = (bench_file){.file = NULL};
    if (snprintf(file->path, sizeof file->path, "%s/%s.csv", folder, suite) >= (int)sizeof file->path) {
        return cli_fail(error, "--out is too long");
    }
    int is_there = access(file->path, F_OK) == 0;
    if (is_there && mode == BENCH_FILE_NEW) {
        return cli_fail(error, "%.200s exists; give --resume, --overwrite or another --out", file->path);
    }
    int resumes = is_there && mode == BENCH_FILE_RESUME;
    if (resumes) CLI_TRY(resume(file, identity, error));
    file->file = fopen(file->path, resumes ? "a" : "w");
    if (file->file == NULL) return cli_fail(error, "%.200s: %s", file->path, strerror(errno));
    if (resumes) return CLI_OK;
    fprintf(file->file, "%s%s%s\n", identity, state, columns);
    return check_written(file, error);
}

int bench_file_has(const bench_file *file, const char *case_name) {
    return is_in(file->kept_cases, file->num_kept, case_name, strlen(case_name));
}

FILE *bench_file_begin_case(bench_file *file) {
    file->case_lines = NULL;
    file->case_file = open_memstream(&file->case_lines, &file->case_bytes);
    return file->case_file;
}

cli_exit bench_file_end_case(bench_file *file, cli_exit code, cli_error *error) {
    if (file->case_file == NULL) return cli_fail_memory(error);
    if (fclose(file->case_file) != 0) code = cli_fail_memory(error);
    if (code == CLI_OK && file->case_bytes > 0) {
        fputs(file->case_lines, file->file);
        file->num_done++;
        code = check_written(file, error);
    }
    free(file->case_lines);
    return code;
}

cli_exit bench_file_comment(bench_file *file, const char *comment, cli_error *error) {
    fprintf(file->file, "# %s\n", comment);
    return check_written(file, error);
}

void bench_file_leave_out(bench_file *file, const char *case_name, const char *reason) {
    if (file->num_left_out++ == 0) snprintf(file->first_reason, sizeof file->first_reason, "%s", reason);
    fprintf(file->file, "%s%s: %s\n", left_out_prefix, case_name, reason);
    fflush(file->file);
}

cli_exit bench_file_close(bench_file *file, cli_error *error) {
    cli_exit code = CLI_OK;
    if (file->file != NULL) {
        if (file->num_left_out == 0) fputs(done_line, file->file);
        code = check_written(file, error);
        fclose(file->file);
    }
    free_names(file->kept_cases, file->num_kept);
    file->file = NULL;
    file->kept_cases = NULL;
    return code;
}
