/* SPDX-License-Identifier: Apache-2.0 */
/* A command's options as rows of a table. Long names only (but -h), `--name value` or `--name=value`, applied from left
 * to right; a name may not be abbreviated. Own code, since argp's and getopt's complaints take two lines and other exit
 * codes than ours. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "cli_error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct cli_option cli_option;
struct cli_option {
    const char *name;     /**< with its dashes */
    const char *argument; /**< as help shows it; NULL for a switch */
    const char *help;
    cli_exit (*set)(const cli_option *option, void *target, const char *text, cli_error *error);
    size_t offset;     /**< of the field in the target that `set` writes */
    int64_t low, high; /**< bounds of a number; option_set_switch() writes `low` */
};

/** Options that share a target. */
typedef struct option_group {
    const char *title;
    const cli_option *options;
    size_t num_options;
    void *target;
} option_group;

#define OPTION_COUNT(options) (sizeof(options) / sizeof(options)[0])

/** Ready-made setters, by the field's type. */
cli_exit option_set_switch(const cli_option *option, void *target, const char *text, cli_error *error);
cli_exit option_set_int32(const cli_option *option, void *target, const char *text, cli_error *error);
cli_exit option_set_int64(const cli_option *option, void *target, const char *text, cli_error *error);
cli_exit option_set_float(const cli_option *option, void *target, const char *text, cli_error *error);
cli_exit option_set_text(const cli_option *option, void *target, const char *text, cli_error *error);

enum { OPTION_MAX_OPERANDS = 16 };

/** What a command line may hold. */
typedef struct command_line {
    const char *usage;   /**< "podattn run [batch] [options]" */
    const char *summary; /**< what the command does, a few lines */
    const char *example; /**< a command line */
    const option_group *groups;
    size_t num_groups;
    const char *operand_name;                      /**< of arguments that are no options; NULL: takes none */
    int max_operands;                              /**< 0 is one */
    const char *operands[OPTION_MAX_OPERANDS + 1]; /**< out: NULL after the last */
    int num_operands;                              /**< out */
    int wants_help;                                /**< out: --help or -h was given; what follows it was not read */
} command_line;

/** Sets what the options say. Prints the help that --help asks for: then the command has nothing more to do. */
cli_exit options_parse(command_line *line, int argc, char **argv, cli_error *error);

#endif
