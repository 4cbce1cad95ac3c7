/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/case_lists.h"

enum { PAGE_TOKENS = 16, SHORT_STEP = 7 };

cli_exit list_peers(bench *bench, bench_cases *cases, cli_error *error) {
    const peer_table *table = cases->peers;
    for (int32_t page_size = 0; page_size <= PAGE_TOKENS; page_size += PAGE_TOKENS) {
        for (int32_t i = 0; i < table->num_rows; i += bench->is_short ? SHORT_STEP : 1) {
            const peer_row *row = &table->rows[i];
            const bench_case added = {.q_heads = row->q_heads,
                                      .kv_heads = row->kv_heads,
                                      .head_dim = row->head_dim,
                                      .page_size = page_size,
                                      .prefill_q = row->prefill_q,
                                      .prefill_kv = row->prefill_kv,
                                      .decode_n = row->decode_n,
                                      .decode_kv = row->decode_kv,
                                      .peers = cases->is_small ? NULL : row}; /* theirs are of whole ones */
            CLI_TRY(bench_cases_add(cases, &added, error));
        }
    }
    return CLI_OK;
}
