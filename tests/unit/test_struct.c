/* SPDX-License-Identifier: Apache-2.0 */
/* Structs of other versions: programs that were built against an older header, or will be against a newer one, work.
 * The layouts below are frozen: they are what such a program has in it, whatever the header says today. */
#include "call_fixture.h"

#include "base/struct.h"

#include <stddef.h>
#include <stdio.h>

/* ---- the helper ---- */

typedef struct thing_v1 {
    size_t struct_size;
    int32_t a, b;
} thing_v1;

typedef struct thing_v2 {
    size_t struct_size;
    int32_t a, b;
    const void *c;
} thing_v2;

typedef struct thing_v3 {
    size_t struct_size;
    int32_t a, b;
    const void *c;
    int64_t d;
} thing_v3;

/** A library of version 2. */
static const pod_struct_layouts layouts = {"thing", {sizeof(thing_v1), sizeof(thing_v2)}};

static void an_older_struct_is_taken(void **state) {
    (void)state;
    thing_v1 old = {sizeof old, 1, 2};
    thing_v2 taken;
    memset(&taken, 0x5a, sizeof taken);
    assert_ok(pod__take_struct(&layouts, &old, &taken));
    assert_true(taken.struct_size == sizeof taken && taken.a == 1 && taken.b == 2 && taken.c == NULL);
}

static void a_newer_struct_is_taken_if_it_uses_nothing_new(void **state) {
    (void)state;
    thing_v3 newer = {sizeof newer, 1, 2, &newer, 0};
    thing_v2 taken;
    assert_ok(pod__take_struct(&layouts, &newer, &taken));
    assert_true(taken.struct_size == sizeof taken && taken.a == 1 && taken.b == 2 && taken.c == &newer);
    newer.d = INT64_C(1) << 60;
    char message[160];
    snprintf(message, sizeof message,
             "thing sets a field at byte %zu that podattn %s does not know (its thing has %zu bytes)",
             offsetof(thing_v3, d) + 7, POD_VERSION_STRING, sizeof(thing_v2));
    assert_fails(pod__take_struct(&layouts, &newer, &taken), POD_E_UNSUPPORTED, message);
}

/** As of a struct that was never initialised: nothing after it is read or written. */
static void a_size_beyond_any_struct_is_refused(void **state) {
    (void)state;
    char message[160];
    const size_t sizes[] = {((size_t)1 << 16) + 1, (size_t)1 << 40, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        thing_v2 given = {sizes[i], 1, 2, NULL}, other = {0};
        snprintf(message, sizeof message,
                 "thing.struct_size = %zu is not a size of this struct (%zu); start from pod_thing_init()", sizes[i],
                 sizeof(thing_v2));
        assert_fails(pod__take_struct(&layouts, &given, &other), POD_E_ARGUMENT, message);
        assert_fails(pod__give_struct(&layouts, &other, &given), POD_E_ARGUMENT, message);
    }
}

static void a_size_that_no_version_had_is_refused(void **state) {
    (void)state;
    char message[160];
    thing_v2 taken, before;
    memset(&taken, 0x5a, sizeof taken);
    before = taken;
    for (size_t size = 0; size < sizeof(thing_v2); size++) {
        if (size == sizeof(thing_v1)) continue;
        thing_v2 given = {size, 1, 2, NULL};
        snprintf(message, sizeof message,
                 "thing.struct_size = %zu is not a size of this struct (%zu); start from pod_thing_init()", size,
                 sizeof(thing_v2));
        assert_fails(pod__take_struct(&layouts, &given, &taken), POD_E_ARGUMENT, message);
        assert_memory_equal(&taken, &before, sizeof taken);
    }
    assert_fails(pod__take_struct(&layouts, NULL, &taken), POD_E_ARGUMENT, "thing is NULL");
    assert_fails(pod__give_struct(&layouts, &taken, NULL), POD_E_ARGUMENT, "thing is NULL");
}

/** What the library fills in ends where the caller's struct does, and is zero where only the caller knows fields. */
static void a_struct_is_filled_as_far_as_it_reaches(void **state) {
    (void)state;
    thing_v2 made = {sizeof made, 1, 2, &made};
    struct {
        thing_v1 old;
        int64_t behind;
    } small = {{sizeof small.old, 0, 0}, -1};
    assert_ok(pod__give_struct(&layouts, &made, &small.old));
    assert_true(small.old.struct_size == sizeof small.old && small.old.a == 1 && small.old.b == 2);
    assert_int_equal(small.behind, -1);
    thing_v3 newer = {sizeof newer, 0, 0, NULL, -1};
    assert_ok(pod__give_struct(&layouts, &made, &newer));
    assert_true(newer.struct_size == sizeof newer && newer.b == 2 && newer.c == &made && newer.d == 0);
}

/* ---- the public structs, frozen ---- */

/** pod_limits of 0.1. */
typedef struct limits_0_1 {
    size_t struct_size;
    int32_t q_heads, kv_heads, head_dim;
    int32_t q_dtype, kv_dtype, out_dtype;
    int32_t page_size, max_requests, max_q_tokens, max_kv_len;
} limits_0_1;

