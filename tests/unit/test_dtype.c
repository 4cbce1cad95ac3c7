/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions against values computed in double precision: every half both ways, and floats around every border. */
#include "unit.h"

#include "base/dtype.h"
#include "rng.h"

#include <math.h>

/** How a narrow format is built: its value is (1.fraction or 0.fraction) * 2^exponent. */
typedef struct narrow_format {
    int fraction_bits;
    int max_exponent; /**< of the largest finite number */
    int min_exponent; /**< of the smallest normal one */
} narrow_format;

static const narrow_format F16 = {10, 15, -14};
static const narrow_format BF16 = {7, 127, -126};

/** The value of a narrow number without a NaN, exactly. */
static double narrow_value(narrow_format format, uint16_t bits) {
    int fraction = bits & ((1 << format.fraction_bits) - 1);
    int exponent = (bits & 0x7fff) >> format.fraction_bits;
    double value = ldexp(fraction, format.min_exponent - format.fraction_bits);
    if (exponent > 0)
        value =
            ldexp((1 << format.fraction_bits) + fraction, exponent - 1 + format.min_exponent - format.fraction_bits);
    if (exponent - 1 + format.min_exponent > format.max_exponent) value = INFINITY;
    return bits & 0x8000 ? -value : value;
}

/** Rounds to nearest, ties to even, by arithmetic on the exact value. */
static double narrow_round(narrow_format format, float value) {
    if (value == 0 || isinf(value)) return (double)value;
    int exponent = ilogb((double)value);
    if (exponent < format.min_exponent) exponent = format.min_exponent;
    double step = ldexp(1, exponent - format.fraction_bits);
    double rounded = nearbyint((double)value / step) * step;
    double too_large = ldexp(1, format.max_exponent + 1);
    return fabs(rounded) >= too_large ? copysign(INFINITY, (double)value) : rounded;
}

static int is_nan_bits(narrow_format format, uint16_t bits) {
    return (bits & 0x7fff) > (0x7fff >> format.fraction_bits << format.fraction_bits);
}

static void sizes_and_names(void **state) {
    (void)state;
    assert_int_equal(pod_dtype_size(POD_F32), 4);
    assert_int_equal(pod_dtype_size(POD_F16), 2);
    assert_int_equal(pod_dtype_size(POD_BF16), 2);
    assert_int_equal(pod_dtype_size(POD_F8E4M3), 1);
    assert_int_equal(pod_dtype_size((pod_dtype)17), 0);
    assert_string_equal(pod_dtype_name(POD_F32), "f32");
    assert_string_equal(pod_dtype_name(POD_F16), "f16");
    assert_string_equal(pod_dtype_name(POD_BF16), "bf16");
    assert_string_equal(pod_dtype_name(POD_F8E4M3), "f8e4m3");
    assert_string_equal(pod_dtype_name((pod_dtype)17), "?");
}

static void check_all_patterns(narrow_format format, float (*widen)(uint16_t), uint16_t (*narrow)(float)) {
    for (uint32_t i = 0; i <= 0xffff; i++) {
        uint16_t bits = (uint16_t)i;
        float value = widen(bits);
        if (is_nan_bits(format, bits)) {
            assert_true(isnan(value));
            assert_true(is_nan_bits(format, narrow(value)));
            assert_int_equal(narrow(value) & 0x8000, bits & 0x8000);
            continue;
        }
        if ((double)value != narrow_value(format, bits)) fail_msg("pattern %04x widens to %a", bits, (double)value);
        if (narrow(value) != bits) fail_msg("pattern %04x comes back as %04x", bits, narrow(value));
    }
}

static void every_f16_pattern_goes_both_ways(void **state) {
    (void)state;
    check_all_patterns(F16, pod__f16_to_float, pod__float_to_f16);
}

static void every_bf16_pattern_goes_both_ways(void **state) {
    (void)state;
    check_all_patterns(BF16, pod__bf16_to_float, pod__float_to_bf16);
}

