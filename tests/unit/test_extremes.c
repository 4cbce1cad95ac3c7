/* SPDX-License-Identifier: Apache-2.0 */
/* Attention on the CPU at the ends of its numbers: scores of any finite size, caps and scales of any size, sums and
 * scores that are no numbers. Each on prefill and on decode rows, with every instruction set that this machine has. */
#include "unit.h"

#include "base/dtype.h"
#include "base/errors.h"
#include "rng.h"
#include "test_workspace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { Q_HEADS = 4, KV_HEADS = 2, MAX_DIM = 128, KEYS = 90, MAX_TOKENS = 20, POISON = 0xff };

typedef struct extreme_case {
    pod_limits limits;
    pod_batch batch;
    pod_tensors tensors;
    pod_cache cache;
    int32_t q_start[2], kv_len[1];
    float q[MAX_TOKENS * Q_HEADS * MAX_DIM], k[KEYS * KV_HEADS * MAX_DIM],
        v[KEYS * KV_HEADS * MAX_DIM]; /**< or halves */
    float out[MAX_TOKENS * Q_HEADS * MAX_DIM], lse[MAX_TOKENS * Q_HEADS], sinks[Q_HEADS];
    double expected[MAX_TOKENS * Q_HEADS * MAX_DIM], expected_lse[MAX_TOKENS * Q_HEADS];
} extreme_case;

static void make(extreme_case *c, pod_dtype dtype, int32_t head_dim, int32_t tokens) {
    memset(c, 0, sizeof *c);
    c->limits = pod_limits_init();
    c->limits.q_heads = Q_HEADS;
    c->limits.kv_heads = KV_HEADS;
    c->limits.head_dim = head_dim;
    c->limits.q_dtype = c->limits.kv_dtype = c->limits.out_dtype = dtype;
    c->limits.page_size = c->limits.max_kv_len = c->kv_len[0] = KEYS;
    c->limits.max_requests = 1;
    c->limits.max_q_tokens = c->q_start[1] = tokens;
    c->batch = pod_batch_init();
    c->batch.num_requests = c->batch.num_pages = 1;
    c->batch.q_start = c->q_start;
    c->batch.kv_len = c->kv_len;
    c->tensors = pod_tensors_init();
    c->tensors.q = c->q;
    c->tensors.out = c->out;
    c->tensors.lse = c->lse;
    c->cache = pod_cache_init();
    c->cache.k = c->k;
    c->cache.v = c->v;
}

static void fill(extreme_case *c, void *array, int32_t count, float value) {
    for (int32_t i = 0; i < count; i++) pod__store(array, c->limits.q_dtype, i, value);
}

static void fill_normal(extreme_case *c, void *array, int32_t count, test_rng *rng, float factor) {
    for (int32_t i = 0; i < count; i++) pod__store(array, c->limits.q_dtype, i, factor * rng_normal(rng));
}

static void fill_all_normal(extreme_case *c, float q_factor) {
    test_rng rng = {7};
    fill_normal(c, c->q, c->q_start[1] * Q_HEADS * c->limits.head_dim, &rng, q_factor);
    fill_normal(c, c->k, KEYS * KV_HEADS * c->limits.head_dim, &rng, 1);
    fill_normal(c, c->v, KEYS * KV_HEADS * c->limits.head_dim, &rng, 1);
}

static int32_t num_rows(const extreme_case *c) {
    return c->q_start[1] * Q_HEADS;
}

static void run(extreme_case *c, pod_device *device) {
    pod_plan *plan;
    test_workspace workspace;
    memset(c->out, POISON, sizeof c->out);
    memset(c->lse, POISON, sizeof c->lse);
    assert_ok(test_workspace_plan(device, &c->limits, POISON, &workspace, &plan));
    assert_ok(pod_plan_build(plan, &c->batch, NULL));
    assert_ok(pod_attention(plan, &c->tensors, &c->cache, NULL));
    test_workspace_free(&workspace);
    pod_plan_destroy(plan);
    assert_ok(pod_reference_attention(&c->limits, &c->batch, &c->tensors, &c->cache, -1, c->expected, c->expected_lse));
}

