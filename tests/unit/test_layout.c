/* SPDX-License-Identifier: Apache-2.0 */
/* Where tensors are in memory: their alignment, strides that nothing is reached through or that reach too far, and
 * outputs that overlap. */
#include "call_fixture.h"

#include <math.h>
#include <stdio.h>

#define FAR "reaches past the 144115188075855872 bytes that addresses count"

/** The fixture's call after a change is refused, and writes nothing. */
#define REFUSES(change, message)                                                                                       \
    do {                                                                                                               \
        call_fixture call;                                                                                             \
        call_open(&call, "cpu:1");                                                                                     \
        assert_ok(call_build(&call));                                                                                  \
        call.change;                                                                                                   \
        assert_fails(call_attention(&call), POD_E_ARGUMENT, message);                                                  \
        assert_true(call_outputs_untouched(&call));                                                                    \
        call_close(&call);                                                                                             \
    } while (0)

static float *behind(const void *array, int32_t bytes) {
    return (float *)(void *)((char *)(uintptr_t)array + bytes);
}

/** So many bytes behind a multiple of eight in the array. */
static const uint64_t *aligned(const void *array, uintptr_t bytes) {
    return (const uint64_t *)((((uintptr_t)array + 15) & ~(uintptr_t)7) + bytes);
}

static void small_arrays_are_aligned(void **state) {
    (void)state;
    REFUSES(tensors.sinks = behind(call.q, 2), "sinks is not aligned to its element of 4 bytes");
    REFUSES(tensors.alibi_slopes = behind(call.q, 1), "alibi_slopes is not aligned to its element of 4 bytes");
    REFUSES(tensors.tree_mask = aligned(call.q, 4), "tree_mask is not aligned to its element of 8 bytes");
    REFUSES(cache.v_scale = behind(call.q, 3), "v_scale is not aligned to its element of 4 bytes");
}

static void strides_reach_no_further_than_addresses(void **state) {
    (void)state;
    const int64_t far = INT64_C(1) << 55; /* of floats: its first step is the last that fits */
    REFUSES(tensors.q_token_stride = far, "q_token_stride = 36028797018963968 " FAR);
    REFUSES(tensors.q_head_stride = far, "q_head_stride = 36028797018963968 " FAR);
    REFUSES(tensors.out_token_stride = far, "out_token_stride = 36028797018963968 " FAR);
    REFUSES(tensors.out_head_stride = far, "out_head_stride = 36028797018963968 " FAR);
    REFUSES(tensors.lse_token_stride = far, "lse_token_stride = 36028797018963968 " FAR);
    REFUSES(tensors.lse_head_stride = far, "lse_head_stride = 36028797018963968 " FAR);
    REFUSES(cache.k_page_stride = INT64_C(1) << 61, "k_page_stride = 2305843009213693952 " FAR);
    REFUSES(cache.k_token_stride = INT64_C(1) << 61, "k_token_stride = 2305843009213693952 " FAR);
    REFUSES(cache.k_head_stride = INT64_C(1) << 61, "k_head_stride = 2305843009213693952 " FAR);
    REFUSES(cache.v_page_stride = INT64_C(1) << 62, "v_page_stride = 4611686018427387904 " FAR);
    REFUSES(cache.v_token_stride = INT64_C(1) << 62, "v_token_stride = 4611686018427387904 " FAR);
    REFUSES(cache.v_head_stride = INT64_MAX, "v_head_stride = 9223372036854775807 " FAR);
    REFUSES(cache.scale_stride = INT64_C(1) << 62, "scale_stride = 4611686018427387904 " FAR);
}

