/* SPDX-License-Identifier: Apache-2.0 */
/* What the planner decides for batches whose answer is known. */
#include "unit.h"

#include "plan_check.h"
#include "rng.h"
#include "test_workspace.h"

typedef struct planned {
    pod_device *device;
    pod_plan *plan;
    test_workspace workspace;
    plan_check check;
} planned;

static pod_limits one_head_limits(int32_t max_requests, int32_t max_q_tokens, int32_t max_kv_len) {
    pod_limits limits = pod_limits_init();
    limits.q_heads = limits.kv_heads = 1;
    limits.head_dim = 64;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = POD_BF16;
    limits.max_requests = max_requests;
    limits.max_q_tokens = max_q_tokens;
    limits.max_kv_len = limits.page_size = max_kv_len;
    return limits;
}

/** Plans `n` causal requests on a device and checks all that holds for every plan. */
static pod_plan_info plan_on(planned *p, const char *device, const pod_limits *limits, int32_t n,
                             const int32_t *q_start, const int32_t *kv_len) {
    pod_batch batch = pod_batch_init();
    batch.num_requests = batch.num_pages = n;
    batch.q_start = q_start;
    batch.kv_len = kv_len;
    memset(p, 0, sizeof *p);
    assert_ok(pod_device_open(device, &p->device));
    assert_ok(test_workspace_plan(p->device, limits, 0xcd, &p->workspace, &p->plan));
    assert_ok(pod_plan_build(p->plan, &batch, NULL));
    if (!plan_check_all(&p->check, p->plan)) fail_msg("%s", p->check.message);
    pod_plan_info info = pod_plan_info_init();
    assert_ok(pod_plan_get_info(p->plan, 0, &info));
    return info;
}

static void release(planned *p) {
    plan_check_free(&p->check);
    test_workspace_free(&p->workspace);
    pod_plan_destroy(p->plan);
    pod_device_close(p->device);
}

static void an_empty_batch_has_no_work(void **state) {
    (void)state;
    static const int32_t q_start[] = {0, 0, 0}, kv_len[] = {0, 100};
    pod_limits limits = one_head_limits(2, 1, 100);
    planned p;
    pod_plan_info info = plan_on(&p, "sim:h100", &limits, 2, q_start, kv_len);
    assert_int_equal(info.num_requests, 2);
    assert_int_equal(info.num_prefill_items + info.num_decode_items + info.num_decode_slices, 0);
    release(&p);
}

/** Pages that the sm90 kernels do not take are planned as the sm80 kernel would, and the plan says so. */
static void pages_decide_the_family(void **state) {
    (void)state;
    static const struct {
        const char *device;
        int32_t page_size, num_ctas;
        const char *kernel, *note;
    } cases[] = {
        {"sim:h100", 8, 132, "pod_sm90_fused_bf16_d64_c1", ""},
        {"sim:h100", 12, 264, "pod_sm80_fused_bf16_d64_c2",
         "sm90: page_size = 12 is no multiple of 8 and max_kv_len = 40 is more than a page"},
        {"sim:h100", 41, 132, "pod_sm90_fused_bf16_d64_c1", ""},
        {"sim:h100,kernel=sm80", 8, 264, "pod_sm80_fused_bf16_d64_c2",
         "sm90: the options of the device's name ask for another kernel"},
        {"sim:h100,ctas=4", 8, 528, "pod_sm80_fused_bf16_d64_c4",
         "sm90: the options of the device's name ask for another kernel"},
        {"sim:a100", 12, 216, "pod_sm80_fused_bf16_d64_c2", "sm90: the chip's compute capability is 8.0, not 9.0"},
        {"sim:sms=3", 1, 6, "pod_sm80_fused_bf16_d64_c2",
         "sm90: page_size = 1 is no multiple of 8 and max_kv_len = 40 is more than a page"},
        {"sim:cpu", 1, 32, "cpu", ""},
    };
    static const int32_t q_start[] = {0, 0}, kv_len[] = {0};
    pod_limits limits = one_head_limits(1, 8, 40);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limits.page_size = cases[i].page_size;
        planned p;
        pod_plan_info info = plan_on(&p, cases[i].device, &limits, 1, q_start, kv_len);
        assert_string_equal(info.kernel, cases[i].kernel);
        assert_string_equal(info.kernel_note, cases[i].note);
        assert_int_equal(info.num_ctas, cases[i].num_ctas);
        release(&p);
    }
}

