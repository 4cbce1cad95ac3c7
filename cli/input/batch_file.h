/* SPDX-License-Identifier: Apache-2.0 */
/* A file of batches, a line each after a heading; semicolons between fields, lines that begin with # are comments:
 *
 *   name;q_heads;kv_heads;head_dim;window;requests
 *   one chunk beside decodes;32;8;128;0;1024@8192 64x1@4096
 *
 * requests: [COUNTx]Q@KV, separated by blanks: COUNT (1) requests of Q new tokens at the end of KV context tokens. A
 * window of 0 is none. */
#ifndef CLI_BATCH_FILE_H
#define CLI_BATCH_FILE_H

#include "input/batch_spec.h"
#include "input/file.h"

#include <stdio.h>

#define BATCH_FILE_HEADING "name;q_heads;kv_heads;head_dim;window;requests"

enum { BATCH_NAME_CHARS = 80 };

typedef struct named_batch {
    char name[BATCH_NAME_CHARS]; /**< no other batch of the file has it */
    batch_spec spec;             /**< longest queries first; bf16, causal, contiguous */
} named_batch;

typedef struct batch_list {
    named_batch *batches;
    int32_t count, capacity;
} batch_list;

/** Reads a document into an empty batch_list. Errors name the line. Free the list also on error. */
file_parser batch_file_parse;
void batch_list_free(batch_list *list);

/** The requests as the last field says them. */
void batch_file_write_requests(const batch_request *requests, int32_t count, FILE *file);

/** A line of the file. */
void batch_file_write_line(const char *name, const batch_spec *spec, FILE *file);

#endif