static void limits_of_0_1_are_taken(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    limits_0_1 old = {.struct_size = sizeof old};
    memcpy((char *)&old + sizeof(size_t), (const char *)&call.limits + sizeof(size_t), sizeof old - sizeof(size_t));
    pod_workspace now = pod_workspace_init(), then = pod_workspace_init();
    assert_ok(pod_workspace_size(call.device, &call.limits, &now));
    assert_ok(pod_workspace_size(call.device, (const pod_limits *)(const void *)&old, &then));
    assert_true(now.plan_bytes == then.plan_bytes && now.scratch_bytes == then.scratch_bytes);
    call_close(&call);
}

typedef struct limits_0_2 {
    limits_0_1 before;
    int32_t v_head_dim, max_masks, batch_memory, tree_masks, alibi, right_windows;
} limits_0_2;

typedef struct mask_0_2 {
    size_t struct_size;
    int32_t causal, window_tokens;
    const int32_t *causal_per_request;
    int32_t right_window_tokens;
} mask_0_2;

typedef struct batch_0_2 {
    size_t struct_size;
    int32_t memory, num_requests;
    const int32_t *q_start, *kv_len, *page_table;
    int64_t page_table_stride;
    int32_t max_pages, num_pages, num_q_tokens, num_masks;
    const mask_0_2 *masks;
} batch_0_2;

typedef struct workspace_0_2 {
    size_t struct_size;
    void *plan;
    size_t plan_bytes;
    void *scratch;
    size_t scratch_bytes;
    int32_t *bad_request;
} workspace_0_2;

typedef struct cache_0_2 {
    size_t struct_size;
    void *k;
    int64_t k_page_stride, k_token_stride, k_head_stride;
    void *v;
    int64_t v_page_stride, v_token_stride, v_head_stride;
    const float *k_scale, *v_scale;
    int64_t scale_stride;
} cache_0_2;

typedef struct tensors_0_2 {
    size_t struct_size;
    const void *q;
    int64_t q_token_stride, q_head_stride;
    void *out;
    int64_t out_token_stride, out_head_stride;
    float *lse;
    int64_t lse_token_stride, lse_head_stride;
    int32_t q_tokens, out_tokens, mask;
    float scale, softcap;
    const float *sinks, *alibi_slopes;
    const uint64_t *tree_mask;
} tensors_0_2;

typedef struct virtual_config_0_2 {
    size_t struct_size;
    int32_t num_layers, kv_heads, head_dim, kv_dtype, max_requests, max_kv_len, layout, has_no_thread;
    int64_t page_bytes, max_bytes;
} virtual_config_0_2;

typedef struct virtual_info_0_2 {
    size_t struct_size;
    int32_t page_size, num_pages, num_tensors;
    int64_t token_bytes, granularity_bytes, page_bytes, row_bytes, request_bytes, reserved_bytes;
    void *base;
} virtual_info_0_2;

typedef struct virtual_stats_0_2 {
    size_t struct_size;
    int64_t physical_bytes, peak_bytes, used_bytes, waste_bytes, ahead_bytes, idle_bytes, spare_bytes, shared_bytes;
    int32_t num_open;
    int64_t num_creates, num_releases, num_maps, num_unmaps, num_reused_rows, num_steps, num_waits;
    double driver_us, wait_us, longest_wait_us;
} virtual_stats_0_2;
typedef struct rope_0_2 {
    size_t struct_size;
    int32_t style, rotary_dim;
    const void *cos, *sin;
    int64_t table_stride;
    int32_t table_positions, table_dtype;
    double base;
    int32_t scaling, original_context;
    double factor, low_freq_factor, high_freq_factor, beta_fast, beta_slow, attention_factor;
    int32_t yarn_is_exact;
} rope_0_2;

typedef struct append_0_2 {
    size_t struct_size;
    int32_t num_tokens, num_pages, dtype;
    const void *k;
    int64_t k_token_stride, k_head_stride;
    const void *v;
    int64_t v_token_stride, v_head_stride;
    const void *q;
    int64_t q_token_stride, q_head_stride;
    void *q_out;
    int64_t q_out_token_stride, q_out_head_stride;
    const int64_t *slot_mapping;
    const void *positions;
    int32_t position_bytes;
    const int32_t *left_pad;
    const rope_0_2 *rope;
    int32_t *bad_token;
} append_0_2;

#define SAME_PLACE(type, frozen, field)                                                                                \
    assert_int_equal(offsetof(type, field), offsetof(frozen, field));                                                  \
    assert_int_equal(sizeof(((type *)0)->field), sizeof(((frozen *)0)->field))