static void check_rounding(narrow_format format, float (*widen)(uint16_t), uint16_t (*narrow)(float), float value) {
    float rounded = widen(narrow(value));
    if ((double)rounded != narrow_round(format, value) || signbit(rounded) != signbit(value)) {
        fail_msg("%a becomes %a, not %a", (double)value, (double)rounded, narrow_round(format, value));
    }
}

/** Each border between two neighbours (the tie), the floats next to it, and random floats of every exponent. */
static void check_borders(narrow_format format, float (*widen)(uint16_t), uint16_t (*narrow)(float)) {
    test_rng rng = {7};
    for (uint16_t bits = 0; !is_nan_bits(format, (uint16_t)(bits + 1)); bits++) {
        double low = narrow_value(format, bits), high = narrow_value(format, (uint16_t)(bits + 1));
        if (isinf(high)) high = ldexp(1, format.max_exponent + 1);
        float tie = (float)((low + high) / 2);
        const float values[] = {tie, nextafterf(tie, -INFINITY), nextafterf(tie, INFINITY)};
        for (int i = 0; i < 3; i++) {
            check_rounding(format, widen, narrow, values[i]);
            check_rounding(format, widen, narrow, -values[i]);
        }
    }
    for (int i = 0; i < 1000000; i++) {
        float value = pod__float_from_bits((uint32_t)rng_next(&rng));
        if (!isnan(value)) check_rounding(format, widen, narrow, value);
    }
}

static void f16_rounds_to_even(void **state) {
    (void)state;
    check_borders(F16, pod__f16_to_float, pod__float_to_f16);
    assert_int_equal(pod__float_to_f16(65519.0f), 0x7bff);
    assert_int_equal(pod__float_to_f16(65520.0f), 0x7c00);
    assert_int_equal(pod__float_to_f16(-0x1p-25f), 0x8000);
}

static void bf16_rounds_to_even(void **state) {
    (void)state;
    check_borders(BF16, pod__bf16_to_float, pod__float_to_bf16);
    assert_int_equal(pod__float_to_bf16(pod__float_from_bits(0x3f808000)), 0x3f80);
    assert_int_equal(pod__float_to_bf16(pod__float_from_bits(0x3f818000)), 0x3f82);
    assert_int_equal(pod__float_to_bf16(pod__float_from_bits(0x7f7fffff)), 0x7f80);
}

static void every_kind_of_nan_stays_one(void **state) {
    (void)state;
    static const uint32_t patterns[] = {0x7f800001, 0x7fc00000, 0x7fffffff, 0xff800001, 0xffc00000, 0x7f80ffff};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        float nan = pod__float_from_bits(patterns[i]);
        assert_true(is_nan_bits(F16, pod__float_to_f16(nan)));
        assert_true(is_nan_bits(BF16, pod__float_to_bf16(nan)));
    }
}

static void arrays_are_read_and_written(void **state) {
    (void)state;
    static const pod_dtype dtypes[] = {POD_F32, POD_F16, POD_BF16, POD_F8E4M3};
    for (int d = 0; d < 4; d++) {
        unsigned char array[16];
        memset(array, 0x55, sizeof array);
        pod__store(array, dtypes[d], 1, -1.5f);
        assert_true(pod__load(array, dtypes[d], 1) == -1.5f);
        size_t size = pod_dtype_size(dtypes[d]);
        for (size_t i = 0; i < sizeof array; i++) {
            if (i < size || i >= 2 * size) assert_int_equal(array[i], 0x55);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_names),
        cmocka_unit_test(every_f16_pattern_goes_both_ways),
        cmocka_unit_test(every_bf16_pattern_goes_both_ways),
        cmocka_unit_test(f16_rounds_to_even),
        cmocka_unit_test(bf16_rounds_to_even),
        cmocka_unit_test(every_kind_of_nan_stays_one),
        cmocka_unit_test(arrays_are_read_and_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
