/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle itself: cases small enough to compute by hand, and laws that hold for any attention. */
#include "unit.h"

#include "rng.h"

#include <math.h>
#include <stdlib.h>

enum { DIM = 8, MAX_TOKENS = POD_MAX_TREE_TOKENS + 1, MAX_KEYS = MAX_TOKENS, MAX_HEADS = 4 };

/** One request over a contiguous cache, everything packed. */
typedef struct one_request {
    pod_limits limits;
    pod_batch batch;
    pod_mask mask;
    pod_tensors tensors;
    pod_cache cache;
    int32_t q_start[2], kv_len[1], page_table[MAX_KEYS];
    float q[MAX_TOKENS * MAX_HEADS * DIM], k[MAX_KEYS * MAX_HEADS * DIM], v[MAX_KEYS * MAX_HEADS * DIM];
    float sinks[MAX_HEADS], slopes[MAX_HEADS], k_scale[MAX_HEADS], v_scale[MAX_HEADS];
    double out[MAX_TOKENS * MAX_HEADS * DIM], lse[MAX_TOKENS * MAX_HEADS];
} one_request;

static void make(one_request *one, int32_t q_len, int32_t kv_len, int32_t q_heads, int32_t kv_heads, uint64_t seed) {
    memset(one, 0, sizeof *one);
    one->limits = pod_limits_init();
    one->limits.q_heads = q_heads;
    one->limits.kv_heads = kv_heads;
    one->limits.head_dim = DIM;
    one->limits.page_size = MAX_KEYS;
    one->limits.max_requests = 1;
    one->limits.max_q_tokens = MAX_TOKENS;
    one->limits.max_kv_len = MAX_KEYS;
    one->q_start[1] = q_len;
    one->kv_len[0] = kv_len;
    one->batch = pod_batch_init();
    one->batch.num_requests = one->batch.num_pages = 1;
    one->batch.q_start = one->q_start;
    one->batch.kv_len = one->kv_len;
    one->mask = pod_mask_init();
    one->mask.causal = 1;
    one->batch.num_masks = 1;
    one->batch.masks = &one->mask;
    test_rng rng = {seed};
    for (int32_t i = 0; i < MAX_TOKENS * MAX_HEADS * DIM; i++) one->q[i] = rng_normal(&rng);
    for (int32_t i = 0; i < MAX_KEYS * MAX_HEADS * DIM; i++) one->k[i] = rng_normal(&rng);
    for (int32_t i = 0; i < MAX_KEYS * MAX_HEADS * DIM; i++) one->v[i] = rng_normal(&rng);
    one->tensors = pod_tensors_init();
    one->tensors.q = one->q;
    one->cache = pod_cache_init();
    one->cache.k = one->k;
    one->cache.v = one->v;
    one->cache.scale_stride = 1;
}

static void run(one_request *one) {
    memset(one->out, 0xff, sizeof one->out);
    memset(one->lse, 0xff, sizeof one->lse);
    assert_ok(pod_reference_attention(&one->limits, &one->batch, &one->tensors, &one->cache, -1, one->out, one->lse));
}

static void assert_near(double value, double expected) {
    if (!(fabs(value - expected) <= 1e-7 * fmax(1, fabs(expected)))) fail_msg("%.12g is not %.12g", value, expected);
}

/** Query tokens [begin, end) of both have the same output and LSE. */
static void assert_same_tokens(const one_request *a, const one_request *b, int32_t begin, int32_t end) {
    int32_t heads = a->limits.q_heads;
    for (int32_t i = begin * heads * DIM; i < end * heads * DIM; i++) assert_near(a->out[i], b->out[i]);
    for (int32_t i = begin * heads; i < end * heads; i++) assert_near(a->lse[i], b->lse[i]);
}

/** The same of the first `tokens` ones. */
static void assert_same_results(const one_request *a, const one_request *b, int32_t tokens) {
    assert_same_tokens(a, b, 0, tokens);
}

