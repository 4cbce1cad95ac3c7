/* SPDX-License-Identifier: Apache-2.0 */
#include "input/batch_arrays.h"

#include "base/prng.h"
#include "run/host_memory.h"

#include <stdlib.h>

double batch_arrays_bytes(const batch_spec *spec, const pod_limits *limits) {
    double per_request = 2 * sizeof(int32_t);
    if (spec->page_size > 0) per_request += 2.0 * sizeof(int32_t) * batch_pages(limits->max_kv_len, spec->page_size);
    return per_request * (spec->num_requests + 1);
}

static void deal_in_order(const batch_spec *spec, batch_arrays *arrays) {
    int32_t next = 0;
    for (int32_t r = 0; r < spec->num_requests; r++) {
        int32_t *row = arrays->page_table + r * arrays->batch.page_table_stride;
        for (int32_t p = 0; p < batch_pages(arrays->kv_len[r], spec->page_size); p++) row[p] = next++;
    }
}

/** Fills the table's rows with the pages of a shuffled pool. */
static cli_exit deal_scattered(const batch_spec *spec, batch_arrays *arrays, cli_error *error) {
    int32_t *pool = malloc((size_t)arrays->batch.num_pages * sizeof *pool);
    if (pool == NULL) return cli_fail_memory(error);
    pod_prng random = pod__prng_seed((uint64_t)spec->seed);
    pod__prng_permute(&random, pool, arrays->batch.num_pages);
    const int32_t *next = pool;
    for (int32_t r = 0; r < spec->num_requests; r++) {
        int32_t *row = arrays->page_table + r * arrays->batch.page_table_stride;
        for (int32_t p = 0; p < batch_pages(arrays->kv_len[r], spec->page_size); p++) row[p] = *next++;
    }
    free(pool);
    return CLI_OK;
}

static cli_exit make_page_table(const batch_spec *spec, const pod_limits *limits, page_order order,
                                batch_arrays *arrays, cli_error *error) {
    int64_t num_pages = batch_spec_pages(spec);
    if (num_pages > INT32_MAX) {
        return cli_fail(error, "the batch's %lld pages are more than 32 bits count", (long long)num_pages);
    }
    int32_t max_pages = batch_pages(limits->max_kv_len, spec->page_size);
    arrays->page_table = calloc((size_t)spec->num_requests * (size_t)max_pages, sizeof(int32_t));
    if (arrays->page_table == NULL) return cli_fail_memory(error);
    arrays->batch.page_table = arrays->page_table;
    arrays->batch.page_table_stride = max_pages;
    arrays->batch.max_pages = max_pages;
    arrays->batch.num_pages = (int32_t)num_pages;
    if (num_pages > 0 && order == PAGES_SCATTERED) return deal_scattered(spec, arrays, error);
    deal_in_order(spec, arrays);
    return CLI_OK;
}

cli_exit batch_arrays_make(const batch_spec *spec, const pod_limits *limits, page_order order, batch_arrays *arrays,
                           cli_error *error) {
    *arrays = (batch_arrays){.batch = pod_batch_init()};
    CLI_TRY(host_memory_check("the page table", batch_arrays_bytes(spec, limits), error));
    arrays->q_start = malloc(((size_t)spec->num_requests + 1) * sizeof(int32_t));
    arrays->kv_len = malloc((size_t)spec->num_requests * sizeof(int32_t));
    if (arrays->q_start == NULL || arrays->kv_len == NULL) return cli_fail_memory(error);
    arrays->q_start[0] = 0;
    for (int32_t r = 0; r < spec->num_requests; r++) {
        arrays->q_start[r + 1] = arrays->q_start[r] + spec->requests[r].q_len;
        arrays->kv_len[r] = spec->requests[r].kv_len;
    }
    pod_batch *batch = &arrays->batch;
    batch->num_requests = spec->num_requests;
    batch->q_start = arrays->q_start;
    batch->kv_len = arrays->kv_len;
    batch->num_pages = spec->num_requests;
    arrays->mask = pod_mask_init();
    arrays->mask.causal = spec->causal;
    arrays->mask.window_tokens = spec->window_tokens;
    arrays->mask.right_window_tokens = spec->right_window_tokens;
    batch->num_masks = 1;
    batch->masks = &arrays->mask;
    return spec->page_size > 0 ? make_page_table(spec, limits, order, arrays, error) : CLI_OK;
}

void batch_arrays_free(batch_arrays *arrays) {
    free(arrays->q_start);
    free(arrays->kv_len);
    free(arrays->page_table);
    *arrays = (batch_arrays){.batch = pod_batch_init()};
}
