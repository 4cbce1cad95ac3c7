/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/child.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ; /* NOLINT(readability-redundant-declaration): POSIX leaves it to the program */

/** All that comes out of `from`, ended by a zero. */
static cli_exit read_all(int from, char **output, cli_error *error) {
    size_t bytes;
    char block[4096];
    FILE *file = open_memstream(output, &bytes);
    if (file == NULL) return cli_fail_memory(error);
    ssize_t count;
    do {
        count = read(from, block, sizeof block);
        if (count > 0) fwrite(block, 1, (size_t)count, file);
    } while (count > 0 || (count < 0 && errno == EINTR));
    return fclose(file) == 0 ? CLI_OK : cli_fail_memory(error);
}

static cli_exit start(const char *const command[], int to, pid_t *child, cli_error *error) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    /* The arguments are not written to; the type is older than const. */
    int result = posix_spawnp(child, command[0], &actions, NULL, (char *const *)(uintptr_t)command, environ);
    posix_spawn_file_actions_destroy(&actions);
    return result == 0 ? CLI_OK : cli_fail(error, "%s: %s", command[0], strerror(result));
}

cli_exit child_run(const char *const command[], char **output, int *exit_code, cli_error *error) {
    int ends[2], status = 0;
    pid_t child;
    *output = NULL;
    if (pipe(ends) != 0) return cli_fail(error, "%s: %s", command[0], strerror(errno));
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    cli_exit code = start(command, ends[1], &child, error);
    close(ends[1]);
    if (code == CLI_OK) {
        code = read_all(ends[0], output, error);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
        *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
    }
    close(ends[0]);
    if (code == CLI_OK) return CLI_OK;
    free(*output);
    *output = NULL;
    return code;
}
