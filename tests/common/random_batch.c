/* SPDX-License-Identifier: Apache-2.0 */
#include "random_batch.h"

#include "families/choice.h"

#include <stdlib.h>

static int32_t min32(int32_t a, int32_t b) {
    return a < b ? a : b;
}

pod_limits random_limits(test_rng *rng, int32_t max_requests, int32_t max_q_tokens, int32_t max_kv_len) {
    static const int32_t kv_heads[] = {1, 1, 2, 3, 4, 8};
    static const int32_t groups[] = {1, 2, 3, 4, 5, 8, 16, 32};
    static const pod_dtype dtypes[] = {POD_F32, POD_F16, POD_BF16, POD_F8E4M3}; /* the last of caches alone */
    pod_limits limits = pod_limits_init();
    limits.kv_heads = rng_pick(rng, kv_heads, 6);
    limits.q_heads = limits.kv_heads * rng_pick(rng, groups, 8);
    limits.head_dim = 8 * rng_range(rng, 1, 32);
    if (rng_chance(rng, 30)) limits.v_head_dim = 8 * rng_range(rng, 1, 32);
    limits.q_dtype = dtypes[rng_range(rng, 0, 2)];
    limits.kv_dtype = dtypes[rng_range(rng, 0, 3)];
    limits.out_dtype = dtypes[rng_range(rng, 0, 2)];
    limits.page_size = max_kv_len;
    limits.max_requests = max_requests;
    limits.max_q_tokens = max_q_tokens;
    limits.max_kv_len = max_kv_len;
    return limits;
}

void random_gpu_elements(test_rng *rng, pod_limits *limits) {
    const pod_variant *row = &pod__variants[rng_range(rng, 0, POD_NUM_VARIANTS - 1)];
    limits->head_dim =
        row->tiles->job == POD_JOB_padded ? 8 * rng_range(rng, 1, row->tiles->head_dim / 8) : row->tiles->head_dim;
    limits->v_head_dim = row->tiles->v_head_dim;
    if (row->tiles->job == POD_JOB_padded && rng_chance(rng, 60)) {
        limits->v_head_dim = 8 * rng_range(rng, 1, row->tiles->head_dim / 8);
    }
    limits->q_dtype = limits->out_dtype = row->dtype;
    limits->kv_dtype = row->kv_dtype;
}

int has_values_in_keys(const pod_limits *limits) {
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_tiles *tiles = pod__variants[i].tiles;
        if (tiles->has_values_in_keys && pod__tiles_fit(tiles, limits)) return 1;
    }
    return 0;
}

void random_mask_limits(test_rng *rng, pod_limits *limits) {
    if (rng_chance(rng, 60)) return;
    limits->tree_masks = rng_chance(rng, 60);
    limits->alibi = rng_chance(rng, 40);
    limits->right_windows = rng_chance(rng, 50);
}

int test_batch_alloc(test_batch *batch, const pod_limits *limits) {
    size_t masks = limits->max_masks > 0 ? (size_t)limits->max_masks : 1, requests = (size_t)limits->max_requests;
    batch->batch = pod_batch_init();
    for (int32_t m = 0; m < POD_MAX_MASKS; m++) batch->masks[m] = pod_mask_init();
    batch->batch.num_masks = 1;
    batch->batch.masks = batch->masks;
    batch->q_start = malloc((requests + 1) * sizeof(int32_t));
    batch->kv_len = malloc(requests * sizeof(int32_t));
    batch->causal = malloc(masks * requests * sizeof(int32_t));
    batch->page_table = NULL;
    batch->batch.q_start = batch->q_start;
    batch->batch.kv_len = batch->kv_len;
    return batch->q_start != NULL && batch->kv_len != NULL && batch->causal != NULL;
}

void test_batch_free(test_batch *batch) {
    free(batch->q_start);
    free(batch->kv_len);
    free(batch->page_table);
    free(batch->causal);
}

