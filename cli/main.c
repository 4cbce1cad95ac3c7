/* SPDX-License-Identifier: Apache-2.0 */
/* podattn: finds the command, runs it, and turns what it returns into one line and an exit code. */
#include "commands.h"
#include "podattn.h"
#include "run/progress.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char usage[] = "usage: podattn COMMAND [options]\n"
                            "\n"
                            "  info     devices, models and limits of this build\n"
                            "  run      one hybrid batch: fused, serial, both sides alone, and the error\n"
                            "  plan     the schedule of a batch, as text, JSON or a timeline picture\n"
                            "  replay   a request trace through a chunked-prefill scheduler, every step computed\n"
                            "  peak     what a device can do at most: reading, multiplying, both at once\n"
                            "  bench    whole sweeps, each into a CSV file\n"
                            "\n"
                            "podattn COMMAND --help explains a command. Exit codes: 0 done, 1 a check failed,\n"
                            "2 bad usage or input, or no resources (one line on stderr says which).\n";

static const struct {
    const char *name;
    cli_exit (*run)(int argc, char **argv, cli_error *error);
} commands[] = {
    {"info", cmd_info},     {"run", cmd_run},   {"plan", cmd_plan},
    {"replay", cmd_replay}, {"peak", cmd_peak}, {"bench", cmd_bench},
};

static int is_help(const char *word) {
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static cli_exit run_command(int argc, char **argv, cli_error *error) {
    if (argc < 2) return cli_fail(error, "no command is given; podattn --help lists them");
    const char *name = argv[1];
    if (is_help(name) || strcmp(name, "--version") == 0) {
        if (argc > 2) return cli_fail(error, "unexpected argument \"%.64s\" after %s", argv[2], name);
        if (is_help(name)) {
            fputs(usage, stdout);
        } else {
            printf("podattn %s\n", pod_version());
        }
        return CLI_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
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