static void two_keys_by_hand(void **state) {
    (void)state;
    one_request one;
    make(&one, 1, 2, 1, 1, 1);
    memset(one.q, 0, sizeof one.q);
    memset(one.k, 0, sizeof one.k);
    memset(one.v, 0, sizeof one.v);
    one.q[0] = 1;
    one.k[0] = 1;       /* score ln 3 */
    one.k[DIM + 1] = 5; /* score 0 */
    one.tensors.scale = logf(3);
    one.v[0] = 8;
    one.v[DIM] = 4;
    run(&one);
    assert_near(one.out[0], (3.0 * 8 + 1.0 * 4) / 4);
    assert_near(one.out[1], 0);
    assert_near(one.lse[0], log(4));
}

static void scale_zero_is_one_over_the_root_of_the_head_dim(void **state) {
    (void)state;
    one_request a, b;
    make(&a, 3, 9, 2, 1, 2);
    make(&b, 3, 9, 2, 1, 2);
    b.tensors.scale = 1.0f / sqrtf(DIM);
    run(&a);
    run(&b);
    assert_same_results(&a, &b, 3);
}

static void one_key_is_its_value(void **state) {
    (void)state;
    one_request one;
    make(&one, 1, 1, 4, 2, 3);
    run(&one);
    for (int32_t h = 0; h < 4; h++) {
        for (int32_t i = 0; i < DIM; i++) assert_near(one.out[h * DIM + i], (double)one.v[h / 2 * DIM + i]);
    }
}

static void ones_stay_ones(void **state) {
    (void)state;
    one_request one;
    make(&one, MAX_TOKENS, MAX_KEYS, 4, 2, 4);
    for (int32_t i = 0; i < MAX_KEYS * MAX_HEADS * DIM; i++) one.v[i] = 1;
    one.tensors.softcap = 2;
    run(&one);
    for (int32_t i = 0; i < MAX_TOKENS * 4 * DIM; i++) assert_near(one.out[i], 1);
}

static void causal_tokens_see_their_past_only(void **state) {
    (void)state;
    one_request all, shorter;
    make(&all, 5, 9, 2, 2, 5);
    make(&shorter, 3, 7, 2, 2, 5); /* the same first tokens and keys without the last two */
    run(&all);
    run(&shorter);
    assert_same_results(&all, &shorter, 3);
}

static void the_last_token_sees_all(void **state) {
    (void)state;
    one_request causal, full;
    make(&causal, 1, 13, 4, 1, 6);
    make(&full, 1, 13, 4, 1, 6);
    full.mask.causal = 0;
    run(&causal);
    run(&full);
    assert_same_results(&causal, &full, 1);
}

static void a_window_as_long_as_the_context_is_none(void **state) {
    (void)state;
    for (int32_t causal = 0; causal <= 1; causal++) {
        one_request plain, window;
        make(&plain, 6, 14, 2, 1, 7);
        make(&window, 6, 14, 2, 1, 7);
        plain.mask.causal = window.mask.causal = causal;
        window.mask.window_tokens = 14;
        run(&plain);
        run(&window);
        assert_same_results(&plain, &window, 6);
    }
}

static void a_window_of_one_is_the_own_value(void **state) {
    (void)state;
    one_request one;
    make(&one, 4, 10, 1, 1, 8);
    one.mask.window_tokens = 1;
    run(&one);
    for (int32_t t = 0; t < 4; t++) {
        for (int32_t i = 0; i < DIM; i++) assert_near(one.out[t * DIM + i], (double)one.v[(6 + t) * DIM + i]);
    }
}

