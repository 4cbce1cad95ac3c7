/* SPDX-License-Identifier: Apache-2.0 */
#include "input/options.h"

#include "input/number.h"

#include <stdio.h>
#include <string.h>

cli_exit option_set_switch(const cli_option *option, void *target, const char *text, cli_error *error) {
    (void)text;
    (void)error;
    *(int32_t *)(void *)((char *)target + option->offset) = (int32_t)option->low;
    return CLI_OK;
}

cli_exit option_set_int64(const cli_option *option, void *target, const char *text, cli_error *error) {
    int64_t value;
    CLI_TRY(number_parse(option->name, text, option->low, option->high, &value, error));
    *(int64_t *)(void *)((char *)target + option->offset) = value;
    return CLI_OK;
}

cli_exit option_set_int32(const cli_option *option, void *target, const char *text, cli_error *error) {
    int64_t value;
    CLI_TRY(number_parse(option->name, text, option->low, option->high, &value, error));
    *(int32_t *)(void *)((char *)target + option->offset) = (int32_t)value;
    return CLI_OK;
}

cli_exit option_set_float(const cli_option *option, void *target, const char *text, cli_error *error) {
    return number_parse_float(option->name, text, (float *)(void *)((char *)target + option->offset), error);
}

cli_exit option_set_text(const cli_option *option, void *target, const char *text, cli_error *error) {
    (void)error;
    *(const char **)(void *)((char *)target + option->offset) = text;
    return CLI_OK;
}

static const cli_option *find_option(const command_line *line, const char *name, size_t length, void **target) {
    for (size_t g = 0; g < line->num_groups; g++) {
        const option_group *group = &line->groups[g];
        for (size_t i = 0; i < group->num_options; i++) {
            const cli_option *option = &group->options[i];
            if (strlen(option->name) != length || memcmp(option->name, name, length) != 0) continue;
            *target = group->target;
            return option;
        }
    }
    return NULL;
}

/** The option at argv[*index], and its value, which may be the next argument. */
static cli_exit parse_option(const command_line *line, int argc, char **argv, int *index, cli_error *error) {
    const char *word = argv[*index];
    size_t length = strcspn(word, "=");
    void *target = NULL;
    const cli_option *option = find_option(line, word, length, &target);
    if (option == NULL) return cli_fail(error, "unknown option %.64s", word);
    const char *text = word[length] == '=' ? word + length + 1 : NULL;
    if (option->argument == NULL) {
        if (text != NULL) return cli_fail(error, "%s takes no value, but got \"%.64s\"", option->name, text);
        return option->set(option, target, NULL, error);
    }
    if (text == NULL) {
        if (*index + 1 >= argc) return cli_fail(error, "%s needs a value: %s", option->name, option->argument);
        text = argv[++*index];
    }
    if (*text == '\0') return cli_fail(error, "%s is empty; it needs %s", option->name, option->argument);
    return option->set(option, target, text, error);
}

static void print_help(const command_line *line) {
    printf("usage: %s\n\n%s\n", line->usage, line->summary);
    for (size_t g = 0; g < line->num_groups; g++) {
        const option_group *group = &line->groups[g];
        printf("\n%s\n", group->title);
        for (size_t i = 0; i < group->num_options; i++) {
            char head[40];
            const cli_option *option = &group->options[i];
            const char *argument = option->argument != NULL ? option->argument : "";
            snprintf(head, sizeof head, "%s %s", option->name, argument);
            printf("  %-26s %s\n", head, option->help);
        }
    }
    printf("\nexample\n  %s\n", line->example);
}

cli_exit options_parse(command_line *line, int argc, char **argv, cli_error *error) {
    line->num_operands = 0;
    line->operands[0] = NULL;
    int max_operands = line->operand_name == NULL ? 0 : line->max_operands > 0 ? line->max_operands : 1;
    line->wants_help = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(line);
            line->wants_help = 1;
            return CLI_OK;
        }
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            CLI_TRY(parse_option(line, argc, argv, &i, error));
            continue;
        }
        if (line->num_operands == max_operands) return cli_fail(error, "unexpected argument \"%.64s\"", argv[i]);
        if (argv[i][0] == '\0') return cli_fail(error, "%s is empty", line->operand_name);
        line->operands[line->num_operands++] = argv[i];
        line->operands[line->num_operands] = NULL;
    }
    return CLI_OK;
}
