/* SPDX-License-Identifier: Apache-2.0 */
/* What pod_cache_append() does to a few numbers that can be followed by hand, and everything that it refuses, by name
 * and value, with nothing written. */
#include "call_fixture.h"

#include <math.h>
#include <stdio.h>

enum { KV_ROW = CALL_KV_HEADS * CALL_HEAD_DIM, Q_ROW = CALL_Q_HEADS * CALL_HEAD_DIM };

typedef struct append_fixture {
    call_fixture call;
    pod_append append;
    pod_rope rope;
    pod_cache cache;
    float k[CALL_Q_TOKENS * KV_ROW], v[CALL_Q_TOKENS * KV_ROW], q_out[CALL_Q_TOKENS * Q_ROW + 1];
    float cos[16 * CALL_HEAD_DIM / 2], sin[16 * CALL_HEAD_DIM / 2], scale;
    int64_t slots[CALL_Q_TOKENS], positions[CALL_Q_TOKENS];
    int32_t pads[3];
} append_fixture;

/** Requests of 3, 0 and 2 tokens at positions 4 to 6 and 7 to 8. */
static void open_fixture(append_fixture *f, const char *device) {
    memset(f, 0, sizeof *f);
    call_open(&f->call, device);
    for (int32_t i = 0; i < CALL_Q_TOKENS * KV_ROW; i++) f->k[i] = (float)(i + 1), f->v[i] = -(float)(i + 1);
    memset(f->call.k, CALL_POISON, sizeof f->call.k);
    memset(f->call.v, CALL_POISON, sizeof f->call.v);
    memset(f->q_out, CALL_POISON, sizeof f->q_out);
    for (int32_t t = 0; t < CALL_Q_TOKENS; t++) f->slots[t] = 20 - 3 * t, f->positions[t] = t;
    f->scale = 2;
    f->cache = f->call.cache;
    f->append = pod_append_init();
    f->append.dtype = POD_F32;
    f->append.k = f->k;
    f->append.v = f->v;
    f->rope = pod_rope_init();
    assert_ok(call_build(&f->call));
}

static void close_fixture(append_fixture *f) {
    call_close(&f->call);
}

static pod_status append(append_fixture *f) {
    return pod_cache_append(f->call.plan, &f->append, &f->cache, NULL);
}

static int is_poison(const void *memory, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (((const unsigned char *)memory)[i] != CALL_POISON) return 0;
    }
    return 1;
}

static int is_untouched(const append_fixture *f) {
    return is_poison(f->call.k, sizeof f->call.k) && is_poison(f->call.v, sizeof f->call.v) &&
           is_poison(f->q_out, sizeof f->q_out);
}

/** Row of a slot. */
static const float *k_row(const append_fixture *f, int64_t slot) {
    return f->call.k + slot * KV_ROW;
}
static const float *v_row(const append_fixture *f, int64_t slot) {
    return f->call.v + slot * KV_ROW;
}

/* ---- where tokens go ---- */

static void the_batch_says_where(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    assert_ok(append(&f));
    /* request 0: positions 4 to 6 are slots 0 to 2 of its second page, 0; request 2: position 7 is slot 3 of its second
     * page, 1, and position 8 slot 0 of its third page, 3 */
    static const int64_t slots[CALL_Q_TOKENS] = {0, 1, 2, 7, 12};
    for (int32_t t = 0; t < CALL_Q_TOKENS; t++) {
        assert_memory_equal(k_row(&f, slots[t]), f.k + t * KV_ROW, KV_ROW * sizeof(float));
        assert_memory_equal(v_row(&f, slots[t]), f.v + t * KV_ROW, KV_ROW * sizeof(float));
    }
    int32_t written = 0;
    for (int32_t s = 0; s < CALL_NUM_PAGES * CALL_PAGE_SIZE; s++) {
        written += !is_poison(k_row(&f, s), KV_ROW * sizeof(float)) + !is_poison(v_row(&f, s), KV_ROW * sizeof(float));
    }
    assert_int_equal(written, 2 * CALL_Q_TOKENS);
    close_fixture(&f);
}