/** One token, one head, one page, one slot of a page: whatever their strides say, the result is the packed tensor's. */
static void strides_of_single_elements_do_not_count(void **state) {
    (void)state;
    static const int64_t strides[] = {0, 1, 3, -8, INT64_C(1) << 40, INT64_MAX, INT64_MIN};
    static const int32_t q_start[] = {0, 1}, kv_len[] = {1}, page[] = {0};
    static const float q[] = {1, 2, 3, 4, 5, 6, 7, 8}, v[] = {3, -1, 4, -1, 5, -9, 2, 6};
    pod_device *device;
    pod_plan *plan;
    test_workspace workspace;
    pod_limits limits = pod_limits_init();
    limits.q_heads = limits.kv_heads = limits.page_size = limits.max_requests = 1;
    limits.head_dim = 8;
    limits.max_q_tokens = limits.max_kv_len = 1;
    assert_ok(pod_device_open("cpu:1", &device));
    assert_ok(test_workspace_plan(device, &limits, 0, &workspace, &plan));
    pod_batch batch = pod_batch_init();
    batch.num_requests = batch.num_pages = batch.max_pages = 1;
    batch.q_start = q_start;
    batch.kv_len = kv_len;
    batch.page_table = page;
    assert_ok(pod_plan_build(plan, &batch, NULL));
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++) {
        int64_t s = strides[i];
        float out[8], lse, scale = 0.5f;
        double expected_lse, expected[8];
        pod_tensors t = pod_tensors_init();
        t.q = q;
        t.out = out;
        t.lse = &lse;
        t.q_token_stride = t.q_head_stride = t.out_token_stride = t.out_head_stride = s;
        t.lse_token_stride = t.lse_head_stride = s;
        pod_cache c = pod_cache_init();
        c.k = (void *)(uintptr_t)q;
        c.v = (void *)(uintptr_t)v;
        c.k_scale = c.v_scale = &scale;
        c.k_page_stride = c.k_token_stride = c.k_head_stride = s;
        c.v_page_stride = c.v_token_stride = c.v_head_stride = c.scale_stride = s;
        assert_ok(pod_attention(plan, &t, &c, NULL));
        assert_ok(pod_reference_attention(&limits, &batch, &t, &c, -1, expected, &expected_lse));
        for (int d = 0; d < 8; d++) {
            assert_true(out[d] == v[d] / 2);
            assert_true(expected[d] == (double)v[d] / 2);
        }
        assert_true(fabs((double)lse - expected_lse) < 1e-4);
    }
    assert_true(test_workspace_intact(&workspace));
    test_workspace_free(&workspace);
    pod_plan_destroy(plan);
    pod_device_close(device);
}

/** A page of one token lies a token's stride behind the one before it, if its own is not told. */
static void packed_pages_follow_their_tokens(void **state) {
    (void)state;
    call_fixture packed, padded;
    call_open(&packed, "cpu:1");
    call_open(&padded, "cpu:1");
    static float wide[2 * CALL_KV_ELEMENTS];
    const int32_t token = CALL_KV_HEADS * CALL_HEAD_DIM;
    for (int32_t i = 0; i < CALL_KV_ELEMENTS; i++) wide[i / token * 2 * token + i % token] = padded.k[i];
    padded.cache.k = wide;
    padded.cache.k_token_stride = 2 * token;
    assert_ok(call_build(&packed));
    assert_ok(call_build(&padded));
    assert_ok(call_attention(&packed));
    assert_ok(call_attention(&padded));
    assert_memory_equal(packed.out, padded.out, sizeof packed.out);
    call_close(&packed);
    call_close(&padded);
}

static void outputs_overlap_no_input(void **state) {
    (void)state;
    REFUSES(tensors.q = call.out, "out overlaps q");
    REFUSES(tensors.q = behind(call.out, 4), "out overlaps q");
    REFUSES(cache.k = call.out, "out overlaps k");
    REFUSES(cache.v = behind(call.out, sizeof call.out - 8), "out overlaps v");
    REFUSES(tensors.q = behind(call.lse, 4), "lse overlaps q");
    REFUSES(tensors.lse = behind(call.out, 0), "out overlaps lse");
    REFUSES(tensors.lse = behind(call.out, 4 * (CALL_Q_ELEMENTS - 1)), "out overlaps lse");
    REFUSES(tensors.sinks = behind(call.out, 64), "out overlaps sinks");
    REFUSES(tensors.alibi_slopes = behind(call.lse, 8), "lse overlaps alibi_slopes");
    REFUSES(tensors.tree_mask = aligned(call.out, 0), "out overlaps tree_mask");
    REFUSES(tensors.out = call.workspace.given.scratch, "out overlaps workspace.scratch");
    REFUSES(tensors.lse = call.workspace.given.plan, "lse overlaps workspace.plan");
}