static void pages_in_any_order_are_the_same_cache(void **state) {
    (void)state;
    enum { PAGE = 4, PAGES = 6, PAGE_ELEMENTS = PAGE * 2 * DIM };
    static const int32_t order[PAGES] = {3, 0, 5, 1, 4, 2};
    one_request plain, paged;
    make(&plain, 4, 22, 4, 2, 9);
    make(&paged, 4, 22, 4, 2, 9);
    for (int32_t p = 0; p < PAGES; p++) {
        memcpy(paged.k + order[p] * PAGE_ELEMENTS, plain.k + p * PAGE_ELEMENTS, PAGE_ELEMENTS * sizeof(float));
        memcpy(paged.v + order[p] * PAGE_ELEMENTS, plain.v + p * PAGE_ELEMENTS, PAGE_ELEMENTS * sizeof(float));
        paged.page_table[p] = order[p];
    }
    paged.limits.page_size = PAGE;
    paged.batch.page_table = paged.page_table;
    paged.batch.page_table_stride = paged.batch.max_pages = paged.batch.num_pages = PAGES;
    run(&plain);
    run(&paged);
    assert_same_results(&plain, &paged, 4);
}

static void a_sink_is_a_key_without_a_value(void **state) {
    (void)state;
    one_request sink, key;
    make(&sink, 1, 6, 2, 2, 10);
    make(&key, 1, 7, 2, 2, 10);
    sink.tensors.sinks = sink.sinks;
    for (int32_t h = 0; h < 2; h++) {
        double score = 0;
        for (int32_t i = 0; i < DIM; i++) {
            score += (double)key.q[h * DIM + i] * (double)key.k[(6 * 2 + h) * DIM + i];
            key.v[(6 * 2 + h) * DIM + i] = 0;
        }
        sink.sinks[h] = (float)(score / sqrt(DIM));
    }
    run(&sink);
    run(&key);
    assert_same_results(&sink, &key, 1);
}

static void rows_that_see_nothing_are_zero(void **state) {
    (void)state;
    one_request one;
    make(&one, 2, 0, 2, 1, 11);
    one.mask.causal = 0;
    run(&one);
    for (int32_t i = 0; i < 2 * 2 * DIM; i++) assert_true(one.out[i] == 0);
    for (int32_t i = 0; i < 2 * 2; i++) assert_true(one.lse[i] == -INFINITY);
    one.tensors.sinks = one.sinks; /* then the sink is all there is */
    one.sinks[0] = 1.5f;
    run(&one);
    assert_near(one.lse[0], 1.5);
    assert_true(one.out[0] == 0);
}

static void alibi_is_a_slope_per_distance(void **state) {
    (void)state;
    one_request one;
    make(&one, 1, 3, 1, 1, 12);
    memset(one.q, 0, sizeof one.q);
    one.slopes[0] = -2;
    one.tensors.alibi_slopes = one.slopes;
    run(&one); /* scores 4, 2 and 0 */
    assert_near(one.lse[0], log(exp(4) + exp(2) + 1));
}

/** What a tree hides might as well not be there: its tokens see their ancestors alone. */
static void a_tree_hides_other_branches(void **state) {
    (void)state;
    static const uint64_t words[4] = {1, 3, 5, 7}; /* 0 <- 1 and 0 <- 2; the last one sees 0, 1 and 2, not itself */
    one_request tree, other;
    make(&tree, 4, 12, 2, 1, 31);
    make(&other, 4, 12, 2, 1, 31);
    tree.tensors.tree_mask = words;
    run(&tree);
    run(&other);
    assert_same_tokens(&tree, &other, 0, 2); /* the root and its first child are a chain */
    for (int32_t i = 0; i < DIM; i++) {
        other.k[9 * DIM + i] = 3;
        other.v[9 * DIM + i] = NAN;
        other.k[11 * DIM + i] = INFINITY;
    }
    other.tensors.tree_mask = words;
    run(&other); /* token 1's key and value, and token 3's key, have changed */
    assert_same_tokens(&tree, &other, 2, 3);
    assert_true(other.lse[1 * 2] != tree.lse[1 * 2]);
    assert_true(isnan(other.out[3 * 2 * DIM]) && other.lse[3 * 2] != tree.lse[3 * 2]);
}