static void slots_say_where_without_a_build(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    pod_plan *plan;
    assert_ok(pod_plan_create(f.call.device, &f.call.limits, &plan));
    f.slots[1] = -1;
    f.append.slot_mapping = f.slots;
    f.append.num_tokens = CALL_Q_TOKENS;
    assert_fails(pod_cache_append(plan, &f.append, &f.cache, NULL), POD_E_ARGUMENT,
                 "append.num_pages = 0 without a planned batch");
    f.append.num_pages = CALL_NUM_PAGES;
    assert_ok(pod_cache_append(plan, &f.append, &f.cache, NULL));
    for (int32_t t = 0; t < CALL_Q_TOKENS; t++) {
        int64_t slot = 20 - 3 * t;
        if (t == 1)
            assert_true(is_poison(k_row(&f, slot), KV_ROW * sizeof(float)));
        else
            assert_memory_equal(k_row(&f, slot), f.k + t * KV_ROW, KV_ROW * sizeof(float));
    }
    f.append.slot_mapping = NULL;
    assert_fails(pod_cache_append(plan, &f.append, &f.cache, NULL), POD_E_STATE,
                 "pod_plan_build() has not succeeded on this plan yet");
    pod_plan_destroy(plan);
    close_fixture(&f);
}

/* ---- what happens to them ---- */

static void assert_near(float value, double expected) {
    if (fabs((double)value - expected) > 1e-5 * (1 + fabs(expected))) fail_msg("%g, not %g", (double)value, expected);
}

/** One head of 8 elements at position 3, frequencies 1, 0.1, 0.01, 0.001. */
static void both_styles_rotate(void **state) {
    (void)state;
    static const double frequency[] = {1, 0.1, 0.01, 0.001};
    for (int32_t style = 0; style < 2; style++) {
        append_fixture f;
        open_fixture(&f, "cpu:1");
        f.rope.style = (pod_rope_style)style;
        f.append.rope = &f.rope;
        f.append.slot_mapping = f.slots;
        f.append.positions = f.positions;
        f.append.num_tokens = CALL_Q_TOKENS;
        assert_ok(append(&f));
        const float *row = k_row(&f, f.slots[3]), *given = f.k + 3 * KV_ROW;
        for (int32_t j = 0; j < 4; j++) {
            int32_t x = style == POD_ROPE_PAIRS ? 2 * j : j, y = style == POD_ROPE_PAIRS ? 2 * j + 1 : j + 4;
            double c = cos(3 * frequency[j]), s = sin(3 * frequency[j]);
            assert_near(row[x], (double)given[x] * c - (double)given[y] * s);
            assert_near(row[y], (double)given[y] * c + (double)given[x] * s);
        }
        assert_memory_equal(v_row(&f, f.slots[3]), f.v + 3 * KV_ROW, KV_ROW * sizeof(float));
        close_fixture(&f);
    }
}

static void only_the_first_elements_rotate(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    f.rope.rotary_dim = 2;
    f.append.rope = &f.rope;
    assert_ok(append(&f));
    const float *row = k_row(&f, 0); /* position 4 */
    assert_near(row[0], (double)f.k[0] * cos(4) - (double)f.k[1] * sin(4));
    assert_near(row[1], (double)f.k[1] * cos(4) + (double)f.k[0] * sin(4));
    assert_memory_equal(row + 2, f.k + 2, 6 * sizeof(float));
    close_fixture(&f);
}

static void a_pad_shifts_positions_and_no_places(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    f.rope.rotary_dim = 2;
    f.append.rope = &f.rope;
    f.pads[0] = 5;
    f.append.left_pad = f.pads;
    assert_ok(append(&f));
    assert_memory_equal(k_row(&f, 0), f.k, 2 * sizeof(float));          /* before the pad's end: 0 */
    assert_memory_equal(k_row(&f, 1), f.k + KV_ROW, 2 * sizeof(float)); /* position 5 is 0 */
    const float *given = f.k + 2 * KV_ROW;
    assert_near(k_row(&f, 2)[0], (double)given[0] * cos(1) - (double)given[1] * sin(1));
    close_fixture(&f);
}

static void queries_rotate_in_place_and_elsewhere(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    f.rope.rotary_dim = 2;
    f.append.rope = &f.rope;
    f.append.k = f.append.v = NULL;
    f.append.q = f.call.q;
    f.append.q_out = f.q_out;
    assert_ok(pod_cache_append(f.call.plan, &f.append, NULL, NULL)); /* no cache is needed */
    assert_near(f.q_out[0], (double)f.call.q[0] * cos(4) - (double)f.call.q[1] * sin(4));
    assert_true(is_poison(f.call.k, sizeof f.call.k) && is_poison(&f.q_out[CALL_Q_TOKENS * Q_ROW], sizeof(float)));
    f.append.q_out = f.call.q;
    assert_ok(pod_cache_append(f.call.plan, &f.append, NULL, NULL));
    assert_memory_equal(f.call.q, f.q_out, CALL_Q_TOKENS * Q_ROW * sizeof(float));
    close_fixture(&f);
}