/** New tokens of one request when `left` may still be used and `others` requests follow. */
static int32_t random_q_len(test_rng *rng, const pod_limits *limits, batch_mix mix, int32_t left, int32_t others) {
    int32_t wanted = 1;
    switch (mix) {
    case MIX_HYBRID:
        if (rng_chance(rng, 15)) return 0;
        if (rng_chance(rng, 40)) wanted = rng_log_range(rng, 1, limits->max_q_tokens);
        if (rng_chance(rng, 20)) wanted = rng_range(rng, 1, 8);
        break;
    case MIX_PREFILL:
        wanted = rng_log_range(rng, 1, limits->max_q_tokens);
        break;
    case MIX_DECODE:
        if (rng_chance(rng, 20)) wanted = rng_range(rng, 1, 6);
        break;
    case MIX_BESIDE:
        if (others % 5 == 0) wanted = min32(rng_range(rng, 1, 300), left > others ? left - others : 0);
        break;
    case MIX_EDGE:
        wanted = others == 0 ? left : left / (others + 1) + rng_range(rng, 0, 1);
        break;
    case MIX_LONG_DECODE:
    case MIX_COUNT:
        break;
    }
    return min32(wanted, left);
}

static int32_t random_kv_len(test_rng *rng, const pod_limits *limits, batch_mix mix, int32_t request,
                             int32_t shortest) {
    int32_t longest = limits->max_kv_len;
    if (mix == MIX_BESIDE && shortest > 1) return rng_range(rng, shortest, min32(longest, shortest + 500));
    if (mix == MIX_BESIDE) return rng_range(rng, longest / 2 > shortest ? longest / 2 : shortest, longest);
    if (mix == MIX_EDGE && rng_chance(rng, 90)) return longest;
    if (mix == MIX_LONG_DECODE && request == 0) return longest;
    if (mix == MIX_LONG_DECODE) return rng_range(rng, shortest, min32(longest, shortest + 700));
    if (rng_chance(rng, 10)) return shortest;
    return rng_log_range(rng, shortest, longest);
}

/** One mask: causal or not, for all requests or for each, with a window or without. */
static void fill_mask(test_batch *batch, test_rng *rng, const pod_limits *limits, int32_t m) {
    pod_mask *mask = &batch->masks[m];
    int32_t *causal = batch->causal + (size_t)m * (size_t)limits->max_requests;
    mask->causal = rng_chance(rng, 70);
    mask->window_tokens = rng_chance(rng, 30) ? 1 + rng_log_range(rng, 0, limits->max_kv_len) : 0;
    int has_right = limits->right_windows && rng_chance(rng, 50);
    mask->right_window_tokens = has_right ? 1 + rng_log_range(rng, 0, limits->max_kv_len) : 0;
    mask->causal_per_request = rng_chance(rng, 20) ? causal : NULL;
    for (int32_t r = 0; r < batch->batch.num_requests; r++) causal[r] = rng_chance(rng, 60);
}

int test_batch_is_causal(const test_batch *batch, int32_t r) {
    int causal = 0;
    for (int32_t m = 0; m < batch->batch.num_masks; m++) {
        const pod_mask *mask = &batch->masks[m];
        causal |= mask->causal_per_request != NULL ? mask->causal_per_request[r] : mask->causal;
    }
    return causal;
}

int32_t test_batch_first_key(const test_batch *batch, int32_t r, int32_t m) {
    int32_t kv_len = batch->kv_len[r], position = kv_len - (batch->q_start[r + 1] - batch->q_start[r]);
    if (position == kv_len) return kv_len;
    int32_t first = kv_len, begin = m < 0 ? 0 : m, end = m < 0 ? batch->batch.num_masks : m + 1;
    for (int32_t i = begin; i < end; i++) {
        int32_t window = batch->masks[i].window_tokens, key = position - window + 1;
        first = min32(first, window == 0 || key < 0 ? 0 : key);
    }
    return first;
}

/** As a tree of drafts has them, each token's own bit and its parent's word; or any bits at all, which hides whole rows
 * too; or all ones, which is no tree. */
static void fill_tree(uint64_t *words, test_rng *rng, int32_t q_len) {
    int32_t kind = rng_range(rng, 0, 3);
    for (int32_t i = 0; i < q_len; i++) {
        int32_t parent = i == 0 ? 0 : rng_chance(rng, 50) ? i - 1 : rng_range(rng, 0, i - 1);
        uint64_t own = i < POD_MAX_TREE_TOKENS ? UINT64_C(1) << i : 0;
        words[i] = kind == 0 ? rng_next(rng) : kind == 1 ? ~UINT64_C(0) : (i == 0 ? 0 : words[parent]) | own;
    }
}

