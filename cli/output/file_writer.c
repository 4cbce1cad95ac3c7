/* SPDX-License-Identifier: Apache-2.0 */
#include "output/file_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static cli_exit fail_system(const char *path, cli_error *error) {
    return cli_fail(error, "%.300s: %s", path, strerror(errno));
}

/* ---- a signal that ends the program takes the unfinished file with it ---- */

static const int ending_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ};
enum { NUM_SIGNALS = sizeof ending_signals / sizeof ending_signals[0] };

static const char *unfinished_path;

/** By then the signal does again what it does by itself (SA_RESETHAND). */
static void remove_unfinished(int number) {
    unlink(unfinished_path);
    raise(number);
}

/** What the user has set, as nohup does, stays. */
static void catch_signals(const char *path, struct sigaction saved[NUM_SIGNALS]) {
    struct sigaction caught = {.sa_handler = remove_unfinished, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&caught.sa_mask);
    unfinished_path = path;
    for (int i = 0; i < NUM_SIGNALS; i++) {
        sigaction(ending_signals[i], NULL, &saved[i]);
        if (saved[i].sa_handler == SIG_DFL) sigaction(ending_signals[i], &caught, NULL);
    }
}

static void release_signals(const struct sigaction saved[NUM_SIGNALS]) {
    for (int i = 0; i < NUM_SIGNALS; i++) sigaction(ending_signals[i], &saved[i], NULL);
}

/* ---- where it goes ---- */

typedef struct target {
    char *path;      /**< without symbolic links */
    char *temporary; /**< in the same folder; mkstemp() fills it in */
    int is_there;
    struct stat status; /**< if it is there */
} target;

static cli_exit find_target(const char *path, target *target, cli_error *error) {
    struct stat link;
    target->path = realpath(path, NULL);
    if (target->path == NULL && errno != ENOENT) return fail_system(path, error);
    if (target->path == NULL) {
        /* Of a pipe, for example. */
        if (stat(path, &link) == 0) return cli_fail(error, "%.300s: is no file that could be replaced", path);
        if (lstat(path, &link) == 0) return cli_fail(error, "%.300s: is a link to a file that is not there", path);
        target->path = strdup(path);
        return target->path != NULL ? CLI_OK : cli_fail_memory(error);
    }
    target->is_there = 1;
    if (stat(target->path, &target->status) != 0) return fail_system(path, error);
    if (!S_ISREG(target->status.st_mode)) return cli_fail(error, "%.300s: exists and is not a regular file", path);
    return access(target->path, W_OK) == 0 ? CLI_OK : fail_system(path, error);
}

static cli_exit name_temporary(target *target, cli_error *error) {
    static const char name[] = ".podattn.XXXXXX";
    const char *slash = strrchr(target->path, '/');
    size_t folder_length = slash != NULL ? (size_t)(slash - target->path) + 1 : 0;
    target->temporary = malloc(folder_length + sizeof name);
    if (target->temporary == NULL) return cli_fail_memory(error);
    memcpy(target->temporary, target->path, folder_length);
    memcpy(target->temporary + folder_length, name, sizeof name);
    return CLI_OK;
}

static void free_target(target *target) {
    free(target->path);
    free(target->temporary);
}

/* ---- writing ---- */

static int write_all(int descriptor, const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(descriptor, data, size);
        if (written < 0 && errno != EINTR) return -1;
        if (written > 0) data += written, size -= (size_t)written;
    }
    return fsync(descriptor) != 0 && errno != EINVAL ? -1 : 0;
}

/** mkstemp() made the file private; it gets the mode of the one that it replaces, or of an ordinary new one. */
static int set_mode(int descriptor, const target *target) {
    mode_t mask = umask(0);
    umask(mask);
    if (!target->is_there) return fchmod(descriptor, 0666 & ~mask);
    if (fchown(descriptor, target->status.st_uid, target->status.st_gid) != 0 && errno != EPERM) return -1;
    return fchmod(descriptor, target->status.st_mode & 07777);
}

/** Locked before it has its name, so that nobody else gets there first. */
static cli_exit write_target(const char *path, const target *target, const text_buffer *text, int *descriptor,
                             cli_error *error) {
    *descriptor = mkstemp(target->temporary);
    if (*descriptor < 0) return fail_system(path, error);
    flock(*descriptor, LOCK_EX | LOCK_NB);
    if (write_all(*descriptor, text->data, text->size) == 0 && set_mode(*descriptor, target) == 0 &&
        rename(target->temporary, target->path) == 0)
        return CLI_OK;
    cli_exit code = fail_system(path, error);
    unlink(target->temporary);
    close(*descriptor);
    return code;
}

cli_exit file_write_and_keep(const char *path, const text_buffer *text, int *descriptor, cli_error *error) {
    struct sigaction saved[NUM_SIGNALS];
    target target = {.path = NULL};
    cli_exit code = find_target(path, &target, error);
    if (code == CLI_OK) code = name_temporary(&target, error);
    if (code == CLI_OK) {
        catch_signals(target.temporary, saved);
        code = write_target(path, &target, text, descriptor, error);
        release_signals(saved);
    }
    free_target(&target);
    return code;
}

cli_exit file_write(const char *path, const text_buffer *text, cli_error *error) {
    int descriptor;
    CLI_TRY(file_write_and_keep(path, text, &descriptor, error));
    return close(descriptor) == 0 ? CLI_OK : fail_system(path, error);
}

/* ---- locks ---- */

/** Whether the file of that name is still the one that is open. */
static int is_current(const char *path, int descriptor) {
    struct stat named, opened;
    return stat(path, &named) == 0 && fstat(descriptor, &opened) == 0 && named.st_dev == opened.st_dev &&
           named.st_ino == opened.st_ino;
}

cli_exit file_lock(const char *path, int *descriptor, cli_error *error) {
    for (;;) {
        *descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*descriptor < 0) return fail_system(path, error);
        /* Where the file system has no locks there is none to wait for. */
        if (flock(*descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
            close(*descriptor);
            return cli_fail(error, "%.300s: another process is writing it", path);
        }
        if (is_current(path, *descriptor)) return CLI_OK;
        close(*descriptor); /* it was replaced between the two calls */
    }
}
