/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend where random batches seldom go: scores far apart, sinks of any size, many layers. */
#include "call_fixture.h"

#include <math.h>

enum { KEYS = 9 };

/** q = 1 and k = score / head_dim in every element, so that each score is known; scale is 1. */
static void set_scores(call_fixture *call, const float *scores, int32_t num_scores) {
    for (int i = 0; i < CALL_Q_ELEMENTS; i++) call->q[i] = 1;
    call->tensors.scale = 1;
    for (int32_t key = 0; key < KEYS; key++) {
        int32_t page = call->page_table[2 * 4 + key / CALL_PAGE_SIZE], slot = key % CALL_PAGE_SIZE;
        float *row = call->k + (page * CALL_PAGE_SIZE + slot) * CALL_KV_HEADS * CALL_HEAD_DIM;
        float score = scores[key < num_scores ? key : num_scores - 1];
        for (int i = 0; i < CALL_KV_HEADS * CALL_HEAD_DIM; i++) row[i] = score / CALL_HEAD_DIM;
    }
}

static const float *value_of(const call_fixture *call, int32_t key) {
    int32_t page = call->page_table[2 * 4 + key / CALL_PAGE_SIZE], slot = key % CALL_PAGE_SIZE;
    return call->v + (page * CALL_PAGE_SIZE + slot) * CALL_KV_HEADS * CALL_HEAD_DIM;
}

/** The last token of request 2, head 0. */
static const float *last_out(const call_fixture *call) {
    return call->out + (CALL_Q_TOKENS - 1) * CALL_Q_HEADS * CALL_HEAD_DIM;
}

static float last_lse(const call_fixture *call) {
    return call->lse[(CALL_Q_TOKENS - 1) * CALL_Q_HEADS];
}

static void run(call_fixture *call) {
    assert_ok(call_build(call));
    assert_ok(call_attention(call));
}

static void the_highest_of_distant_scores_wins(void **state) {
    (void)state;
    static const float scores[][KEYS] = {
        {0, 500, -500, 5000, 100, 0, 0, 0, 0},
        {-9e4f, -8e4f, -9e4f, -1e4f, -9e4f, -9e4f, -9e4f, -9e4f, -9e4f},
        {-1e30f, -1e30f, -1e30f, 1e30f, -1e30f, -1e30f, -1e30f, -1e30f, -1e30f},
    };
    for (int i = 0; i < 3; i++) {
        call_fixture call;
        call_open(&call, "cpu:1");
        set_scores(&call, scores[i], KEYS);
        run(&call);
        assert_memory_equal(last_out(&call), value_of(&call, 3), CALL_HEAD_DIM * sizeof(float));
        assert_true(fabsf(last_lse(&call) - scores[i][3]) <= 1e-6f * fabsf(scores[i][3]));
        call_close(&call);
    }
}

static void equal_scores_of_any_size_give_the_mean(void **state) {
    (void)state;
    static const float scores[] = {0, -1e4f, 1e4f, -1e30f, 1e30f};
    for (int i = 0; i < 5; i++) {
        call_fixture call;
        call_open(&call, "cpu:1");
        set_scores(&call, &scores[i], 1);
        run(&call);
        for (int d = 0; d < CALL_HEAD_DIM; d++) {
            float mean = 0;
            for (int32_t key = 0; key < KEYS; key++) mean += value_of(&call, key)[d] / KEYS;
            assert_true(fabsf(last_out(&call)[d] - mean) < 1e-5f);
        }
        call_close(&call);
    }
}

static void a_sink_far_above_takes_all_and_far_below_nothing(void **state) {
    (void)state;
    float sinks[CALL_Q_HEADS] = {1e4f, -1e4f, 1e4f, -INFINITY}, score[] = {0};
    call_fixture with, without;
    call_open(&with, "cpu:1");
    call_open(&without, "cpu:1");
    set_scores(&with, score, 1);
    set_scores(&without, score, 1);
    with.tensors.sinks = sinks;
    run(&with);
    run(&without);
    for (int i = 0; i < CALL_HEAD_DIM; i++) assert_true(last_out(&with)[i] == 0);
    assert_true(last_lse(&with) == 1e4f);
    assert_memory_equal(last_out(&with) + CALL_HEAD_DIM, last_out(&without) + CALL_HEAD_DIM,
                        CALL_HEAD_DIM * sizeof(float));
    assert_memory_equal(last_out(&with) + 3 * CALL_HEAD_DIM, last_out(&without) + 3 * CALL_HEAD_DIM,
                        CALL_HEAD_DIM * sizeof(float));
    call_close(&with);
    call_close(&without);
}

static void layers_share_a_plan(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:2");
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    float first[CALL_Q_ELEMENTS];
    memcpy(first, call.out, sizeof first);
    for (int layer = 0; layer < 5; layer++) { /* another layer's values in between */
        for (int i = 0; i < CALL_KV_ELEMENTS; i++) call.v[i] = -call.v[i];
        memset(call.out, CALL_POISON, sizeof call.out);
        assert_ok(call_attention(&call));
    }
    for (int i = 0; i < CALL_Q_ELEMENTS; i++) assert_true(call.out[i] == -first[i]);
    call_close(&call);
}

static void inputs_are_left_alone(void **state) {
    (void)state;
    call_fixture call, before;
    call_open(&call, "cpu:2");
    before = call;
    run(&call);
    assert_memory_equal(call.q, before.q, sizeof call.q);
    assert_memory_equal(call.k, before.k, sizeof call.k);
    assert_memory_equal(call.v, before.v, sizeof call.v);
    assert_memory_equal(call.q_start, before.q_start, sizeof call.q_start);
    assert_memory_equal(call.kv_len, before.kv_len, sizeof call.kv_len);
    assert_memory_equal(call.page_table, before.page_table, sizeof call.page_table);
    assert_memory_equal(&call.tensors, &before.tensors, sizeof call.tensors);
    assert_memory_equal(&call.out[CALL_Q_ELEMENTS], &before.out[CALL_Q_ELEMENTS], sizeof(float));
    call_close(&call);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_of_distant_scores_wins),
        cmocka_unit_test(equal_scores_of_any_size_give_the_mean),
        cmocka_unit_test(a_sink_far_above_takes_all_and_far_below_nothing),
        cmocka_unit_test(layers_share_a_plan),
        cmocka_unit_test(inputs_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
