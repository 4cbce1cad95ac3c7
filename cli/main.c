/* SPDX-License-Identifier: Apache-2.0 */
/* podattn: finds the command, runs it, and turns what it returns into one line and an exit code. */
#include "commands.h"
#include "podattn.h"
#include "run/progress.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/** The man page and docs/cli.md say the same of each; a test compares. */
static const struct {
    const char *name;
    const char *summary;
    cli_exit (*run)(int argc, char **argv, cli_error *error);
} commands[] = {
    {"info", "devices with their kernels, models and limits of this build", cmd_info},
    {"run", "one hybrid batch: fused, serial, both sides alone, and the error", cmd_run},
    {"plan", "the schedule of a batch, as text, JSON or a timeline picture", cmd_plan},
    {"replay", "a request trace through a chunked-prefill scheduler, every step computed", cmd_replay},
    {"peak", "what a device can do at most: reading, multiplying, both together", cmd_peak},
    {"bench", "whole sweeps, each into a CSV file", cmd_bench},
};

enum { NUM_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(void) {
    printf("usage: podattn COMMAND [options]\n\n");
    for (int i = 0; i < NUM_COMMANDS; i++) printf("  %-8s %s\n", commands[i].name, commands[i].summary);
    printf("\npodattn COMMAND --help explains a command. Exit codes: 0 done, 1 a check failed,\n"
           "2 bad usage or input, or no resources (one line on stderr says which).\n"
           "\nexample: podattn run --prefill 512@2048 --decode 16@2048 --check\n");
}

static int is_help(const char *word) {
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static cli_exit run_command(int argc, char **argv, cli_error *error) {
    if (argc < 2) return cli_fail(error, "no command is given; podattn --help lists them");
    const char *name = argv[1];
    if (is_help(name) || strcmp(name, "--version") == 0) {
        if (argc > 2) return cli_fail(error, "unexpected argument \"%.64s\" after %s", argv[2], name);
        if (is_help(name)) {
            print_usage();
        } else {
            printf("podattn %s\n", pod_version());
        }
        return CLI_OK;
    }
    for (int i = 0; i < NUM_COMMANDS; i++) {
        if (strcmp(name, commands[i].name) != 0) continue;
        return commands[i].run(argc - 2, argv + 2, error);
    }
    return cli_fail(error, "unknown command \"%.64s\"; podattn --help lists them", name);
}

int main(int argc, char **argv) {
    cli_error error = {""};
    cli_exit code = run_command(argc, argv, &error);
    progress_wipe();
    if (code != CLI_BAD_INPUT && (fflush(stdout) != 0 || ferror(stdout))) {
        code = cli_fail(&error, "standard output: %s", strerror(errno));
    }
    if (code == CLI_BAD_INPUT) fprintf(stderr, "podattn: %s\n", error.line);
    return code;
}
