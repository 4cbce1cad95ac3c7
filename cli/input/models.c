/* SPDX-License-Identifier: Apache-2.0 */
#include "input/models.h"

#include "input/number.h"

#include <stdio.h>
#include <string.h>

/* From each model's published config.json: num_attention_heads, num_key_value_heads, head_dim (where it is not given,
 * hidden_size / num_attention_heads) and num_hidden_layers. */
static const model_shape models[] = {
    {"llama-3-8b", 32, 8, 128, 32},  /* meta-llama/Meta-Llama-3-8B */
    {"llama-3-70b", 64, 8, 128, 80}, /* meta-llama/Meta-Llama-3-70B */
    {"llama-2-7b", 32, 32, 128, 32}, /* meta-llama/Llama-2-7b-hf */
    {"yi-6b", 32, 4, 128, 32},       /* 01-ai/Yi-6B */
    {"mistral-7b", 32, 8, 128, 32},  /* mistralai/Mistral-7B-v0.1; its window is --window 4096 */
    {"qwen2.5-7b", 28, 4, 128, 28},  /* Qwen/Qwen2.5-7B */
    {"gpt-oss-20b", 64, 8, 64, 24},  /* openai/gpt-oss-20b; --sinks, and --window 128 in every second layer */
    {"falcon-7b", 71, 1, 64, 32},    /* tiiuae/falcon-7b */
};
enum { NUM_MODELS = sizeof models / sizeof models[0] };

const model_shape *model_at(size_t index) {
    return index < NUM_MODELS ? &models[index] : NULL;
}

static cli_exit fail_unknown(const char *name, const char *text, cli_error *error) {
    char names[256] = "";
    for (size_t i = 0, used = 0; i < NUM_MODELS; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", models[i].name);
    }
    return cli_fail(error, "%.200s \"%.64s\" is unknown; known are %s, each also as NAME:tpN", name, text, names);
}

/** One rank's heads where `ranks` GPUs share the model. */
static cli_exit divide_heads(const char *name, const char *text, int64_t ranks, model_shape *shape, cli_error *error) {
    if (shape->q_heads % ranks != 0 || shape->kv_heads % ranks != 0) {
        return cli_fail(error, "%.200s %.64s: %d query heads and %d KV heads are not divisible by %lld", name, text,
                        shape->q_heads, shape->kv_heads, (long long)ranks);
    }
    shape->q_heads /= (int32_t)ranks;
    shape->kv_heads /= (int32_t)ranks;
    return CLI_OK;
}

cli_exit model_find(const char *name, const char *text, model_shape *shape, cli_error *error) {
    size_t length = strcspn(text, ":");
    for (size_t i = 0; i < NUM_MODELS; i++) {
        if (strlen(models[i].name) != length || memcmp(models[i].name, text, length) != 0) continue;
        *shape = models[i];
        if (text[length] == '\0') return CLI_OK;
        const char *cursor = text + length + 3;
        int64_t ranks;
        if (strncmp(text + length, ":tp", 3) != 0 || !number_scan(&cursor, &ranks) || *cursor != '\0' || ranks < 1) {
            return cli_fail(error, "%.200s %.64s: \"%.32s\" is not :tpN with N from 1 up", name, text, text + length);
        }
        return divide_heads(name, text, ranks, shape, error);
    }
    return fail_unknown(name, text, error);
}
