/* SPDX-License-Identifier: Apache-2.0 */
/* The check that `run` and `replay` rest on notices what is wrong; quantiles and elements are what they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/dtype.h"
#include "run/check.h"
#include "run/stopwatch.h"

#include <math.h>

enum { NUM_ROWS = 6, HEAD_DIM = 8 };

/** Outputs that equal the reference, to be spoilt. */
typedef struct fixture {
    pod_limits limits;
    double out[NUM_ROWS * HEAD_DIM], lse[NUM_ROWS];
    float given_out[NUM_ROWS * HEAD_DIM], given_lse[NUM_ROWS];
} fixture;

static fixture make_fixture(void) {
    fixture made = {.limits = pod_limits_init()};
    made.limits.head_dim = made.limits.v_head_dim = HEAD_DIM;
    made.limits.out_dtype = POD_F32;
    for (int i = 0; i < NUM_ROWS * HEAD_DIM; i++) made.out[i] = made.given_out[i] = (float)(i % 5 - 2);
    for (int i = 0; i < NUM_ROWS; i++) made.lse[i] = made.given_lse[i] = (float)i;
    return made;
}

static pod_errors compare(fixture *fixture) {
    check_reference reference = {&fixture->limits, NUM_ROWS, fixture->out, fixture->lse};
    pod_tensors tensors = pod_tensors_init();
    tensors.out = fixture->given_out;
    tensors.lse = fixture->given_lse;
    return check_compare(&reference, &tensors);
}

static int passes(fixture *fixture) {
    return pod__errors_within(compare(fixture), pod__errors_allowed(POD_F32));
}

static void test_equal_passes(void **state) {
    (void)state;
    fixture fixture = make_fixture();
    assert_true(passes(&fixture));
    assert_true(compare(&fixture).whole == 0);
}

static void test_wrong_output_fails(void **state) {
    (void)state;
    fixture fixture = make_fixture();
    fixture.given_out[17] += 0.01f;
    assert_false(passes(&fixture));
    fixture.given_out[17] = NAN;
    assert_false(passes(&fixture));
    assert_true(isnan(compare(&fixture).worst_row));
}

static void test_wrong_lse_fails(void **state) {
    (void)state;
    fixture fixture = make_fixture();
    fixture.given_lse[0] += 0.001f;
    assert_false(passes(&fixture));
    fixture.given_lse[0] = NAN;
    assert_false(passes(&fixture));
    fixture.given_lse[0] = -INFINITY;
    assert_false(passes(&fixture));
    fixture.lse[0] = -INFINITY;
    assert_true(passes(&fixture));
}

static void test_empty_row_must_be_zero(void **state) {
    (void)state;
    fixture fixture = make_fixture();
    for (int i = 0; i < HEAD_DIM; i++) fixture.out[i] = fixture.given_out[i] = 0;
    assert_true(passes(&fixture));
    fixture.given_out[3] = 1e-30f;
    assert_false(passes(&fixture));
}

static void test_a_reference_that_is_no_number_needs_one_that_is_none(void **state) {
    (void)state;
    fixture fixture = make_fixture();
    fixture.out[9] = NAN;
    assert_false(passes(&fixture));
    fixture.given_out[9] = 0;
    assert_false(passes(&fixture));
    fixture.given_out[9] = NAN;
    assert_true(passes(&fixture));
    fixture.out[9] = INFINITY; /* that of a sum in another order */
    assert_true(passes(&fixture));
    fixture.given_out[9] = 1e30f;
    assert_false(passes(&fixture));
    fixture.out[9] = fixture.given_out[9] = 0;
    fixture.lse[1] = NAN;
    fixture.given_lse[1] = -INFINITY;
    assert_false(passes(&fixture));
    fixture.given_lse[1] = NAN;
    assert_true(passes(&fixture));
}

static void test_nan_is_the_worst(void **state) {
    (void)state;
    pod_errors good = {1e-9, 1e-9, 1e-9}, bad = {NAN, 1, 1};
    assert_true(isnan(pod__larger_errors(good, bad).whole));
    assert_true(isnan(pod__larger_errors(bad, good).whole));
}

static void test_quantiles(void **state) {
    (void)state;
    double values[] = {5, 1, 4, 2, 3};
    assert_true(quantile(values, 5, 0.5) == 3);
    assert_true(quantile(values, 5, 0.99) == 5);
    assert_true(quantile(values, 5, 0) == 1);
    assert_true(quantile(values, 0, 0.5) == 0);
}

/** Each finite half that is normal or zero comes back as it was. */
static void test_elements_round_trip(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        uint16_t half = (uint16_t)bits, back = 0;
        if ((half >> 10 & 31) != 0 && (half >> 10 & 31) != 31) {
            pod__store(&back, POD_F16, 0, pod__load(&half, POD_F16, 0));
            assert_int_equal(back, half);
        }
        if ((half >> 7 & 255) != 255) {
            pod__store(&back, POD_BF16, 0, pod__load(&half, POD_BF16, 0));
            assert_int_equal(back, half);
        }
    }
    uint16_t even = 0;
    pod__store(&even, POD_BF16, 0, 1.00390625f); /* half way between 1 and the next bf16 */
    assert_true(pod__load(&even, POD_BF16, 0) == 1.0f);
    pod__store(&even, POD_F16, 0, 1.00048828125f); /* half way between 1 and the next f16 */
    assert_true(pod__load(&even, POD_F16, 0) == 1.0f);
}

static void halves_survive_a_round_trip(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        uint16_t half = (uint16_t)bits, again = 0;
        if ((half & 0x7fff) > 0x7c00) continue; /* NaN */
        pod__store(&again, POD_F16, 0, pod__load(&half, POD_F16, 0));
        assert_int_equal(again, half);
    }
}

static void small_and_large_floats_become_the_nearest_half(void **state) {
    (void)state;
    static const struct {
        float value;
        uint16_t half;
    } cases[] = {{0x1p-14f, 0x0400}, {-0x1.fffp-15f, 0x8400}, {0x1p-24f, 1},      {0x1p-25f, 0},
                 {0x1.8p-24f, 2},    {-1e-9f, 0x8000},        {65519.0f, 0x7bff}, {65520.0f, 0x7c00},
                 {-1e9f, 0xfc00},    {1.0f, 0x3c00},          {5.5e-5f, 0x039b}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint16_t half;
        pod__store(&half, POD_F16, 0, cases[i].value);
        assert_int_equal(half, cases[i].half);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_survive_a_round_trip),
        cmocka_unit_test(small_and_large_floats_become_the_nearest_half),
        cmocka_unit_test(test_equal_passes),
        cmocka_unit_test(test_wrong_output_fails),
        cmocka_unit_test(test_wrong_lse_fails),
        cmocka_unit_test(test_empty_row_must_be_zero),
        cmocka_unit_test(test_nan_is_the_worst),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_elements_round_trip),
        cmocka_unit_test(test_a_reference_that_is_no_number_needs_one_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
