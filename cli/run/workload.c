/* SPDX-License-Identifier: Apache-2.0 */
#include "run/workload.h"

/** Keys [*begin, *end) that the query at `position` of the context sees. */
static void visible_keys(const pod_batch *batch, int64_t position, int32_t kv_len, int64_t *begin, int64_t *end) {
    int32_t window = batch->masks->window_tokens, right = batch->masks->right_window_tokens;
    *end = batch->masks->causal ? position + 1 : kv_len;
    if (right > 0 && *end > position + right) *end = position + right;
    if (*end < 0) *end = 0;
    *begin = 0;
    if (window > 0 && position >= window) *begin = position - window + 1;
    if (*begin > *end) *begin = *end;
}

workload workload_of(const batch_spec *spec, const pod_limits *limits, const pod_batch *batch) {
    double pairs = 0, keys = 0; /* query tokens x keys, and keys */
    for (int32_t r = 0; r < batch->num_requests; r++) {
        int32_t q_len = batch->q_start[r + 1] - batch->q_start[r], kv_len = batch->kv_len[r];
        int64_t begin = 0, end = 0, first_begin = 0;
        for (int32_t i = 0; i < q_len; i++) {
            visible_keys(batch, (int64_t)kv_len - q_len + i, kv_len, &begin, &end);
            if (i == 0) first_begin = begin;
            pairs += (double)(end - begin);
        }
        keys += (double)(end - first_begin);
    }
    double dims = limits->head_dim + limits->v_head_dim, read = spec->values_in_keys ? limits->head_dim : dims;
    double token_bytes = read * limits->kv_heads * (double)pod_dtype_size(limits->kv_dtype);
    return (workload){2.0 * dims * limits->q_heads * pairs, keys * token_bytes};
}
