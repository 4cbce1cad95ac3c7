/* SPDX-License-Identifier: Apache-2.0 */
/* A cache of e4m3 on the CPU: every pattern, as a value and as a key, with every instruction set, in decode with few
 * rows and with many and in prefill; NaN where rows see it and where they do not; scales that are refused. */
#include "test_workspace.h"
#include "unit.h"

#include "base/dtype.h"

#include <math.h>
#include <stdio.h>

enum { PATTERNS = 256, KEYS = 70, MAX_GROUP = 16, NAN_PATTERN = 0x7f };

/** Of the call at hand. */
static float q[PATTERNS * MAX_GROUP * PATTERNS], out[PATTERNS * MAX_GROUP * PATTERNS], lse[PATTERNS * MAX_GROUP];
static uint8_t k[KEYS * PATTERNS], v[KEYS * PATTERNS];

static const char *const devices[] = {"cpu:1,isa=generic", "cpu:1,isa=avx2", "cpu:1,isa=avx512",
                                      "cpu:1,isa=avx512-bf16"};
enum { NUM_DEVICES = sizeof devices / sizeof devices[0] };

/** What rows the work has: decode that widens on the way, decode that widens first, prefill. */
static const int32_t groups[] = {1, MAX_GROUP, 1}, token_counts[] = {1, 1, PATTERNS};
enum { NUM_SHAPES = sizeof groups / sizeof groups[0] };

/** Requests of `q_len` tokens against the one page of `kv_len` keys that all of them share. */
typedef struct shared_page {
    pod_device *device;
    pod_limits limits;
    pod_plan *plan;
    test_workspace workspace;
    int32_t q_start[PATTERNS + 1], kv_len[PATTERNS], page_table[PATTERNS];
    pod_batch batch;
    pod_mask mask;
} shared_page;

/** 0 if the processor does not have the device's instructions. */
static int open_shared_page(shared_page *made, const char *device, pod_dtype q_dtype, int32_t group, int32_t q_len,
                            int32_t num_requests, int32_t kv_len) {
    memset(made, 0, sizeof *made);
    pod_status status = pod_device_open(device, &made->device);
    if (status == POD_E_NO_DEVICE || status == POD_E_ARGUMENT) return 0; /* or the build has no such set */
    assert_ok(status);
    memset(q, 0, sizeof q);
    memset(k, 0, sizeof k);
    memset(v, 0, sizeof v);
    memset(out, 0xcd, sizeof out);
    made->limits = pod_limits_init();
    made->limits.q_heads = group;
    made->limits.kv_heads = 1;
    made->limits.head_dim = PATTERNS;
    made->limits.q_dtype = q_dtype;
    made->limits.kv_dtype = POD_F8E4M3;
    made->limits.page_size = made->limits.max_kv_len = kv_len;
    made->limits.max_requests = num_requests;
    made->limits.max_q_tokens = num_requests * q_len;
    for (int32_t r = 0; r < num_requests; r++) {
        made->q_start[r + 1] = (r + 1) * q_len;
        made->kv_len[r] = kv_len;
    }
    made->mask = pod_mask_init();
    made->batch = pod_batch_init();
    made->batch.num_requests = num_requests;
    made->batch.q_start = made->q_start;
    made->batch.kv_len = made->kv_len;
    made->batch.page_table = made->page_table;
    made->batch.page_table_stride = made->batch.max_pages = made->batch.num_pages = 1;
    made->batch.num_masks = 1;
    made->batch.masks = &made->mask;
    assert_ok(test_workspace_plan(made->device, &made->limits, 0xcd, &made->workspace, &made->plan));
    assert_ok(pod_plan_build(made->plan, &made->batch, NULL));
    return 1;
}

static void close_shared_page(shared_page *made) {
    assert_true(test_workspace_intact(&made->workspace));
    test_workspace_free(&made->workspace);
    pod_plan_destroy(made->plan);
    pod_device_close(made->device);
}

static float value_of(int pattern) {
    return pod__f8e4m3_to_float((uint8_t)pattern);
}

/** Calls `check` for every instruction set, kind of work and dtype of q that leads to code of its own. */
static void for_all_kernels(void (*check)(const char *device, pod_dtype q_dtype, int32_t group, int32_t tokens)) {
    static const pod_dtype q_dtypes[] = {POD_F32, POD_BF16};
    for (int d = 0; d < NUM_DEVICES; d++) {
        for (int s = 0; s < NUM_SHAPES; s++) {
            for (int t = 0; t < 2; t++) check(devices[d], q_dtypes[t], groups[s], token_counts[s]);
        }
    }
}

/** One key of weight 1, whose value has every pattern: the output is the value. */
static void check_values(const char *device, pod_dtype q_dtype, int32_t group, int32_t tokens) {
    shared_page made;
    if (!open_shared_page(&made, device, q_dtype, group, tokens, 1, 1)) return;
    for (int i = 0; i < PATTERNS; i++) v[i] = (uint8_t)i;
    size_t elements = (size_t)tokens * (size_t)group * PATTERNS;
    float v_scale = 0.5f;
    pod_tensors tensors = pod_tensors_init();
    tensors.q = q;
    tensors.out = out;
    pod_cache cache = pod_cache_init();
    cache.k = k;
    cache.v = v;
    cache.v_scale = &v_scale;
    assert_ok(pod_attention(made.plan, &tensors, &cache, NULL));
    for (size_t i = 0; i < elements; i++) {
        float expected = value_of((int)(i % PATTERNS)) / 2;
        if (isnan(expected) ? !isnan(out[i]) : out[i] != expected) {
            fail_msg("%s, group %d, %d tokens: %02zx becomes %g, not %g", device, group, tokens, i % PATTERNS,
                     (double)out[i], (double)expected);
        }
    }
    close_shared_page(&made);
}