static void outputs_do_not_overlap_themselves(void **state) {
    (void)state;
    REFUSES(tensors.out_head_stride = 7, "out overlaps itself: out_token_stride = 32 and out_head_stride = 7 with 5 "
                                         "tokens and 4 heads");
    REFUSES(tensors.out_token_stride = 31, "out overlaps itself: out_token_stride = 31 and out_head_stride = 8 with 5 "
                                           "tokens and 4 heads");
    REFUSES(tensors.lse_token_stride = 1, "lse overlaps itself: lse_token_stride = 1 and lse_head_stride = 1 with 5 "
                                          "tokens and 4 heads");
    call_fixture call; /* heads around tokens lie apart */
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    call.tensors.out_token_stride = CALL_HEAD_DIM;
    call.tensors.out_head_stride = CALL_HEAD_DIM * CALL_Q_TOKENS;
    call.tensors.lse_token_stride = 1;
    call.tensors.lse_head_stride = CALL_Q_TOKENS;
    assert_ok(call_attention(&call));
    call.tensors.out_head_stride--;
    assert_fails(call_attention(&call), POD_E_ARGUMENT,
                 "out overlaps itself: out_token_stride = 8 and out_head_stride = 39 with 5 tokens and 4 heads");
    call_close(&call);
}

/** One tensor may hold both: a layer's q and out side by side in the rows of a larger one. */
static void outputs_may_lie_in_gaps(void **state) {
    (void)state;
    enum { ROW = CALL_Q_HEADS * CALL_HEAD_DIM };
    static float both[CALL_Q_TOKENS * 2 * ROW];
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    for (int32_t token = 0; token < CALL_Q_TOKENS; token++) {
        memcpy(both + token * 2 * ROW, call.q + token * ROW, ROW * sizeof(float));
    }
    call.tensors.q = both;
    call.tensors.out = both + ROW;
    call.tensors.q_token_stride = call.tensors.out_token_stride = 2 * ROW;
    assert_ok(call_attention(&call));
    for (int32_t token = 0; token < CALL_Q_TOKENS; token++) {
        assert_memory_equal(both + token * 2 * ROW, call.q + token * ROW, ROW * sizeof(float));
        assert_memory_equal(both + token * 2 * ROW + ROW, call.out + token * ROW, ROW * sizeof(float));
    }
    call_close(&call);
}

/** What lies behind the last query token of the batch is nobody's, and stays. */
static void rows_of_padding_stay_as_they_are(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    call.batch.num_requests = 2; /* of 3 and 0 tokens */
    call.batch.num_q_tokens = CALL_Q_TOKENS;
    call.tensors.q_tokens = call.tensors.out_tokens = CALL_Q_TOKENS;
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    const unsigned char *bytes = (const unsigned char *)call.out;
    size_t written = (size_t)3 * CALL_Q_HEADS * CALL_HEAD_DIM * sizeof(float);
    for (size_t i = written; i < sizeof call.out; i++) assert_int_equal(bytes[i], CALL_POISON);
    bytes = (const unsigned char *)call.lse;
    for (size_t i = (size_t)3 * CALL_Q_HEADS * sizeof(float); i < sizeof call.lse; i++)
        assert_int_equal(bytes[i], CALL_POISON);
    call_close(&call);
}

/* ---- merging ---- */

enum { MERGE_HEADS = 2, MERGE_DIM = 8, MERGE_TOKENS = 3, MERGE_ELEMENTS = MERGE_TOKENS * MERGE_HEADS * MERGE_DIM };

typedef struct merge_fixture {
    float outs[2][MERGE_ELEMENTS], lses[2][MERGE_TOKENS * MERGE_HEADS];
    float out[MERGE_ELEMENTS + 1], lse[MERGE_TOKENS * MERGE_HEADS + 1];
    const void *part_outs[2];
    const float *part_lses[2];
    pod_parts parts;
} merge_fixture;

static void merge_open(merge_fixture *m) {
    memset(m, 0, sizeof *m);
    for (int p = 0; p < 2; p++) {
        for (int i = 0; i < MERGE_ELEMENTS; i++) m->outs[p][i] = (float)(p + 1);
        m->part_outs[p] = m->outs[p];
        m->part_lses[p] = m->lses[p];
    }
    m->parts = pod_parts_init();
    m->parts.num_parts = 2;
    m->parts.num_tokens = MERGE_TOKENS;
    m->parts.q_heads = MERGE_HEADS;
    m->parts.head_dim = MERGE_DIM;
    m->parts.part_outs = m->part_outs;
    m->parts.part_lses = m->part_lses;
    m->parts.out = m->out;
    m->parts.lse = m->lse;
}