uint64_t *test_batch_make_tree(const test_batch *batch, test_rng *rng) {
    int32_t n = batch->batch.num_requests;
    uint64_t *words = malloc(((size_t)batch->q_start[n] + 1) * sizeof *words);
    for (int32_t r = 0; words != NULL && r < n; r++) {
        fill_tree(words + batch->q_start[r], rng, batch->q_start[r + 1] - batch->q_start[r]);
    }
    return words;
}

int test_tree_shows(const test_batch *batch, const uint64_t *words, int32_t r, int32_t token, int32_t key) {
    int32_t q_len = batch->q_start[r + 1] - batch->q_start[r], place = key - (batch->kv_len[r] - q_len);
    if (words == NULL || q_len > POD_MAX_TREE_TOKENS || place < 0) return 1;
    return (int)(words[batch->q_start[r] + token] >> place & 1);
}

void test_batch_fill(test_batch *batch, test_rng *rng, const pod_limits *limits, batch_mix mix) {
    pod_batch *b = &batch->batch;
    b->num_requests = mix == MIX_EDGE ? limits->max_requests : rng_range(rng, 0, limits->max_requests);
    b->num_pages = b->num_requests;
    b->num_masks = limits->max_masks > 1 ? rng_range(rng, 1, limits->max_masks) : 1;
    for (int32_t m = 0; m < b->num_masks; m++) fill_mask(batch, rng, limits, m);
    int32_t token = 0;
    batch->q_start[0] = 0;
    for (int32_t r = 0; r < b->num_requests; r++) {
        int32_t q_len = random_q_len(rng, limits, mix, limits->max_q_tokens - token, b->num_requests - 1 - r);
        int causal = test_batch_is_causal(batch, r);
        if (causal) q_len = min32(q_len, limits->max_kv_len);
        token += q_len;
        batch->q_start[r + 1] = token;
        batch->kv_len[r] = random_kv_len(rng, limits, mix, r, causal ? q_len : 0);
    }
}

static void shuffle(test_rng *rng, int32_t *numbers, int32_t count) {
    for (int32_t i = count - 1; i > 0; i--) {
        int32_t other = rng_range(rng, 0, i), kept = numbers[i];
        numbers[i] = numbers[other];
        numbers[other] = kept;
    }
}

static int32_t pages_of(int32_t tokens, const pod_limits *limits) {
    return (tokens + limits->page_size - 1) / limits->page_size;
}

static void assign_pages(test_batch *batch, test_rng *rng, const pod_limits *limits, int32_t *order) {
    const pod_batch *b = &batch->batch;
    int32_t nobodys = b->num_pages - 1;
    const int32_t poison[] = {-1, INT32_MAX, INT32_MIN, b->num_pages, b->num_pages + 7, nobodys};
    for (int32_t p = 0; p < b->num_pages; p++) order[p] = p;
    shuffle(rng, order, nobodys);
    for (int32_t r = 0; r < b->num_requests; r++) {
        int32_t *row = batch->page_table + r * b->page_table_stride;
        int32_t begin = test_batch_first_key(batch, r, -1), end = batch->kv_len[r];
        int32_t first = begin < end ? begin / limits->page_size : b->max_pages, pages = pages_of(end, limits);
        for (int32_t p = 0; p < b->page_table_stride; p++) {
            row[p] = p >= first && p < pages ? *order++ : rng_pick(rng, poison, p < pages ? 6 : 5);
        }
    }
}

int test_batch_assign_pages(test_batch *batch, test_rng *rng, const pod_limits *limits) {
    int32_t *order = malloc((size_t)batch->batch.num_pages * sizeof *order);
    if (order == NULL) return 0;
    assign_pages(batch, rng, limits, order);
    free(order);
    return 1;
}

int test_batch_add_pages(test_batch *batch, test_rng *rng, const pod_limits *limits) {
    pod_batch *b = &batch->batch;
    int32_t used = 0, widest = 0;
    for (int32_t r = 0; r < b->num_requests; r++) {
        int32_t pages = pages_of(batch->kv_len[r], limits);
        used += pages;
        if (pages > widest) widest = pages;
    }
    b->num_pages = used + rng_range(rng, 1, 3);
    b->max_pages = widest;
    b->page_table_stride = widest + rng_range(rng, 0, 3);
    size_t entries = (size_t)b->num_requests * (size_t)b->page_table_stride;
    free(batch->page_table);
    batch->page_table = malloc((entries + 1) * sizeof(int32_t));
    b->page_table = batch->page_table;
    return batch->page_table != NULL && test_batch_assign_pages(batch, rng, limits);
}