static void every_pattern_is_read_as_a_value(void **state) {
    (void)state;
    for_all_kernels(check_values);
}

/** One key that has every pattern but the NaNs; query i is 1 in element i alone: its LSE is the element. */
static void check_keys(const char *device, pod_dtype q_dtype, int32_t group, int32_t tokens) {
    shared_page made;
    if (!open_shared_page(&made, device, q_dtype, group, tokens, PATTERNS / tokens, 1)) return;
    for (int i = 0; i < PATTERNS; i++) k[i] = (i & NAN_PATTERN) == NAN_PATTERN ? 0 : (uint8_t)i;
    size_t rows = (size_t)PATTERNS * (size_t)group;
    float k_scale = 2;
    for (size_t row = 0; row < rows; row++) {
        pod__store(q, q_dtype, (int64_t)(row * PATTERNS + row / (size_t)group), 1);
    }
    pod_tensors tensors = pod_tensors_init();
    tensors.q = q;
    tensors.out = out;
    tensors.lse = lse;
    tensors.scale = 0.5f;
    pod_cache cache = pod_cache_init();
    cache.k = k;
    cache.v = v;
    cache.k_scale = &k_scale;
    assert_ok(pod_attention(made.plan, &tensors, &cache, NULL));
    for (size_t row = 0; row < rows; row++) {
        float expected = value_of(k[row / (size_t)group]);
        if (!(fabsf(lse[row] - expected) <= 4e-7f * fabsf(expected))) {
            fail_msg("%s, group %d, %d tokens: %02x becomes %g, not %g", device, group, tokens, k[row / (size_t)group],
                     (double)lse[row], (double)expected);
        }
    }
    close_shared_page(&made);
}

static void every_pattern_is_read_as_a_key(void **state) {
    (void)state;
    for_all_kernels(check_keys);
}

/** Element 100 of value 7, or of key 7, is a NaN. */
static void check_nan(const char *device, pod_dtype q_dtype, int32_t group, int32_t tokens) {
    enum { SEEN = 7 };
    shared_page made;
    if (!open_shared_page(&made, device, q_dtype, group, tokens, 1, KEYS)) return;
    size_t rows = (size_t)tokens * (size_t)group;
    pod_tensors tensors = pod_tensors_init();
    tensors.q = q;
    tensors.out = out;
    tensors.lse = lse;
    pod_cache cache = pod_cache_init();
    cache.k = k;
    cache.v = v;
    for (int which = 0; which < 4; which++) { /* the value or the key, of either sign */
        memset(k, 0, sizeof k);
        memset(v, 0x38, sizeof v); /* 1 */
        (which < 2 ? v : k)[SEEN * PATTERNS + 100] = which % 2 == 0 ? 0x7f : 0xff;
        assert_ok(pod_attention(made.plan, &tensors, &cache, NULL));
        for (size_t i = 0; i < rows * PATTERNS; i++) {
            int is_nan = which >= 2 || i % PATTERNS == 100;
            assert_true(is_nan ? isnan(out[i]) : fabsf(out[i] - 1) < 1e-5f);
        }
        for (size_t row = 0; row < rows; row++) assert_int_equal(isnan(lse[row]) != 0, which >= 2);
    }
    close_shared_page(&made);
}

static void a_nan_that_is_seen_makes_its_row_nan(void **state) {
    (void)state;
    for_all_kernels(check_nan);
}

static void scales_are_finite_and_positive(void **state) {
    (void)state;
    static const struct {
        float scale;
        const char *text;
    } cases[] = {{0, "0"}, {-1, "-1"}, {INFINITY, "inf"}, {NAN, "nan"}};
    shared_page made;
    assert_true(open_shared_page(&made, "cpu:1", POD_F32, 1, 1, 1, 1));
    double expected[PATTERNS];
    pod_tensors tensors = pod_tensors_init();
    tensors.q = q;
    tensors.out = out;
    for (int i = 0; i < 8; i++) {
        float scale = cases[i / 2].scale;
        pod_cache cache = pod_cache_init();
        cache.k = k;
        cache.v = v;
        *(i % 2 == 0 ? &cache.k_scale : &cache.v_scale) = &scale;
        char message[96];
        snprintf(message, sizeof message, "%s of KV head 0 = %s is not a finite number above 0",
                 i % 2 == 0 ? "k_scale" : "v_scale", cases[i / 2].text);
        out[0] = 5;
        assert_fails(pod_attention(made.plan, &tensors, &cache, NULL), POD_E_ARGUMENT, message);
        assert_true(out[0] == 5);
        assert_fails(pod_reference_attention(&made.limits, &made.batch, &tensors, &cache, -1, expected, NULL),
                     POD_E_ARGUMENT, message);
    }
    close_shared_page(&made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_is_read_as_a_value),
        cmocka_unit_test(every_pattern_is_read_as_a_key),
        cmocka_unit_test(a_nan_that_is_seen_makes_its_row_nan),
        cmocka_unit_test(scales_are_finite_and_positive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
