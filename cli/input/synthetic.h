/* SPDX-License-Identifier: Apache-2.0 */
/* Made-up traces with the moments of public ones, where no trace file is at hand. */
#ifndef CLI_SYNTHETIC_H
#define CLI_SYNTHETIC_H

#include "input/trace.h"

/**
 * Fills an empty trace with `num_requests` requests of a kind:
 *   "arxiv"  summarising papers: prompts of 4,097 to 32,768 tokens, mean 10,041; answers of mean 471
 *   "chat"   conversation: prompts of mean 1,155, answers of mean 211
 * The same seed makes the same trace.
 */
cli_exit synthetic_make(const char *kind, int32_t num_requests, int64_t seed, trace *trace, cli_error *error);

#endif
