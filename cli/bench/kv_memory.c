/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kv_memory.h"

#include "input/models.h"

#include <string.h>

static const double card_bytes = 0.9 * 80e9;

/** From the models' cards. */
static const struct {
    const char *model;
    double parameters;
} sizes[] = {{"llama-3-8b", 8.03e9}, {"llama-2-7b", 6.74e9}, {"yi-6b", 6.06e9}};

cli_exit kv_memory_tokens(const char *model, double *tokens, cli_error *error) {
    model_shape rank, whole;
    CLI_TRY(model_find("model", model, &rank, error));
    CLI_TRY(model_find("model", rank.name, &whole, error));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (strcmp(sizes[i].model, rank.name) != 0) continue;
        double weight_bytes = 2 * sizes[i].parameters * rank.q_heads / whole.q_heads;
        *tokens = (card_bytes - weight_bytes) / (4.0 * rank.num_layers * rank.kv_heads * rank.head_dim);
        return CLI_OK;
    }
    return cli_fail(error, "%s: its number of parameters is not known", rank.name);
}