static void rows_decide_between_prefill_and_decode(void **state) {
    (void)state;
    static const int32_t q_start[] = {0, 16, 33}, kv_len[] = {16, 17}; /* 16 rows and 17 */
    pod_limits limits = one_head_limits(2, 33, 64);
    planned p;
    pod_plan_info info = plan_on(&p, "sim:a100", &limits, 2, q_start, kv_len);
    assert_int_equal(info.decode_rows, 16);
    assert_int_equal(info.num_decode_requests, 1);
    assert_int_equal(info.num_prefill_requests, 1);
    release(&p);
}

static void one_long_decode_keeps_every_worker_busy(void **state) {
    (void)state;
    static const int32_t q_start[] = {0, 1, 2, 3}, kv_len[] = {64, 1 << 17, 64};
    pod_limits limits = one_head_limits(3, 3, 1 << 17);
    planned p;
    pod_plan_info info = plan_on(&p, "sim:h100", &limits, 3, q_start, kv_len);
    assert_int_equal(info.num_decode_tiles, 1024 + 2);
    assert_int_equal(info.num_decode_slices, 114); /* of nine tiles; with 128 one has nine, too */
    release(&p);
}

static void one_long_chunk_is_split_until_the_chip_is_full(void **state) {
    (void)state;
    static const int32_t q_start[] = {0, 128}, kv_len[] = {1 << 19};
    pod_limits limits = one_head_limits(1, 128, 1 << 19);
    planned p;
    pod_plan_info info = plan_on(&p, "sim:h100", &limits, 1, q_start, kv_len);
    assert_int_equal(info.num_prefill_splits, info.num_prefill_items);
    assert_int_equal(info.num_prefill_items, info.num_ctas / 2); /* one for each pair of CTAs */
    release(&p);
}

static void enough_row_tiles_are_not_split(void **state) {
    (void)state;
    static const int32_t q_start[] = {0, 1 << 16}, kv_len[] = {1 << 16};
    pod_limits limits = one_head_limits(1, 1 << 16, 1 << 16);
    planned p;
    pod_plan_info info = plan_on(&p, "sim:sms=8", &limits, 1, q_start, kv_len);
    assert_int_equal(info.num_prefill_splits, 0);
    assert_int_equal(info.num_prefill_items, (1 << 16) / info.prefill_tile_rows);
    release(&p);
}

static void the_longest_context_is_planned(void **state) {
    (void)state;
    static const int32_t q_start[] = {0, 65, 66}, kv_len[] = {1 << 30, 1 << 30};
    pod_limits limits = one_head_limits(2, 66, 1 << 30);
    planned p;
    pod_plan_info info = plan_on(&p, "sim:cpu", &limits, 2, q_start, kv_len);
    assert_int_equal(info.num_prefill_tiles + info.num_decode_tiles, 2 << 24);
    release(&p);
}

/** Where every CTA could have a tile, a request's parts would be so many that joining them takes longest. */
static void a_lone_short_decode_has_few_parts(void **state) {
    (void)state;
    static const struct {
        const char *device;
        int32_t kv_len, slices;
    } cases[] = {{"sim:h100", 16 * 64, 8},   {"sim:h100", 32 * 64, 8},   {"sim:h100", 128 * 64, 16},
                 {"sim:h100", 528 * 64, 33}, {"sim:a100", 128 * 64, 32}, {"sim:h100", 2048 * 64, 64},
                 {"sim:cpu", 16 * 64, 16}};
    static const int32_t q_start[] = {0, 1};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pod_limits limits = one_head_limits(1, 1, cases[i].kv_len);
        limits.head_dim = 128;
        planned p;
        pod_plan_info info = plan_on(&p, cases[i].device, &limits, 1, q_start, &cases[i].kv_len);
        assert_int_equal(info.num_decode_slices, cases[i].slices);
        release(&p);
    }
}

/** Where a kernel computes decodes as prefill work, they are under way beside a prompt, from the queue's beginning on,
 * and the last ones come last. */