#define MERGE_REFUSES(change, message)                                                                                 \
    do {                                                                                                               \
        merge_fixture m;                                                                                               \
        merge_open(&m);                                                                                                \
        m.change;                                                                                                      \
        assert_fails(pod_merge(*state, &m.parts, NULL), POD_E_ARGUMENT, message);                                      \
        for (int i = 0; i < MERGE_ELEMENTS; i++) assert_true(m.out[i] == 0);                                           \
    } while (0)

static void merges_are_checked(void **state) {
    MERGE_REFUSES(parts.part_outs = (const void *const *)(const void *)behind(m.part_outs, 4),
                  "part_outs is not aligned to its element of 8 bytes");
    MERGE_REFUSES(parts.part_lses = (const float *const *)(const void *)behind(m.part_lses, 4),
                  "part_lses is not aligned to its element of 8 bytes");
    MERGE_REFUSES(parts.part_token_stride = INT64_C(1) << 60, "part_token_stride = 1152921504606846976 " FAR);
    MERGE_REFUSES(parts.lse_head_stride = INT64_C(1) << 60, "lse_head_stride = 1152921504606846976 " FAR);
    MERGE_REFUSES(part_outs[1] = behind(m.out, 4), "out overlaps part_outs[1]");
    MERGE_REFUSES(part_lses[0] = behind(m.lse, 4), "lse overlaps part_lses[0]");
    MERGE_REFUSES(part_lses[1] = m.out, "out overlaps part_lses[1]");
    MERGE_REFUSES(part_outs[0] = m.lse, "lse overlaps part_outs[0]");
    MERGE_REFUSES(parts.lse = m.out, "out overlaps lse");
    MERGE_REFUSES(parts.out_token_stride = 15, "out overlaps itself: out_token_stride = 15 and out_head_stride = 8 "
                                               "with 3 tokens and 2 heads");
    MERGE_REFUSES(parts.lse_token_stride = 1, "lse overlaps itself: lse_token_stride = 1 and lse_head_stride = 1 with "
                                              "3 tokens and 2 heads");
    /* The same place, but not the same rows. */
    MERGE_REFUSES(part_outs[0] = (m.parts.part_token_stride = 3 * MERGE_DIM, m.out), "out overlaps part_outs[0]");
    MERGE_REFUSES(part_outs[0] = (m.parts.part_dtype = POD_F16, m.out), "out overlaps part_outs[0]");
}

static void a_merge_may_write_over_a_part(void **state) {
    merge_fixture m;
    merge_open(&m);
    m.parts.out = m.outs[1];
    m.parts.lse = m.lses[1];
    assert_ok(pod_merge(*state, &m.parts, NULL));
    for (int i = 0; i < MERGE_ELEMENTS; i++) assert_true(fabsf(m.outs[1][i] - 1.5f) < 1e-6f);
    for (int i = 0; i < MERGE_TOKENS * MERGE_HEADS; i++) assert_true(fabsf(m.lses[1][i] - logf(2)) < 1e-6f);
}

static int open_cpu(void **state) {
    pod_device *device;
    if (pod_device_open("cpu:1", &device) != POD_OK) return -1;
    *state = device;
    return 0;
}

static int close_cpu(void **state) {
    pod_device_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_arrays_are_aligned),
        cmocka_unit_test(strides_reach_no_further_than_addresses),
        cmocka_unit_test(strides_of_single_elements_do_not_count),
        cmocka_unit_test(packed_pages_follow_their_tokens),
        cmocka_unit_test(outputs_overlap_no_input),
        cmocka_unit_test(outputs_do_not_overlap_themselves),
        cmocka_unit_test(outputs_may_lie_in_gaps),
        cmocka_unit_test(rows_of_padding_stay_as_they_are),
        cmocka_unit_test_setup_teardown(merges_are_checked, open_cpu, close_cpu),
        cmocka_unit_test_setup_teardown(a_merge_may_write_over_a_part, open_cpu, close_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