/** As the oracle's, as far as scores of that size are exact. */
static void assert_as_expected(const extreme_case *c, const char *what, double number) {
    double bound = pod__errors_allowed(c->limits.q_dtype).worst_row;
    for (int32_t row = 0; row < num_rows(c); row++) {
        int32_t dim = c->limits.head_dim;
        pod_distance distance = pod__distance(c->out, c->limits.out_dtype, row * dim, c->expected + row * dim, dim);
        double error = pod__relative_error(distance, 0), lse = c->expected_lse[row];
        double lse_error = pod__lse_error((double)c->lse[row], lse);
        double rounding = isfinite(lse) ? 3e-6 * fabs(lse) : 0; /* of scores in float */
        if (error <= bound + rounding && lse_error <= 1e-4 + rounding) continue;
        fail_msg("%s %g, %s, head_dim %d, row %d: error %g, LSE %g, not %g", what, number,
                 pod_dtype_name(c->limits.q_dtype), dim, row, error, (double)c->lse[row], lse);
    }
}

/** Calls `test` for dtypes, head_dims, kinds of rows and instruction sets. */
static void for_all(void (*test)(extreme_case *c, pod_device *device)) {
    static const char *const isas[] = {"generic", "avx2", "avx512", "avx512-bf16"};
    static const pod_dtype dtypes[] = {POD_F32, POD_F16, POD_BF16};
    extreme_case *c = malloc(sizeof *c);
    assert_non_null(c);
    for (int i = 0; i < 4; i++) {
        char name[32];
        pod_device *device;
        snprintf(name, sizeof name, "cpu:1,isa=%s", isas[i]);
        if (pod_device_open(name, &device) != POD_OK) continue;
        for (int shape = 0; shape < 12; shape++) {
            make(c, dtypes[shape % 3], shape % 2 ? 128 : 64, shape < 6 ? 1 : MAX_TOKENS);
            test(c, device);
        }
        pod_device_close(device);
    }
    free(c);
}

static void equal_scores(extreme_case *c, pod_device *device) {
    static const float constants[] = {1e3f, 8e3f, 1e4f, 1.6e4f, 2e4f, 3e4f, 4e4f, 6e4f, 133120, 1e15f};
    int32_t most = c->limits.q_dtype == POD_F16 ? 6 : c->limits.q_dtype == POD_BF16 ? 9 : 10;
    for (int32_t i = 0; i < most; i++) {
        int32_t dim = c->limits.head_dim;
        fill(c, c->q, num_rows(c) * dim, constants[i]);
        fill(c, c->k, KEYS * KV_HEADS * dim, constants[i]);
        fill(c, c->v, KEYS * KV_HEADS * dim, constants[i]);
        run(c, device);
        assert_as_expected(c, "constant", (double)constants[i]);
        float value = pod__load(c->v, c->limits.kv_dtype, 0);
        for (int32_t e = 0; e < num_rows(c) * dim; e++) {
            assert_true(fabsf(pod__load(c->out, c->limits.out_dtype, e) - value) <=
                        (c->limits.q_dtype == POD_F32 ? 1e-5f : 0) * value);
        }
    }
}

static void equal_scores_of_any_size_give_the_value(void **state) {
    (void)state;
    for_all(equal_scores);
}

static void distant_scores(extreme_case *c, pod_device *device) {
    fill_all_normal(c, 12000);
    run(c, device);
    assert_as_expected(c, "q times", 12000);
    c->tensors.scale = 1e30f;
    fill_all_normal(c, 1);
    run(c, device);
    assert_as_expected(c, "scale", 1e30);
}

static void distant_scores_are_right(void **state) {
    (void)state;
    for_all(distant_scores);
}

static void small_scales(extreme_case *c, pod_device *device) {
    static const float scales[] = {1e-20f, 1e-37f, 1e-38f, 1e-40f, 1e-45f, -1e-45f};
    for (int i = 0; i < 6; i++) {
        fill_all_normal(c, 1);
        c->tensors.scale = scales[i];
        run(c, device);
        assert_as_expected(c, "scale", (double)scales[i]);
        assert_true(fabs((double)c->lse[num_rows(c) - 1] - log(KEYS)) < 1e-6);
    }
}

static void scales_that_are_next_to_nothing_weigh_equally(void **state) {
    (void)state;
    for_all(small_scales);
}

static void large_scales(extreme_case *c, pod_device *device) {
    fill_all_normal(c, 1);
    fill(c, c->k, KEYS * KV_HEADS * c->limits.head_dim, 0); /* scores of 0 */
    c->tensors.scale = 2e38f;
    run(c, device);
    assert_as_expected(c, "scale", 2e38);
    c->tensors.scale = 1;
    c->tensors.softcap = 1e-45f;
    run(c, device);
    assert_as_expected(c, "softcap", 1e-45);
}

