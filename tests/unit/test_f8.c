/* SPDX-License-Identifier: Apache-2.0 */
/* e4m3 against values computed in double precision: every pattern both ways, every border between two neighbours, and
 * every f16 and bf16 number. */
#include "unit.h"

#include "base/dtype.h"

#include <math.h>

/** The value of a pattern that is no NaN, by the format's definition. */
static double value_of(int pattern) {
    int exponent = pattern >> 3 & 15, fraction = pattern & 7;
    double magnitude = exponent > 0 ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
    return pattern & 0x80 ? -magnitude : magnitude;
}

/** The nearest of all numbers of the format, of two the one with an even pattern: found by looking at each. */
static int nearest(double value) {
    int best = 0;
    for (int pattern = 1; pattern < 0x7f; pattern++) {
        double apart = fabs(fabs(value) - value_of(pattern)), least = fabs(fabs(value) - value_of(best));
        if (apart < least || (apart == least && pattern % 2 == 0)) best = pattern;
    }
    return signbit(value) ? best | 0x80 : best;
}

static void check(float value) {
    int pattern = pod__float_to_f8e4m3(value),
        expected = isinf(value) ? (value < 0 ? 0xfe : 0x7e) : nearest((double)value);
    if (pattern != expected) fail_msg("%a becomes %02x, not %02x", (double)value, pattern, expected);
}

static void every_pattern_goes_both_ways(void **state) {
    (void)state;
    for (int pattern = 0; pattern < 256; pattern++) {
        float value = pod__f8e4m3_to_float((uint8_t)pattern);
        if ((pattern & 0x7f) == 0x7f) {
            assert_true(isnan(value));
            assert_int_equal(signbit(value) != 0, pattern >> 7);
            assert_int_equal(pod__float_to_f8e4m3(value), 0x7f);
            continue;
        }
        if ((double)value != value_of(pattern)) fail_msg("pattern %02x widens to %a", pattern, (double)value);
        assert_int_equal(signbit(value) != 0, pattern >> 7);
        assert_int_equal(pod__float_to_f8e4m3(value), pattern);
    }
    assert_true(pod__f8e4m3_to_float(0x7e) == 448.0f);
    assert_true(pod__f8e4m3_to_float(0x08) == 0x1p-6f);
    assert_true(pod__f8e4m3_to_float(0x01) == 0x1p-9f);
}

static void borders_round_to_even(void **state) {
    (void)state;
    for (int pattern = 0; pattern < 0x7e; pattern++) {
        float tie = (float)((value_of(pattern) + value_of(pattern + 1)) / 2);
        const float values[] = {tie, nextafterf(tie, 0), nextafterf(tie, INFINITY)};
        for (int i = 0; i < 3; i++) {
            check(values[i]);
            check(-values[i]);
        }
    }
    assert_int_equal(pod__float_to_f8e4m3(0x1p-10f), 0x00);
    assert_int_equal(pod__float_to_f8e4m3(0x1.8p-9f), 0x02);
    assert_int_equal(pod__float_to_f8e4m3(1.0625f), 0x38);
    assert_int_equal(pod__float_to_f8e4m3(1.1875f), 0x3a);
}

static void what_is_too_large_saturates(void **state) {
    (void)state;
    static const float values[] = {448.0f, 464.0f, 465.0f, 480.0f, 65504.0f, 3.4e38f, INFINITY};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_int_equal(pod__float_to_f8e4m3(values[i]), 0x7e);
        assert_int_equal(pod__float_to_f8e4m3(-values[i]), 0xfe);
    }
    static const uint32_t nans[] = {0x7f800001, 0x7fc00000, 0x7fffffff, 0xff800001, 0xffc00000};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++) {
        assert_int_equal(pod__float_to_f8e4m3(pod__float_from_bits(nans[i])), 0x7f);
    }
}

static void every_half_rounds_to_the_nearest(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        const float values[] = {pod__f16_to_float((uint16_t)bits), pod__bf16_to_float((uint16_t)bits)};
        for (int i = 0; i < 2; i++) {
            if (!isnan(values[i])) check(values[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_goes_both_ways),
        cmocka_unit_test(borders_round_to_even),
        cmocka_unit_test(what_is_too_large_saturates),
        cmocka_unit_test(every_half_rounds_to_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