static void what_is_stored_is_divided_by_the_scale(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    f.cache.k_scale = &f.scale;
    assert_ok(append(&f));
    assert_true(k_row(&f, 0)[0] == 0.5f && v_row(&f, 0)[0] == -1);
    close_fixture(&f);
}

static void attention_reads_what_was_appended(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    memset(f.call.k, 0, sizeof f.call.k);
    memset(f.call.v, 0, sizeof f.call.v);
    for (int32_t i = 0; i < CALL_Q_TOKENS * KV_ROW; i++) f.v[i] = 7;
    assert_ok(append(&f));
    assert_ok(call_attention(&f.call)); /* keys of 0 and of i + 1: the new ones take more than their share of 7 */
    double out[CALL_Q_ELEMENTS];
    assert_ok(pod_reference_attention(&f.call.limits, &f.call.batch, &f.call.tensors, &f.cache, -1, out, NULL));
    for (int32_t i = 0; i < CALL_Q_ELEMENTS; i++) assert_near(f.call.out[i], out[i]);
    close_fixture(&f);
}

/* ---- refusals ---- */

#define REFUSES(change, status, message)                                                                               \
    do {                                                                                                               \
        append_fixture f;                                                                                              \
        open_fixture(&f, "cpu:1");                                                                                     \
        change;                                                                                                        \
        assert_fails(append(&f), status, message);                                                                     \
        assert_true(is_untouched(&f));                                                                                 \
        close_fixture(&f);                                                                                             \
    } while (0)

static void wrong_arguments(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    assert_fails(pod_cache_append(NULL, &f.append, &f.cache, NULL), POD_E_ARGUMENT, "plan is NULL");
    assert_fails(pod_cache_append(f.call.plan, NULL, &f.cache, NULL), POD_E_ARGUMENT, "append is NULL");
    assert_fails(pod_cache_append(f.call.plan, &f.append, NULL, NULL), POD_E_ARGUMENT, "cache is NULL");
    close_fixture(&f);
    REFUSES(f.append.k = NULL, POD_E_ARGUMENT, "append.k is NULL");
    REFUSES(f.append.v = NULL, POD_E_ARGUMENT, "append.v is NULL, but the cache has a v");
    REFUSES(f.append.k = (char *)f.k + 2, POD_E_ARGUMENT, "append.k is not aligned to its element of 4 bytes");
    REFUSES(f.append.dtype = (pod_dtype)9, POD_E_ARGUMENT, "append.dtype = 9 is no dtype");
    REFUSES(f.append.dtype = POD_F8E4M3, POD_E_UNSUPPORTED,
            "append.dtype f8e4m3 is not supported; f32, f16 and bf16 are");
    REFUSES(f.append.num_tokens = -1, POD_E_ARGUMENT, "append.num_tokens = -1 is outside [0, 1073741824]");
    REFUSES(f.append.num_tokens = 4, POD_E_ARGUMENT,
            "append.num_tokens = 4 is smaller than the 5 query tokens of the batch");
    REFUSES(f.append.num_pages = -1, POD_E_ARGUMENT, "append.num_pages = -1 is negative");
    REFUSES(f.append.num_pages = 5, POD_E_ARGUMENT, "append.num_pages = 5 is not the planned batch's, 6");
    REFUSES(f.append.k_token_stride = -8, POD_E_ARGUMENT, "append.k_token_stride = -8 is negative");
    REFUSES(f.append.v_head_stride = INT64_C(1) << 60, POD_E_ARGUMENT,
            "append.v_head_stride = 1152921504606846976 reaches past the 144115188075855872 bytes that addresses "
            "count");
    REFUSES(f.append.q_out = f.q_out, POD_E_ARGUMENT, "append.q is NULL, but append.q_out is not");
    REFUSES(f.append.q = f.call.q, POD_E_ARGUMENT, "append.q_out is NULL");
    REFUSES((f.append.k = f.append.v = NULL, f.append.q = f.call.q, f.append.slot_mapping = f.slots), POD_E_ARGUMENT,
            "append.slot_mapping places nothing: append.k is NULL");
    REFUSES(f.append.position_bytes = 2, POD_E_ARGUMENT, "append.position_bytes = 2 is neither 4 nor 8");
    REFUSES(f.append.left_pad = f.pads, POD_E_ARGUMENT, "append.left_pad shifts nothing without append.rope");
    REFUSES((f.append.left_pad = f.pads, f.append.rope = &f.rope, f.append.positions = f.positions), POD_E_ARGUMENT,
            "append.left_pad shifts nothing beside append.positions");
}

