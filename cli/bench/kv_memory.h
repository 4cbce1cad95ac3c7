/* SPDX-License-Identifier: Apache-2.0 */
/* How many requests a GPU serves at the same time: what its memory leaves for the KV cache. */
#ifndef CLI_KV_MEMORY_H
#define CLI_KV_MEMORY_H

#include "cli_error.h"

#include <stdint.h>

/**
 * KV tokens that an 80 GB card holds as one rank of a model, as in "llama-3-8b:tp2", in bf16:
 *
 *   (0.9 * 80e9 - 2 * parameters / ranks) / (4 * layers * KV heads per rank * head_dim)
 *
 * A tenth of the card stays for activations. 913 thousand tokens for Yi-6B: 55 requests of 16,384 tokens.
 */
cli_exit kv_memory_tokens(const char *model, double *tokens, cli_error *error);

#endif
