/* SPDX-License-Identifier: Apache-2.0 */
/* A workspace that somebody wrote to after the build: an error, and neither a crash nor a loop without end. */
#include "call_fixture.h"

#include "backend/backend.h"
#include "rng.h"

#include <stdio.h>
#include <stdlib.h>

static const char OVERWRITTEN[] = "workspace.plan was overwritten, or is another plan's, since this plan was built";

static int count_item(void *count, const pod_work_item *item) {
    (void)item;
    ++*(int *)count;
    return 0;
}

static void assert_all_refuse(call_fixture *call) {
    pod_plan_info info = pod_plan_info_init();
    int count = 0;
    assert_fails(call_attention(call), POD_E_WORKSPACE, OVERWRITTEN);
    assert_fails(pod_plan_get_info(call->plan, 0, &info), POD_E_WORKSPACE, OVERWRITTEN);
    assert_fails(pod_plan_visit(call->plan, 0, count_item, &count), POD_E_WORKSPACE, OVERWRITTEN);
    assert_fails(pod_plan_check(call->plan, NULL), POD_E_WORKSPACE, OVERWRITTEN);
    assert_int_equal(count, 0);
    assert_true(call_outputs_untouched(call));
}

/** The plan part is overwritten from a byte on; after a build it is a plan again. */
static void refuses_after_fill(size_t from, int byte) {
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    unsigned char *plan = call.workspace.given.plan;
    memset(plan + from, byte, call.workspace.given.plan_bytes - from);
    assert_all_refuse(&call);
    assert_ok(call_build(&call));
    assert_ok(call_attention(&call));
    call_close(&call);
}

static void a_filled_workspace_is_no_plan(void **state) {
    (void)state;
    static const int bytes[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        refuses_after_fill(0, bytes[i]);
        refuses_after_fill(sizeof(pod_schedule_header), bytes[i]); /* behind the header, which is intact */
    }
}

static void tickets_and_counters_are_zero_between_calls(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    const pod_schedule *schedule = &call.plan->schedules[0];
    uint32_t *words[] = {&schedule->header->prefill_ticket, &schedule->header->decode_ticket,
                         &schedule->slice_counters[0]};
    assert_true(schedule->header->num_slices > 0);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        *words[i] = 1;
        assert_all_refuse(&call);
        *words[i] = 0;
        assert_ok(pod_plan_check(call.plan, NULL));
    }
    call_close(&call);
}

/** Lengths within the limits, of as many tiles, for which the batch has no pages. */
static void other_lengths_are_noticed(void **state) {
    (void)state;
    call_fixture call;
    call_open(&call, "cpu:1");
    assert_ok(call_build(&call));
    pod_request *request = &call.plan->schedules[0].requests[0];
    int32_t *lengths[] = {&request->kv_len, &request->q_len};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        --*lengths[i];
        assert_int_equal(call_attention(&call), POD_E_WORKSPACE);
        ++*lengths[i];
    }
    request->is_causal ^= 1;
    assert_int_equal(call_attention(&call), POD_E_WORKSPACE);
    assert_true(call_outputs_untouched(&call));
    request->is_causal ^= 1;
    assert_ok(call_attention(&call));
    call_close(&call);
}

/* ---- single words ---- */

enum { TOKENS = 300, CONTEXT = 3000, DECODES = 6, DIM = 8, WORDS = 20000 };

typedef struct victim {
    pod_device *device;
    pod_plan *plan;
    test_workspace workspace;
    pod_tensors tensors;
    pod_cache cache;
    float *q, *kv, *out;
} victim;

static void *allocate(size_t bytes) {
    void *memory = calloc(1, bytes);
    assert_non_null(memory);
    return memory;
}

/** A prompt that is split, and decodes that are; where devices are simulated, two heads, which share the tickets of the
 * prompt's last rows on sm90. */
