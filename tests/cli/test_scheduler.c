/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler over made-up traces and tight caches: what must hold in every step, and that all requests finish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/prng.h"
#include "run/scheduler.h"

#include <stdlib.h>

enum { NUM_REQUESTS = 60, NUM_ROUNDS = 40 };

static trace make_trace(pod_prng *random) {
    trace trace = {.format = TRACE_SYNTHETIC};
    cli_error error;
    for (int32_t i = 0; i < NUM_REQUESTS; i++) {
        trace_request request = {1 + (int32_t)pod__prng_below(random, 300), (int32_t)pod__prng_below(random, 40),
                                 i + 1};
        assert_int_equal(trace_add(&trace, request, &error), CLI_OK);
    }
    return trace;
}

static int32_t longest(const trace *trace) {
    int32_t tokens = 1;
    for (int32_t i = 0; i < trace->num_requests; i++) {
        int32_t own = scheduler_tokens(&trace->requests[i]);
        if (own > tokens) tokens = own;
    }
    return tokens;
}

/** No page belongs to two running requests, and none is both free and in use. */
static void check_pages(const scheduler *scheduler) {
    char *is_used = calloc((size_t)scheduler->config.num_pages, 1);
    assert_non_null(is_used);
    int32_t num_used = 0;
    for (int32_t i = 0; i < scheduler->num_running; i++) {
        for (int32_t p = 0; p < scheduler->running[i].num_pages; p++, num_used++) {
            int32_t page = scheduler->running[i].pages[p];
            assert_in_range(page, 0, scheduler->config.num_pages - 1);
            assert_false(is_used[page]);
            is_used[page] = 1;
        }
    }
    for (int32_t i = 0; i < scheduler->num_free_pages; i++) assert_false(is_used[scheduler->free_pages[i]]);
    assert_int_equal(num_used + scheduler->num_free_pages, scheduler->config.num_pages);
    free(is_used);
}

static void check_batch(const scheduler *scheduler) {
    const pod_batch *batch = &scheduler->batch;
    assert_in_range(batch->num_requests, 1, scheduler->config.max_batch);
    assert_int_equal(batch->q_start[0], 0);
    assert_true(batch->q_start[batch->num_requests] <= scheduler->config.chunk_tokens);
    assert_int_equal(batch->q_start[batch->num_requests], scheduler->prefill_tokens + scheduler->decode_tokens);
    for (int32_t r = 0; r < batch->num_requests; r++) {
        int32_t q_len = batch->q_start[r + 1] - batch->q_start[r];
        assert_true(q_len >= 1 && q_len <= batch->kv_len[r]);
        if (r > 0) assert_true(q_len <= batch->q_start[r] - batch->q_start[r - 1]);
    }
}

/** Every running request that has its whole prompt decodes in this step. */
static void check_no_decode_waits(const scheduler *scheduler) {
    for (int32_t i = 0; i < scheduler->num_running; i++) {
        const running_request *running = &scheduler->running[i];
        if (running->kv_len - running->q_len >= running->prefill_tokens) assert_int_equal(running->q_len, 1);
    }
}

static void run_to_the_end(const scheduler_config *config, const trace *trace) {
    scheduler scheduler;
    cli_error error;
    assert_int_equal(scheduler_make(config, trace, longest(trace), &scheduler, &error), CLI_OK);
    int64_t prefill_tokens = 0, decode_tokens = 0, expected_prefill = 0, expected_decode = 0;
    while (scheduler_next(&scheduler)) {
        check_batch(&scheduler);
        check_pages(&scheduler);
        check_no_decode_waits(&scheduler);
        prefill_tokens += scheduler.prefill_tokens;
        decode_tokens += scheduler.decode_tokens;
    }
    for (int32_t i = 0; i < trace->num_requests; i++) {
        const trace_request *request = &trace->requests[i];
        expected_prefill += request->prefill_tokens;
        if (request->decode_tokens > 1) expected_decode += request->decode_tokens - 1;
    }
    assert_int_equal(prefill_tokens, expected_prefill);
    assert_int_equal(decode_tokens, expected_decode);
    assert_int_equal(scheduler.num_finished, trace->num_requests);
    assert_true(scheduler_is_last(&scheduler));
    assert_int_equal(scheduler.num_free_pages, config->num_pages);
    scheduler_free(&scheduler);
}

static void test_all_requests_finish(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= NUM_ROUNDS; seed++) {
        pod_prng random = pod__prng_seed(seed);
        trace trace = make_trace(&random);
        int32_t page_size = 1 + (int32_t)pod__prng_below(&random, 40);
        int32_t fewest_pages = (longest(&trace) + page_size - 1) / page_size;
        int32_t max_batch = 1 + (int32_t)pod__prng_below(&random, 20);
        scheduler_config config = {max_batch + (int32_t)pod__prng_below(&random, 200), max_batch, page_size,
                                   fewest_pages + (int32_t)pod__prng_below(&random, 100), (int64_t)seed};
        run_to_the_end(&config, &trace);
        trace_free(&trace);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_requests_finish)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
