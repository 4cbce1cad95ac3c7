/* SPDX-License-Identifier: Apache-2.0 */
/* Attention shapes of well-known models. */
#ifndef CLI_MODELS_H
#define CLI_MODELS_H

#include "cli_error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct model_shape {
    const char *name;
    int32_t q_heads, kv_heads, head_dim;
    int32_t num_layers;
} model_shape;

/** The shape of "llama-3-8b", or of one rank's share of it as in "llama-3-70b:tp8". `name` is what errors call the
 * argument. */
cli_exit model_find(const char *name, const char *text, model_shape *shape, cli_error *error);

/** The table's row `index`, or NULL after the last. */
const model_shape *model_at(size_t index);

#endif