static void decodes_are_spread_among_the_tiles_of_a_prompt(void **state) {
    (void)state;
    enum { DECODES = 64, PROMPT = 2048, KV_LEN = 8192 };
    int32_t q_start[DECODES + 2] = {0}, kv_len[DECODES + 1];
    for (int32_t r = 0; r <= DECODES; r++) {
        q_start[r + 1] = q_start[r] + (r == 0 ? PROMPT : 1);
        kv_len[r] = r == 0 ? KV_LEN : KV_LEN / 2;
    }
    pod_limits limits = one_head_limits(DECODES + 1, PROMPT + DECODES, KV_LEN);
    limits.head_dim = 256;
    limits.q_heads = 16;
    limits.kv_heads = 8;
    planned p;
    pod_plan_info info = plan_on(&p, "sim:h100", &limits, DECODES + 1, q_start, kv_len);
    assert_int_equal(info.decode_rows, 0);
    assert_int_equal(info.num_decode_requests, 0);
    const pod_schedule *schedule = p.check.schedule;
    int32_t num_entries = schedule->header->num_prefill_entries, num_short = 0, last_long = 0;
    for (int32_t i = 0; i < num_entries; i++) {
        int is_short = schedule->entries[i].request > 0;
        num_short += is_short;
        if (!is_short) last_long = i;
        if (i == num_entries / 4) assert_in_range(num_short, i / 3, i - i / 3);
    }
    assert_in_range(last_long, num_entries / 2, num_entries * 7 / 8);
    release(&p);
}

/** Slices are cut in 32 bits and found by an estimate; both are held against the definition. */
static void slices_are_what_the_definition_says(void **state) {
    (void)state;
    test_rng rng = {1};
    for (int i = 0; i < 20000; i++) {
        int32_t count = rng_range(&rng, 1, i % 2 == 0 ? 32768 : 200);
        int32_t total = rng_chance(&rng, 50) ? count + rng_range(&rng, 0, 300) : rng_range(&rng, count, INT32_MAX);
        pod_schedule_header header = {.num_decode_tiles = total, .num_slices = count};
        int32_t slice = rng_range(&rng, 0, count);
        assert_int_equal(pod_core_slice_begin(&header, slice), (int64_t)total * slice / count);
        int32_t tile = rng_range(&rng, 0, total - 1), found = pod_core_slice_of(&header, tile);
        assert_in_range(found, 0, count - 1);
        assert_true((int64_t)total * found / count <= tile && (int64_t)total * (found + 1) / count > tile);
    }
}

/** As the GPU that it plays: a plan without room for copies takes no arrays of the host. */
static void a_simulated_gpu_refuses_host_arrays_it_has_no_room_for(void **state) {
    (void)state;
    static const int32_t q_start[] = {0, 1}, kv_len[] = {1};
    pod_limits limits = one_head_limits(1, 8, 40);
    pod_device *device = NULL;
    pod_plan *plan;
    test_workspace workspace;
    limits.batch_memory = POD_MEMORY_DEVICE;
    assert_ok(pod_device_open("sim:h100", &device));
    assert_ok(test_workspace_plan(device, &limits, 0xcd, &workspace, &plan));
    pod_batch batch = pod_batch_init();
    batch.num_requests = batch.num_pages = 1;
    batch.q_start = q_start;
    batch.kv_len = kv_len;
    assert_fails(pod_plan_build(plan, &batch, NULL), POD_E_UNSUPPORTED,
                 "memory = POD_MEMORY_HOST is not supported by a plan whose limits have batch_memory = "
                 "POD_MEMORY_DEVICE");
    assert_true(test_workspace_untouched(&workspace, 0xcd));
    test_workspace_free(&workspace);
    pod_plan_destroy(plan);
    pod_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_batch_has_no_work),
        cmocka_unit_test(pages_decide_the_family),
        cmocka_unit_test(rows_decide_between_prefill_and_decode),
        cmocka_unit_test(one_long_decode_keeps_every_worker_busy),
        cmocka_unit_test(one_long_chunk_is_split_until_the_chip_is_full),
        cmocka_unit_test(enough_row_tiles_are_not_split),
        cmocka_unit_test(the_longest_context_is_planned),
        cmocka_unit_test(a_lone_short_decode_has_few_parts),
        cmocka_unit_test(decodes_are_spread_among_the_tiles_of_a_prompt),
        cmocka_unit_test(slices_are_what_the_definition_says),
        cmocka_unit_test(a_simulated_gpu_refuses_host_arrays_it_has_no_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
