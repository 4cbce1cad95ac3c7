/* SPDX-License-Identifier: Apache-2.0 */
/* The merge formula against softmax sums in double precision. */
#include "unit.h"

#include "rng.h"
#include "schedule/merge_core.h"

enum { NUM_KEYS = 40, MAX_PARTS = 5 };

typedef struct partial {
    float max, sum, out;
} partial;

/** The partial of keys [begin, end), computed in double and rounded once. */
static partial partial_of(const double *scores, const double *values, int begin, int end) {
    double max = -INFINITY, sum = 0, out = 0;
    for (int i = begin; i < end; i++) max = fmax(max, scores[i] * (double)POD_LOG2_E);
    for (int i = begin; i < end && max > -INFINITY; i++) {
        double weight = exp2(scores[i] * (double)POD_LOG2_E - max);
        sum += weight;
        out += weight * values[i];
    }
    return (partial){(float)max, (float)sum, (float)out};
}

static partial join(partial a, partial b) {
    pod_merge_factors factors = pod_merge_part(&a.max, &a.sum, b.max, b.sum);
    a.out = a.out * factors.row + b.out * factors.part;
    return a;
}

static void assert_near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance * fmax(1, fabs(expected)))) fail_msg("%.9g is not %.9g", value, expected);
}

/** Splits the keys somewhere, merges the parts in some order with a sink, and compares with the whole. */
static void check_random_row(test_rng *rng) {
    double scores[NUM_KEYS], values[NUM_KEYS], max = -INFINITY, sum = 0, out = 0;
    double spread = rng_chance(rng, 30) ? 80 : 3;
    int has_sink = rng_chance(rng, 50);
    float sink = 3 * rng_normal(rng);
    for (int i = 0; i < NUM_KEYS; i++) {
        scores[i] = rng_chance(rng, 10) ? -INFINITY : spread * (double)rng_normal(rng);
        values[i] = (double)rng_normal(rng);
        max = fmax(max, scores[i]);
    }
    if (has_sink) max = fmax(max, (double)sink);
    for (int i = 0; i < NUM_KEYS; i++) {
        sum += exp(scores[i] - max);
        out += exp(scores[i] - max) * values[i];
    }
    if (has_sink) sum += exp((double)sink - max);

    partial merged = {-INFINITY, 0, 0};
    int begin = 0;
    for (int part = 0; part < MAX_PARTS; part++) {
        int end = part == MAX_PARTS - 1 ? NUM_KEYS : rng_range(rng, begin, NUM_KEYS);
        partial one = partial_of(scores, values, begin, end);
        merged = rng_chance(rng, 50) ? join(merged, one) : join(one, merged);
        begin = end;
    }
    if (has_sink) merged.out *= pod_merge_sink(&merged.max, &merged.sum, sink);
    assert_near((double)(merged.out * pod_merge_normaliser(merged.sum)), out / sum, 1e-4);
    assert_near((double)pod_merge_lse(merged.max, merged.sum), max + log(sum), 1e-5);
}

static void merged_parts_equal_the_whole(void **state) {
    (void)state;
    test_rng rng = {11};
    for (int i = 0; i < 20000; i++) check_random_row(&rng);
}

static void an_empty_partial_weighs_nothing(void **state) {
    (void)state;
    assert_true(pod_merge_factor(-INFINITY, 3.0f) == 0.0f);
    assert_true(pod_merge_factor(-INFINITY, -INFINITY) == 0.0f);
    assert_true(pod_merge_factor(3.0f, 3.0f) == 1.0f);
    assert_true(pod_merge_factor(-3.0e38f, 3.0e38f) == 0.0f);
}

static void a_row_that_saw_nothing_is_zero(void **state) {
    (void)state;
    assert_true(pod_merge_normaliser(0.0f) == 0.0f);
    assert_true(pod_merge_lse(-INFINITY, 0.0f) == -INFINITY);
}

static void a_sink_alone_is_the_lse(void **state) {
    (void)state;
    float max = -INFINITY, sum = 0;
    assert_true(pod_merge_sink(&max, &sum, 2.5f) == 0.0f);
    assert_near((double)pod_merge_lse(max, sum), 2.5, 1e-6);
    max = 4, sum = 1;
    assert_true(pod_merge_sink(&max, &sum, -INFINITY) == 1.0f);
    assert_true(max == 4 && sum == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_parts_equal_the_whole),
        cmocka_unit_test(an_empty_partial_weighs_nothing),
        cmocka_unit_test(a_row_that_saw_nothing_is_zero),
        cmocka_unit_test(a_sink_alone_is_the_lse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