/** A rope with one field changed. */
#define REFUSES_ROPE(change, message)                                                                                  \
    REFUSES((f.append.rope = &f.rope, f.rope.scaling = POD_ROPE_YARN, f.rope.factor = 4,                               \
             f.rope.original_context = 4096, change),                                                                  \
            POD_E_ARGUMENT, message)

static void wrong_ropes(void **state) {
    (void)state;
    REFUSES_ROPE(f.rope.style = (pod_rope_style)2, "rope.style = 2 is outside [0, 1]");
    REFUSES_ROPE(f.rope.rotary_dim = 3, "rope.rotary_dim = 3 is not even");
    REFUSES_ROPE(f.rope.rotary_dim = 10, "rope.rotary_dim = 10 is outside [2, 8]");
    REFUSES_ROPE(f.rope.base = 0.5, "rope.base = 0.5 is outside [1, 1e+30]");
    REFUSES_ROPE(f.rope.base = (double)NAN, "rope.base = nan is outside [1, 1e+30]");
    REFUSES_ROPE(f.rope.base = 1, "rope.base = 1 is not larger than 1, as yarn needs");
    REFUSES_ROPE(f.rope.scaling = (pod_rope_scaling)4, "rope.scaling = 4 is outside [0, 3]");
    REFUSES_ROPE(f.rope.factor = 0, "rope.factor = 0 is outside [1e-09, 1e+09]");
    REFUSES_ROPE(f.rope.original_context = 0, "rope.original_context = 0 is outside [1, 2147483647]");
    REFUSES_ROPE(f.rope.beta_slow = 40, "rope.beta_fast = 32 is smaller than rope.beta_slow = 40");
    REFUSES_ROPE(f.rope.attention_factor = -1, "rope.attention_factor = -1 is outside [1e-09, 1e+09]");
    REFUSES_ROPE(f.rope.yarn_is_exact = 2, "rope.yarn_is_exact = 2 is outside [0, 1]");
    REFUSES_ROPE((f.rope.scaling = POD_ROPE_LLAMA3, f.rope.low_freq_factor = 4),
                 "rope.high_freq_factor = 4 is not larger than rope.low_freq_factor = 4");
    REFUSES_ROPE(f.rope.cos = f.cos, "rope.sin is NULL");
    REFUSES_ROPE(f.rope.sin = f.sin, "rope.cos is NULL");
    REFUSES_ROPE((f.rope.cos = f.cos, f.rope.sin = f.sin), "rope.table_positions = 0 is outside [1, 2147483647]");
    REFUSES_ROPE((f.rope.cos = f.cos, f.rope.sin = f.sin, f.rope.table_positions = 16),
                 "rope.scaling = 3 beside tables");
    REFUSES_ROPE((f.rope.cos = f.cos, f.rope.sin = f.sin, f.rope.table_positions = 16, f.rope.base = 1e4),
                 "rope.base = 10000 beside tables");
}

static void wrong_tokens(void **state) {
    (void)state;
#define WITH_SLOTS f.append.slot_mapping = f.slots, f.append.num_tokens = CALL_Q_TOKENS
#define WITH_TABLES f.append.rope = &f.rope, f.rope.cos = f.cos, f.rope.sin = f.sin, f.rope.table_positions = 8
    REFUSES((WITH_SLOTS, f.slots[2] = 24), POD_E_ARGUMENT,
            "append.slot_mapping[2] = 24 is outside the 6 pages of 4 tokens");
    REFUSES((WITH_SLOTS, f.slots[4] = INT64_MAX), POD_E_ARGUMENT,
            "append.slot_mapping[4] = 9223372036854775807 is outside the 6 pages of 4 tokens");
    REFUSES((WITH_SLOTS, f.append.rope = &f.rope, f.append.positions = f.positions, f.positions[1] = -2),
            POD_E_ARGUMENT, "append.positions[1] = -2 is outside [0, 2147483648)");
    REFUSES((WITH_TABLES), POD_E_ARGUMENT,
            "rope.table_positions = 8 is too few for token 4, at position 8 of request 2");
    REFUSES((f.append.rope = &f.rope, f.append.left_pad = f.pads, f.pads[2] = -1), POD_E_ARGUMENT,
            "append.left_pad[2] = -1 is negative");
    REFUSES(f.call.page_table[1] = 6, POD_E_ARGUMENT, "page_table[0][1] = 6 is outside [0, 6)");
}

static void a_request_whose_queries_are_more_than_its_keys(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    f.call.mask.causal = 0;
    f.call.kv_len[2] = 1;
    assert_ok(call_build(&f.call));
    assert_fails(append(&f), POD_E_ARGUMENT, "kv_len[2] = 1 is smaller than q_len[2] = 2: its tokens have no place");
    assert_true(is_untouched(&f));
    close_fixture(&f);
}