/** 64 tokens have a tree, 65 do not. */
static void a_longer_request_has_no_tree(void **state) {
    (void)state;
    static const uint64_t nothing[POD_MAX_TREE_TOKENS + 1];
    one_request one;
    make(&one, POD_MAX_TREE_TOKENS, POD_MAX_TREE_TOKENS, 1, 1, 32);
    one.tensors.tree_mask = nothing;
    run(&one);
    for (int32_t i = 0; i < POD_MAX_TREE_TOKENS; i++) assert_true(one.lse[i] == -INFINITY && one.out[i * DIM] == 0);
    make(&one, POD_MAX_TREE_TOKENS + 1, POD_MAX_TREE_TOKENS + 1, 1, 1, 32);
    one.tensors.tree_mask = nothing;
    run(&one);
    for (int32_t i = 0; i < POD_MAX_TREE_TOKENS + 1; i++) assert_true(isfinite(one.lse[i]));
}

/** One key to the right is causal; more show as many keys more. */
static void windows_to_the_right(void **state) {
    (void)state;
    one_request one, causal;
    make(&causal, 3, 9, 2, 1, 33);
    run(&causal);
    make(&one, 3, 9, 2, 1, 33);
    one.mask.causal = 0;
    one.mask.right_window_tokens = 1;
    run(&one);
    assert_same_results(&one, &causal, 3);
    one.mask.window_tokens = 2;
    one.mask.right_window_tokens = 2;
    memset(one.k, 0, sizeof one.k);
    run(&one); /* equal scores: keys 5 to 7, 6 to 8, and 7 and 8 */
    for (int32_t i = 0; i < 3; i++) assert_near(one.lse[i * 2], log(i < 2 ? 3 : 2));
}

static void scales_multiply_keys_and_values(void **state) {
    (void)state;
    one_request scaled, multiplied;
    make(&scaled, 2, 8, 2, 2, 13);
    make(&multiplied, 2, 8, 2, 2, 13);
    scaled.k_scale[0] = 0.5f, scaled.k_scale[1] = 2;
    scaled.v_scale[0] = 4, scaled.v_scale[1] = 0.25f;
    scaled.cache.k_scale = scaled.k_scale;
    scaled.cache.v_scale = scaled.v_scale;
    for (int32_t i = 0; i < 8 * 2 * DIM; i++) {
        multiplied.k[i] *= scaled.k_scale[i / DIM % 2];
        multiplied.v[i] *= scaled.v_scale[i / DIM % 2];
    }
    run(&scaled);
    run(&multiplied);
    assert_same_results(&scaled, &multiplied, 2);
}

static void softcap_bounds_the_scores(void **state) {
    (void)state;
    one_request one;
    make(&one, 1, 2, 1, 1, 14);
    memset(one.k, 0, sizeof one.k);
    for (int32_t i = 0; i < DIM; i++) one.k[i] = 1e6f * one.q[i];
    one.tensors.softcap = 3;
    run(&one); /* scores 3 and 0 */
    assert_near(one.lse[0], log(exp(3) + 1));
}

/** Token 1 of 2 sees keys 0 to 4, token 0 all but the last. */
static void a_score_that_is_no_number_makes_its_rows_nan(void **state) {
    (void)state;
    one_request one;
    make(&one, 2, 5, 1, 1, 16);
    one.k[4 * DIM] = NAN;
    run(&one);
    assert_true(isfinite(one.lse[0]) && isnan(one.lse[1]));
    for (int32_t i = 0; i < DIM; i++) assert_true(isfinite(one.out[i]) && isnan(one.out[DIM + i]));
    one.k[4 * DIM] = one.q[DIM] > 0 ? INFINITY : -INFINITY; /* a score of inf */
    run(&one);
    assert_true(isfinite(one.lse[0]) && isnan(one.lse[1]));
}