/** Fields keep their places: what was compiled against 0.2 means the same in every 0.2.x. */
static void fields_keep_their_places(void **state) {
    (void)state;
    assert_int_equal(offsetof(pod_limits, v_head_dim), offsetof(limits_0_2, v_head_dim));
    assert_int_equal(offsetof(pod_limits, max_kv_len), offsetof(limits_0_1, max_kv_len));
    SAME_PLACE(pod_limits, limits_0_2, batch_memory);
    SAME_PLACE(pod_limits, limits_0_2, right_windows);
    SAME_PLACE(pod_mask, mask_0_2, window_tokens);
    SAME_PLACE(pod_mask, mask_0_2, causal_per_request);
    SAME_PLACE(pod_mask, mask_0_2, right_window_tokens);
    SAME_PLACE(pod_batch, batch_0_2, page_table_stride);
    SAME_PLACE(pod_batch, batch_0_2, num_q_tokens);
    assert_int_equal(offsetof(pod_batch, masks), offsetof(batch_0_2, masks));
    SAME_PLACE(pod_workspace, workspace_0_2, scratch_bytes);
    SAME_PLACE(pod_workspace, workspace_0_2, bad_request);
    SAME_PLACE(pod_cache, cache_0_2, v);
    SAME_PLACE(pod_cache, cache_0_2, scale_stride);
    SAME_PLACE(pod_tensors, tensors_0_2, lse_head_stride);
    SAME_PLACE(pod_tensors, tensors_0_2, softcap);
    SAME_PLACE(pod_tensors, tensors_0_2, alibi_slopes);
    SAME_PLACE(pod_tensors, tensors_0_2, tree_mask);
    SAME_PLACE(pod_virtual_config, virtual_config_0_2, has_no_thread);
    SAME_PLACE(pod_virtual_config, virtual_config_0_2, max_bytes);
    SAME_PLACE(pod_virtual_info, virtual_info_0_2, num_tensors);
    SAME_PLACE(pod_virtual_info, virtual_info_0_2, base);
    SAME_PLACE(pod_virtual_stats, virtual_stats_0_2, num_open);
    SAME_PLACE(pod_virtual_stats, virtual_stats_0_2, longest_wait_us);
    SAME_PLACE(pod_rope, rope_0_2, table_dtype);
    SAME_PLACE(pod_rope, rope_0_2, yarn_is_exact);
    SAME_PLACE(pod_append, append_0_2, q_out_head_stride);
    SAME_PLACE(pod_append, append_0_2, position_bytes);
    SAME_PLACE(pod_append, append_0_2, bad_token);
}

/** A whole call with structs as a program of 0.2.0 has them in it, each behind which something else is in memory. */
static void a_program_of_0_2_works(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    mask_0_2 masks[2] = {{sizeof masks[0], 1, 0, NULL, 0}, {sizeof masks[0], 0, 3, NULL, 2}};
    batch_0_2 batch = {.struct_size = sizeof batch,
                       .num_requests = call.batch.num_requests,
                       .q_start = call.q_start,
                       .kv_len = call.kv_len,
                       .page_table = call.page_table,
                       .page_table_stride = 4,
                       .max_pages = 4,
                       .num_pages = CALL_NUM_PAGES,
                       .num_masks = 2,
                       .masks = masks};
    limits_0_2 limits = {.max_masks = 2};
    memcpy(&limits.before, &call.limits, sizeof limits.before);
    limits.before.struct_size = sizeof limits;
    workspace_0_2 workspace = {.struct_size = sizeof workspace};
    pod_plan *plan;
    assert_ok(pod_workspace_size(call.device, (const pod_limits *)(const void *)&limits,
                                 (pod_workspace *)(void *)&workspace));
    guarded plan_memory = guarded_alloc(workspace.plan_bytes, CALL_POISON);
    guarded scratch = guarded_alloc(workspace.scratch_bytes, CALL_POISON);
    workspace.plan = plan_memory.data;
    workspace.scratch = scratch.data;
    assert_ok(pod_plan_create(call.device, (const pod_limits *)(const void *)&limits, &plan));
    assert_ok(pod_plan_attach(plan, (const pod_workspace *)(const void *)&workspace));
    assert_ok(pod_plan_build(plan, (const pod_batch *)(const void *)&batch, NULL));
    cache_0_2 cache = {.struct_size = sizeof cache, .k = call.k, .v = call.v};
    rope_0_2 rope = {.struct_size = sizeof rope, .rotary_dim = 4};
    append_0_2 append = {.struct_size = sizeof append, .k = call.q, .v = call.q, .rope = &rope};
    assert_ok(pod_cache_append(plan, (const pod_append *)(const void *)&append, (const pod_cache *)(const void *)&cache,
                               NULL));
    tensors_0_2 tensors = {.struct_size = sizeof tensors, .q = call.q, .out = call.out, .mask = 1};
    assert_ok(pod_attention(plan, (const pod_tensors *)(const void *)&tensors, (const pod_cache *)(const void *)&cache,
                            NULL));
    pod_plan_destroy(plan);
    guarded_free(&plan_memory);
    guarded_free(&scratch);
    call_close(&call);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_struct_is_taken),
        cmocka_unit_test(a_newer_struct_is_taken_if_it_uses_nothing_new),
        cmocka_unit_test(a_size_that_no_version_had_is_refused),
        cmocka_unit_test(a_size_beyond_any_struct_is_refused),
        cmocka_unit_test(a_struct_is_filled_as_far_as_it_reaches),
        cmocka_unit_test(limits_of_0_1_are_taken),
        cmocka_unit_test(fields_keep_their_places),
        cmocka_unit_test(a_program_of_0_2_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