static void zero_times_the_largest_scale_is_zero(void **state) {
    (void)state;
    for_all(large_scales);
}

static void caps(extreme_case *c, pod_device *device) {
    static const float softcaps[] = {1e-45f, 1e-38f, 1e-3f, 1, 30, 1e3f, 1e4f, 1e5f, 1e6f, 1e8f, 1e20f, 1e30f, 3e38f};
    for (int i = 0; i < 13; i++) {
        c->tensors.softcap = softcaps[i];
        for (int is_large = 0; is_large < 2; is_large++) { /* then scores are at the cap */
            fill_all_normal(c, is_large ? 1000 : 1);
            run(c, device);
            assert_as_expected(c, is_large ? "large scores, softcap" : "softcap", (double)softcaps[i]);
        }
    }
}

static void any_finite_cap_is_applied(void **state) {
    (void)state;
    for_all(caps);
}

static void infinite_sinks(extreme_case *c, pod_device *device) {
    static const float sinks[Q_HEADS] = {INFINITY, -INFINITY, NAN, 1};
    fill_all_normal(c, 1);
    memcpy(c->sinks, sinks, sizeof sinks);
    c->tensors.sinks = c->sinks;
    run(c, device);
    assert_as_expected(c, "sinks up to", INFINITY);
    for (int32_t row = 0; row < num_rows(c); row++) {
        float lse = c->lse[row], out = pod__load(c->out, c->limits.out_dtype, row * c->limits.head_dim);
        if (row % Q_HEADS == 0) assert_true(lse == INFINITY && out == 0);
        if (row % Q_HEADS == 2) assert_true(isnan(lse) && isnan(out));
        if (row % Q_HEADS % 2 == 1) assert_true(isfinite(lse) && isfinite(out));
    }
}

static void an_infinite_sink_takes_all_and_nan_makes_nan(void **state) {
    (void)state;
    for_all(infinite_sinks);
}

/** Key 3 in KV head 0: all rows see it, since they are the last 20 of 90. */
static void one_bad_key(extreme_case *c, pod_device *device) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        fill_all_normal(c, 1);
        int32_t dim = c->limits.head_dim;
        pod__store(c->k, c->limits.kv_dtype, 3 * KV_HEADS * dim, bad[i]);
        run(c, device);
        assert_as_expected(c, "key", (double)bad[i]);
        for (int32_t row = 0; row < num_rows(c); row++) {
            float q = pod__load(c->q, c->limits.q_dtype, row * dim);
            int is_nan = row % Q_HEADS < 2 && !(bad[i] * q < 0); /* else its score is -inf, and it weighs nothing */
            assert_int_equal(isnan(c->lse[row]) != 0, is_nan);
            assert_int_equal(isnan(pod__load(c->out, c->limits.out_dtype, row * dim)) != 0, is_nan);
        }
    }
}

static void a_score_that_is_no_number_makes_out_and_lse_nan(void **state) {
    (void)state;
    for_all(one_bad_key);
}

static void all_scores_infinite(extreme_case *c, pod_device *device) {
    int32_t dim = c->limits.head_dim;
    fill_all_normal(c, 1);
    fill(c, c->q, num_rows(c) * dim, 1);
    fill(c, c->k, KEYS * KV_HEADS * dim, -INFINITY);
    run(c, device);
    assert_as_expected(c, "keys", -INFINITY);
    for (int32_t row = 0; row < num_rows(c); row++) assert_true(c->lse[row] == -INFINITY);
}

static void scores_of_minus_infinity_weigh_nothing(void **state) {
    (void)state;
    for_all(all_scores_infinite);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_scores_of_any_size_give_the_value),
        cmocka_unit_test(distant_scores_are_right),
        cmocka_unit_test(scales_that_are_next_to_nothing_weigh_equally),
        cmocka_unit_test(zero_times_the_largest_scale_is_zero),
        cmocka_unit_test(any_finite_cap_is_applied),
        cmocka_unit_test(an_infinite_sink_takes_all_and_nan_makes_nan),
        cmocka_unit_test(a_score_that_is_no_number_makes_out_and_lse_nan),
        cmocka_unit_test(scores_of_minus_infinity_weigh_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