static void a_score_of_minus_infinity_weighs_nothing(void **state) {
    (void)state;
    one_request with, without;
    make(&with, 1, 5, 1, 1, 17);
    make(&without, 1, 4, 1, 1, 17);
    with.k[4 * DIM] = with.q[0] > 0 ? -INFINITY : INFINITY;
    run(&with);
    run(&without);
    assert_same_results(&with, &without, 1);
    for (int32_t key = 0; key < 4; key++) with.k[key * DIM] = with.k[4 * DIM];
    run(&with);
    assert_true(with.lse[0] == -INFINITY && with.out[0] == 0);
}

static void an_infinite_sink_takes_all(void **state) {
    (void)state;
    one_request one;
    make(&one, 1, 5, 2, 1, 18);
    one.sinks[0] = INFINITY;
    one.sinks[1] = NAN;
    one.tensors.sinks = one.sinks;
    run(&one);
    assert_true(one.lse[0] == INFINITY && one.out[0] == 0);
    assert_true(isnan(one.lse[1]) && isnan(one.out[DIM]));
}

static void one_request_of_many(void **state) {
    (void)state;
    one_request one;
    make(&one, 2, 5, 1, 1, 15);
    int32_t q_start[] = {0, 2, 4}, kv_len[] = {5, 5}, table[] = {0, 0};
    one.limits.max_requests = 2;
    one.batch.num_requests = 2;
    one.batch.q_start = q_start;
    one.batch.kv_len = kv_len;
    one.batch.page_table = table;
    one.batch.page_table_stride = one.batch.max_pages = 1;
    run(&one);
    double out[4 * DIM];
    memcpy(out, one.out, sizeof out);
    memset(one.out, 0, sizeof one.out);
    assert_ok(pod_reference_attention(&one.limits, &one.batch, &one.tensors, &one.cache, 1, one.out, NULL));
    for (int32_t i = 0; i < 2 * DIM; i++) assert_true(one.out[i] == 0);
    assert_memory_equal(one.out + 2 * DIM, out + 2 * DIM, 2 * DIM * sizeof(double));
}

/** q_tokens bounds the queries that are read; out_tokens is of the tensor that the oracle does not write. */
static void queries_that_are_not_there_are_refused(void **state) {
    (void)state;
    one_request one;
    make(&one, 3, 9, 2, 1, 2);
    one.tensors.q_tokens = 2;
    assert_fails(pod_reference_attention(&one.limits, &one.batch, &one.tensors, &one.cache, -1, one.out, one.lse),
                 POD_E_ARGUMENT, "q_tokens = 2 is smaller than the 3 query tokens of the batch");
    one.tensors.q_tokens = 3;
    one.tensors.out_tokens = 1;
    run(&one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_keys_by_hand),
        cmocka_unit_test(queries_that_are_not_there_are_refused),
        cmocka_unit_test(scale_zero_is_one_over_the_root_of_the_head_dim),
        cmocka_unit_test(one_key_is_its_value),
        cmocka_unit_test(ones_stay_ones),
        cmocka_unit_test(causal_tokens_see_their_past_only),
        cmocka_unit_test(the_last_token_sees_all),
        cmocka_unit_test(a_window_as_long_as_the_context_is_none),
        cmocka_unit_test(a_window_of_one_is_the_own_value),
        cmocka_unit_test(pages_in_any_order_are_the_same_cache),
        cmocka_unit_test(a_sink_is_a_key_without_a_value),
        cmocka_unit_test(rows_that_see_nothing_are_zero),
        cmocka_unit_test(alibi_is_a_slope_per_distance),
        cmocka_unit_test(a_tree_hides_other_branches),
        cmocka_unit_test(a_longer_request_has_no_tree),
        cmocka_unit_test(windows_to_the_right),
        cmocka_unit_test(scales_multiply_keys_and_values),
        cmocka_unit_test(softcap_bounds_the_scores),
        cmocka_unit_test(a_score_that_is_no_number_makes_its_rows_nan),
        cmocka_unit_test(a_score_of_minus_infinity_weighs_nothing),
        cmocka_unit_test(an_infinite_sink_takes_all),
        cmocka_unit_test(one_request_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