static void open_victim(victim *v, const char *device) {
    int32_t q_start[DECODES + 2], kv_len[DECODES + 1];
    memset(v, 0, sizeof *v);
    pod_limits limits = pod_limits_init();
    limits.q_heads = limits.kv_heads = device[0] == 's' ? 2 : 1;
    limits.head_dim = device[0] == 's' ? 64 : DIM;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = device[0] == 's' ? POD_BF16 : POD_F32;
    limits.page_size = limits.max_kv_len = CONTEXT;
    limits.max_requests = DECODES + 1;
    limits.max_q_tokens = TOKENS + DECODES;
    assert_ok(pod_device_open(device, &v->device));
    assert_ok(test_workspace_plan(v->device, &limits, 0, &v->workspace, &v->plan));
    q_start[0] = 0;
    for (int32_t r = 0; r <= DECODES; r++) {
        q_start[r + 1] = q_start[r] + (r == 0 ? TOKENS : 1);
        kv_len[r] = CONTEXT - 100 * r;
    }
    pod_batch batch = pod_batch_init();
    batch.num_requests = batch.num_pages = DECODES + 1;
    batch.q_start = q_start;
    batch.kv_len = kv_len;
    assert_ok(pod_plan_build(v->plan, &batch, NULL));
    v->q = allocate((size_t)(TOKENS + DECODES) * DIM * sizeof(float));
    v->out = allocate((size_t)(TOKENS + DECODES) * DIM * sizeof(float));
    v->kv = allocate((size_t)CONTEXT * (DECODES + 1) * DIM * sizeof(float));
    v->tensors = pod_tensors_init();
    v->tensors.q = v->q;
    v->tensors.out = v->out;
    v->cache = pod_cache_init();
    v->cache.k = v->cache.v = v->kv;
}

static void close_victim(victim *v) {
    assert_true(test_workspace_intact(&v->workspace));
    test_workspace_free(&v->workspace);
    free(v->q);
    free(v->kv);
    free(v->out);
    pod_plan_destroy(v->plan);
    pod_device_close(v->device);
}

/** One word of the schedule says something else: whoever takes it for a plan gets through it all the same. */
static void check_words(const char *device, int num_words, int computes) {
    static const int32_t values[] = {-1, 0, 1, 2, INT32_MAX, INT32_MIN, 1 << 30};
    test_rng rng = {5};
    victim v;
    int refused = 0;
    open_victim(&v, device);
    const pod_schedule *schedule = &v.plan->schedules[0];
    const struct {
        void *begin;
        size_t bytes;
    } arrays[] = {
        {schedule->header, sizeof *schedule->header},
        {schedule->requests, (DECODES + 1) * sizeof *schedule->requests},
        {schedule->decode_begin, (DECODES + 2) * sizeof *schedule->decode_begin},
        {schedule->entries, (size_t)schedule->header->num_prefill_entries * sizeof *schedule->entries},
    };
    for (int i = 0; i < num_words; i++) {
        int array = rng_range(&rng, 0, 3);
        char *at = (char *)arrays[array].begin + 4 * rng_range(&rng, 0, (int32_t)(arrays[array].bytes / 4) - 1);
        int32_t kept, value = rng_chance(&rng, 50) ? rng_pick(&rng, values, 7) : rng_range(&rng, -300, 3000);
        memcpy(&kept, at, sizeof kept);
        memcpy(at, &value, sizeof value);
        int count = 0;
        pod_status status = pod_plan_visit(v.plan, 0, count_item, &count);
        if (status != POD_OK) assert_fails(status, POD_E_WORKSPACE, OVERWRITTEN);
        refused += status != POD_OK;
        if (computes) { /* which also knows whether the lengths are those of the build */
            pod_status computed = pod_attention(v.plan, &v.tensors, &v.cache, NULL);
            assert_true(computed == status || computed == POD_E_WORKSPACE);
        }
        memcpy(at, &kept, sizeof kept);
    }
    assert_true(refused > num_words / 2);
    close_victim(&v);
}

static void no_word_leads_astray(void **state) {
    (void)state;
    check_words("sim:h100", WORDS, 0);
    check_words("sim:a100", WORDS, 0);
    check_words("cpu:1", 150, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filled_workspace_is_no_plan),
        cmocka_unit_test(tickets_and_counters_are_zero_between_calls),
        cmocka_unit_test(other_lengths_are_noticed),
        cmocka_unit_test(no_word_leads_astray),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