static void overlaps(void **state) {
    (void)state;
    REFUSES(f.append.k = f.call.k, POD_E_ARGUMENT, "k overlaps append.k");
    REFUSES(f.append.v = f.call.k + 8, POD_E_ARGUMENT, "k overlaps append.v");
    REFUSES(f.cache.v = f.call.k, POD_E_ARGUMENT, "v overlaps k");
    REFUSES((f.append.q = f.call.q, f.append.q_out = f.k), POD_E_ARGUMENT, "append.q_out overlaps append.k");
    REFUSES((f.append.q = f.q_out, f.append.q_out = f.q_out + 1), POD_E_ARGUMENT, "append.q_out overlaps append.q");
    REFUSES(
        (f.append.q = f.call.q, f.append.q_out = f.q_out, f.append.q_out_token_stride = 1), POD_E_ARGUMENT,
        "append.q_out overlaps itself: append.q_out_token_stride = 1 and append.q_out_head_stride = 8 with 5 tokens "
        "and 4 heads");
    REFUSES((f.cache.v_scale = &f.scale, f.scale = -1), POD_E_ARGUMENT,
            "v_scale of KV head 0 = -1 is not a finite number above 0");
    REFUSES((f.cache.k_scale = f.call.k), POD_E_ARGUMENT, "k overlaps k_scale");
    REFUSES((WITH_SLOTS, f.append.slot_mapping = (int64_t *)(((uintptr_t)f.call.v + 7) / 8 * 8)), POD_E_ARGUMENT,
            "v overlaps append.slot_mapping");
}

static void an_overwritten_workspace(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    memset(f.call.workspace.plan.data, 0, f.call.workspace.plan.bytes);
    assert_fails(append(&f), POD_E_WORKSPACE,
                 "workspace.plan was overwritten, or is another plan's, since this plan was built");
    assert_true(is_untouched(&f));
    close_fixture(&f);
}

static void a_simulated_device_computes_nothing(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "sim:cpu");
    assert_fails(append(&f), POD_E_UNSUPPORTED,
                 "pod_cache_append() is not supported: this device plans only; it computes nothing");
    assert_true(is_untouched(&f));
    close_fixture(&f);
}

static void the_oracle_checks_its_arguments(void **state) {
    (void)state;
    append_fixture f;
    open_fixture(&f, "cpu:1");
    static double k[CALL_Q_TOKENS * KV_ROW], v[CALL_Q_TOKENS * KV_ROW], q[CALL_Q_TOKENS * Q_ROW];
    int64_t slots[CALL_Q_TOKENS];
    const pod_limits *l = &f.call.limits;
    const pod_batch *b = &f.call.batch;
    assert_ok(pod_reference_append(l, b, &f.append, &f.cache, slots, k, v, NULL));
    assert_int_equal(slots[4], 12);
    assert_true(k[0] == 1 && v[0] == -1);
    assert_fails(pod_reference_append(l, NULL, &f.append, &f.cache, slots, k, v, NULL), POD_E_STATE,
                 "pod_plan_build() has not succeeded on this plan yet");
    assert_fails(pod_reference_append(l, b, &f.append, &f.cache, NULL, k, v, NULL), POD_E_ARGUMENT, "slots is NULL");
    assert_fails(pod_reference_append(l, b, &f.append, &f.cache, slots, NULL, v, NULL), POD_E_ARGUMENT, "k is NULL");
    assert_fails(pod_reference_append(l, b, &f.append, &f.cache, slots, k, v, q), POD_E_ARGUMENT,
                 "q is not NULL, but append.q is");
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_batch_says_where),
        cmocka_unit_test(slots_say_where_without_a_build),
        cmocka_unit_test(both_styles_rotate),
        cmocka_unit_test(only_the_first_elements_rotate),
        cmocka_unit_test(a_pad_shifts_positions_and_no_places),
        cmocka_unit_test(queries_rotate_in_place_and_elsewhere),
        cmocka_unit_test(what_is_stored_is_divided_by_the_scale),
        cmocka_unit_test(attention_reads_what_was_appended),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(wrong_ropes),
        cmocka_unit_test(wrong_tokens),
        cmocka_unit_test(a_request_whose_queries_are_more_than_its_keys),
        cmocka_unit_test(overlaps),
        cmocka_unit_test(an_overwritten_workspace),
        cmocka_unit_test(a_simulated_device_computes_nothing),
        cmocka_unit_test(the_oracle_checks_its_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
