/* SPDX-License-Identifier: Apache-2.0 */
#include "input/batch_args.h"

#include "input/batch_json.h"
#include "input/number.h"

#include <stdio.h>

static cli_exit set_model(const cli_option *option, void *target, const char *text, cli_error *error) {
    return batch_spec_set_model(target, option->name, text, error);
}

static cli_exit set_dtype(const cli_option *option, void *target, const char *text, cli_error *error) {
    return batch_spec_set_dtype(target, option->name, text, error);
}

static cli_exit set_kv_dtype(const cli_option *option, void *target, const char *text, cli_error *error) {
    return batch_spec_set_kv_dtype(target, option->name, text, error);
}

static cli_exit set_softcap(const cli_option *option, void *target, const char *text, cli_error *error) {
    batch_spec *spec = target;
    CLI_TRY(number_parse_float(option->name, text, &spec->softcap, error));
    if (spec->softcap < 0) return cli_fail(error, "%s %.64s is negative", option->name, text);
    return CLI_OK;
}

/** "32,8" */
static cli_exit set_heads(const cli_option *option, void *target, const char *text, cli_error *error) {
    const char *cursor = text;
    int64_t q_heads, kv_heads;
    if (!number_scan(&cursor, &q_heads) || *cursor++ != ',' || !number_scan(&cursor, &kv_heads) || *cursor != '\0') {
        return cli_fail(error, "%s \"%.64s\" is not of the form %s", option->name, text, option->argument);
    }
    char name[96];
    snprintf(name, sizeof name, "%s %.64s", option->name, text);
    return batch_spec_set_heads(target, name, q_heads, kv_heads, error);
}

static cli_exit set_head_dim(const cli_option *option, void *target, const char *text, cli_error *error) {
    int64_t head_dim;
    CLI_TRY(number_parse(option->name, text, 8, BATCH_MAX_HEAD_DIM, &head_dim, error));
    return batch_spec_set_head_dim(target, option->name, head_dim, error);
}

static cli_exit set_v_head_dim(const cli_option *option, void *target, const char *text, cli_error *error) {
    int64_t head_dim;
    CLI_TRY(number_parse(option->name, text, 8, BATCH_MAX_HEAD_DIM, &head_dim, error));
    return batch_spec_set_v_head_dim(target, option->name, head_dim, error);
}

/** "1024@8192" */
static cli_exit add_prefill(const cli_option *option, void *target, const char *text, cli_error *error) {
    const char *cursor = text;
    int64_t q_len, kv_len;
    if (!number_scan(&cursor, &q_len) || *cursor++ != '@' || !number_scan(&cursor, &kv_len) || *cursor != '\0') {
        return cli_fail(error, "%s \"%.64s\" is not of the form %s", option->name, text, option->argument);
    }
    char name[96];
    snprintf(name, sizeof name, "%s %.48s", option->name, text);
    return batch_spec_add(target, name, 1, q_len, kv_len, error);
}

/** "64@4096" or "64x4@4096" */
static cli_exit add_decode(const cli_option *option, void *target, const char *text, cli_error *error) {
    const char *cursor = text;
    int64_t count, q_len = 1, kv_len;
    int is_valid = number_scan(&cursor, &count);
    if (is_valid && *cursor == 'x') {
        cursor++;
        is_valid = number_scan(&cursor, &q_len);
    }
    if (!is_valid || *cursor++ != '@' || !number_scan(&cursor, &kv_len) || *cursor != '\0') {
        return cli_fail(error, "%s \"%.64s\" is not of the form %s", option->name, text, option->argument);
    }
    char name[96];
    snprintf(name, sizeof name, "%s %.48s", option->name, text);
    return batch_spec_add(target, name, count, q_len, kv_len, error);
}

static cli_exit read_batch(const cli_option *option, void *target, const char *text, cli_error *error) {
    (void)option;
    return file_parse(text, batch_json_parse, target, error);
}

#define FIELD(field) .offset = offsetof(batch_spec, field)

static const cli_option shape_options[] = {
    {"--model", "NAME[:tpN]", "heads and head_dim of a model; N ranks share its heads", set_model, 0, 0, 0},
    {"--heads", "Q,KV", "query and KV heads", set_heads, 0, 0, 0},
    {"--head-dim", "D", "elements per head, a multiple of 8 up to 576", set_head_dim, 0, 0, 0},
    {"--v-head-dim", "D", "of values and outputs, if it differs", set_v_head_dim, 0, 0, 0},
    {"--v-in-k", NULL, "values are the first elements of the keys, as in absorbed MLA", option_set_switch,
     FIELD(values_in_keys), 1, 0},
    {"--dtype", "bf16|f16|f32", "of query, KV cache and output (bf16)", set_dtype, 0, 0, 0},
    {"--kv-dtype", "NAME", "of the KV cache, if it differs: also f8e4m3, with scales", set_kv_dtype, 0, 0, 0},
    {"--page-size", "P", "tokens per page of the KV cache", option_set_int32, FIELD(page_size), 1, BATCH_MAX_TOKENS},
    {"--contiguous", NULL, "a KV cache without pages (default of run and plan)", option_set_switch, FIELD(page_size), 0,
     0},
    {"--causal", NULL, "a query sees the keys up to its own position (default)", option_set_switch, FIELD(causal), 1,
     0},
    {"--no-causal", NULL, "a query sees all keys of its request", option_set_switch, FIELD(causal), 0, 0},
    {"--window", "W", "a query sees at most W keys, its own included", option_set_int32, FIELD(window_tokens), 1,
     BATCH_MAX_TOKENS},
    {"--right-window", "R", "where not causal, at most R keys from its own on", option_set_int32,
     FIELD(right_window_tokens), 1, BATCH_MAX_TOKENS},
    {"--softcap", "C", "scores become C * tanh(score / C); 0 is off", set_softcap, 0, 0, 0},
    {"--sinks", NULL, "each head has an attention sink", option_set_switch, FIELD(has_sinks), 1, 0},
    {"--alibi", NULL, "each head has an ALiBi slope", option_set_switch, FIELD(has_alibi), 1, 0},
    {"--scale", "X", "of the scores (1 / sqrt(head_dim))", option_set_float, FIELD(scale), 0, 0},
    {"--seed", "S", "of tensors and page tables (1)", option_set_int64, FIELD(seed), 0, NUMBER_MAX},
};

static const cli_option request_options[] = {
    {"--prefill", "Q@KV", "a request of Q new tokens at KV context tokens", add_prefill, 0, 0, 0},
    {"--decode", "N@KV | NxT@KV", "N requests of 1 (or T) new tokens at KV", add_decode, 0, 0, 0},
    {"--tree", "N", "requests of 2 to 64 tokens are trees of N children a node", option_set_int32, FIELD(tree_children),
     1, POD_MAX_TREE_TOKENS},
    {"--batch", "FILE.json", "shape and requests from a file", read_batch, 0, 0, 0},
};

option_group batch_args_shape(batch_spec *spec) {
    return (option_group){"shape and options", shape_options, OPTION_COUNT(shape_options), spec};
}

option_group batch_args_requests(batch_spec *spec) {
    return (option_group){"requests (each may be repeated)", request_options, OPTION_COUNT(request_options), spec};
}
