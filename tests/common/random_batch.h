/* SPDX-License-Identifier: Apache-2.0 */
/* Random limits and batches for the tests. The page table is built on request: most planner tests need none. */
#ifndef POD_TEST_RANDOM_BATCH_H
#define POD_TEST_RANDOM_BATCH_H

#include "podattn.h"
#include "rng.h"

/** What kind of requests a batch holds. */
typedef enum batch_mix {
    MIX_HYBRID,      /**< prefills, decodes, speculative decodes, empty ones */
    MIX_PREFILL,     /**< every request a prompt or a chunk */
    MIX_DECODE,      /**< one or a few tokens each */
    MIX_LONG_DECODE, /**< one decode as long as the limits allow next to many short ones */
    MIX_BESIDE,      /**< few short prompts beside many decodes, which last longer */
    MIX_EDGE,        /**< uses up max_requests and max_q_tokens with full-length contexts */
    MIX_COUNT
} batch_mix;

typedef struct test_batch {
    pod_batch batch; /**< points to what is below */
    pod_mask masks[POD_MAX_MASKS];
    int32_t *q_start;    /**< [max_requests + 1] */
    int32_t *kv_len;     /**< [max_requests] */
    int32_t *page_table; /**< NULL until test_batch_add_pages() */
    int32_t *causal;     /**< [max_masks][max_requests] */
} test_batch;

/** Elements of a value, which 0 says too. */
static inline int32_t v_head_dim_of(const pod_limits *limits) {
    return limits->v_head_dim != 0 ? limits->v_head_dim : limits->head_dim;
}

/** Heads, head_dim, v_head_dim and dtypes within [1..64] heads and dims 8..256; the maxima as given. */
pod_limits random_limits(test_rng *rng, int32_t max_requests, int32_t max_q_tokens, int32_t max_kv_len);

/** Changes head_dim and v_head_dim to those of a GPU kernel, any row of variants.def, and dtypes to one that GPUs take.
 */
void random_gpu_elements(test_rng *rng, pod_limits *limits);

/** Whether GPUs take such limits for caches without values alone. */
int has_values_in_keys(const pod_limits *limits);

/** What the limits say of masks that ask for kernels of their own: mostly nothing. */
void random_mask_limits(test_rng *rng, pod_limits *limits);

/** Room for a batch within the limits. Returns 0 if there is no memory. */
int test_batch_alloc(test_batch *batch, const pod_limits *limits);
void test_batch_free(test_batch *batch);

/** A valid batch without a page table, with as many masks as the limits allow or fewer, some with a window to the right
 * if the limits have right_windows; the limits' page_size must reach max_kv_len. */
void test_batch_fill(test_batch *batch, test_rng *rng, const pod_limits *limits, batch_mix mix);

/** Words of a tree mask for the batch's query tokens, to be freed; NULL if there is no memory. */
uint64_t *test_batch_make_tree(const test_batch *batch, test_rng *rng);

/** Whether the word of request r's token shows a key; without words all are shown. */
int test_tree_shows(const test_batch *batch, const uint64_t *words, int32_t r, int32_t token, int32_t key);

/** Whether some mask of the batch is causal for request r: then it has a key for each of its queries. */
int test_batch_is_causal(const test_batch *batch, int32_t r);

/** First key that some query of request r sees under mask m, or under any mask if m is -1; its kv_len if it has no
 * query. What is before, and what is behind kv_len, must not be read. */
int32_t test_batch_first_key(const test_batch *batch, int32_t r, int32_t m);

/** Makes a page table with room for the batch's lengths, and fills it in. Returns 0 if there is no memory. */
int test_batch_add_pages(test_batch *batch, test_rng *rng, const pod_limits *limits);

/** Fills the page table in for lengths that are no longer than those it was made for: each request gets shuffled pages
 * of its own. Entries that no query needs are poisoned: numbers that do not exist, or before a window also that of the
 * last page, which nobody fills and requests share. Returns 0 if there is no memory. */
int test_batch_assign_pages(test_batch *batch, test_rng *rng, const pod_limits *limits);

#endif
