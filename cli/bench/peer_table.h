/* SPDX-License-Identifier: Apache-2.0 */
/* A CSV file of batches with other libraries' times: columns q_heads, kv_heads, prefill_q, prefill_kv, decode_n,
 * decode_kv, if it has it head_dim (128), and any number whose names end in _us. */
#ifndef CLI_PEER_TABLE_H
#define CLI_PEER_TABLE_H

#include "cli_error.h"

#include <stdint.h>

enum { PEER_MAX_TIMES = 32, PEER_NAME_CHARS = 48 };

typedef struct peer_row {
    int32_t q_heads, kv_heads, head_dim, prefill_q, prefill_kv, decode_n, decode_kv;
    double times_us[PEER_MAX_TIMES]; /**< 0: the file does not say */
} peer_row;

typedef struct peer_table {
    char names[PEER_MAX_TIMES][PEER_NAME_CHARS]; /**< without _us */
    int32_t num_names;
    peer_row *rows;
    int32_t num_rows;
} peer_table;

/** Free the table also on error. */
cli_exit peer_table_read(const char *path, peer_table *table, cli_error *error);
void peer_table_free(peer_table *table);

#endif
