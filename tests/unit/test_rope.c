/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary embedding: frequencies of published models against numbers worked out from the formulas in their papers, and
 * cosine and sine of any position against double precision. */
#include "unit.h"

#include "cache/rope.h"
#include "cache/rope_core.h"
#include "rng.h"

#include <math.h>

#define TWO_PI 6.283185307179586476925

typedef struct known {
    int32_t j;
    double frequency;
} known;

static void check_frequencies(const pod_rope *rope, const known *numbers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double frequency = pod__rope_frequency(rope, numbers[i].j), expected = numbers[i].frequency;
        if (fabs(frequency - expected) > 1e-13 * expected) {
            fail_msg("frequency %d is %.17g, not %.17g", numbers[i].j, frequency, expected);
        }
    }
}

static pod_rope rope_of(double base, int32_t rotary_dim, pod_rope_scaling scaling, double factor, int32_t context) {
    pod_rope rope = pod_rope_init();
    rope.base = base;
    rope.rotary_dim = rotary_dim;
    rope.scaling = scaling;
    rope.factor = factor;
    rope.original_context = context;
    return rope;
}

static void unscaled_and_linear(void **state) {
    (void)state;
    pod_rope rope = rope_of(10000, 128, POD_ROPE_UNSCALED, 0, 0);
    check_frequencies(&rope, (const known[]){{0, 1}, {16, 0.1}, {32, 0.01}, {48, 0.001}}, 4);
    rope = rope_of(10000, 128, POD_ROPE_LINEAR, 4, 0);
    check_frequencies(&rope, (const known[]){{0, 0.25}, {16, 0.025}, {32, 0.0025}}, 3);
}

/** Llama 3.1: base 500000, factor 8, low 1, high 4, 8192 tokens. */
static void llama3(void **state) {
    (void)state;
    pod_rope rope = rope_of(500000, 128, POD_ROPE_LLAMA3, 8, 8192);
    rope.low_freq_factor = 1;
    rope.high_freq_factor = 4;
    static const known numbers[] = {{0, 1.0},
                                    {20, 0.016560440080994446},
                                    {30, 0.0013718935677611381},
                                    {35, 9.556212353964683e-05},
                                    {36, 7.78465527393245e-05},
                                    {40, 3.428102195952591e-05},
                                    {63, 3.068925988914511e-07}};
    check_frequencies(&rope, numbers, sizeof numbers / sizeof numbers[0]);
}

/** The long-context setting of Qwen 2.5 and 3: base 10^6, factor 4, 32768 tokens; pairs 23 to 40 are between. */
static void yarn(void **state) {
    (void)state;
    pod_rope rope = rope_of(1e6, 128, POD_ROPE_YARN, 4, 32768);
    rope.beta_fast = 32;
    rope.beta_slow = 1;
    static const known numbers[] = {{0, 1.0},
                                    {20, 0.01333521432163324},
                                    {24, 0.005375321490790102},
                                    {30, 0.001064360981247002},
                                    {40, 4.445698525097307e-05},
                                    {63, 3.102344401879299e-07}};
    check_frequencies(&rope, numbers, sizeof numbers / sizeof numbers[0]);
}

/** gpt-oss: base 150000, factor 32, 4096 tokens, bounds that are not rounded. */
static void yarn_with_exact_bounds(void **state) {
    (void)state;
    pod_rope rope = rope_of(150000, 64, POD_ROPE_YARN, 32, 4096);
    rope.beta_fast = 32;
    rope.beta_slow = 1;
    rope.yarn_is_exact = 1;
    rope.attention_factor = 1.25;
    static const known numbers[] = {{0, 1.0},
                                    {10, 0.01933500112654036},
                                    {15, 0.0010526021013863357},
                                    {20, 1.818833668168956e-05},
                                    {31, 3.0235114281192144e-07}};
    check_frequencies(&rope, numbers, sizeof numbers / sizeof numbers[0]);
    assert_true(pod__rope_turns(&rope).amplitude == 1.25f);
}

static void check_angle(uint64_t turns, uint64_t position, double *largest) {
    pod_rope_angle angle = pod_rope_core_angle(turns, position);
    double exact = ldexp((double)(turns * position), -64) * TWO_PI;
    *largest = fmax(*largest, fmax(fabs((double)angle.cos - cos(exact)), fabs((double)angle.sin - sin(exact))));
}

static void angles_are_as_good_as_floats(void **state) {
    (void)state;
    test_rng rng = {11};
    double largest = 0;
    for (int i = 0; i < 1000000; i++) check_angle(rng_next(&rng), rng_next(&rng) >> rng_range(&rng, 33, 60), &largest);
    for (uint64_t eighth = 0; eighth < 8; eighth++) { /* where series change places */
        for (uint64_t i = 0; i < 2000; i++) check_angle((eighth << 61) + ((i - 1000) << 32), 1, &largest);
    }
    if (largest > 1.3e-7) fail_msg("largest error %g", largest);
    pod_rope_angle none = pod_rope_core_angle(UINT64_C(1) << 60, 0);
    assert_true(none.cos == 1 && none.sin == 0);
    pod_rope_angle half = pod_rope_core_angle(UINT64_C(1) << 63, 1);
    assert_true(half.cos == -1 && half.sin == 0);
}

/** Together with the frequency, whose error grows with the position. */
static void a_million_positions(void **state) {
    (void)state;
    static const double bases[] = {10000, 500000, 1e6, 1e7};
    test_rng rng = {12};
    for (size_t b = 0; b < sizeof bases / sizeof bases[0]; b++) {
        pod_rope rope = rope_of(bases[b], 128, POD_ROPE_UNSCALED, 0, 0);
        pod_rope_turns turns = pod__rope_turns(&rope);
        assert_int_equal(turns.num_pairs, 64);
        for (int i = 0; i < 200000; i++) {
            int32_t j = rng_range(&rng, 0, 63), position = i < 1000 ? (1 << 20) - i : rng_range(&rng, 0, 1 << 20);
            long double angle = (long double)position * powl((long double)bases[b], -2.0L * j / 128);
            pod_rope_angle found = pod_rope_core_angle(turns.turns[j], (uint64_t)position);
            double cosine = (double)cosl(angle), sine = (double)sinl(angle);
            double error = fmax(fabs((double)found.cos - cosine), fabs((double)found.sin - sine));
            if (error > 2e-7) fail_msg("base %g, pair %d, position %d: error %g", bases[b], j, position, error);
        }
    }
}

/** A pair that turns more than once per position, as a factor below 1 makes it. */
static void whole_turns_drop_out(void **state) {
    (void)state;
    pod_rope rope = rope_of(10000, 2, POD_ROPE_LINEAR, 1 / (TWO_PI * 2.25), 0); /* 2.25 turns */
    pod_rope_turns turns = pod__rope_turns(&rope);
    pod_rope_angle angle = pod_rope_core_angle(turns.turns[0], 1);
    assert_true(fabsf(angle.cos) < 1e-6f && fabsf(angle.sin - 1) < 1e-6f);
    angle = pod_rope_core_angle(turns.turns[0], 4000000002);
    assert_true(fabsf(angle.cos + 1) < 1e-6f && fabsf(angle.sin) < 1e-4f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unscaled_and_linear),
        cmocka_unit_test(llama3),
        cmocka_unit_test(yarn),
        cmocka_unit_test(yarn_with_exact_bounds),
        cmocka_unit_test(angles_are_as_good_as_floats),
        cmocka_unit_test(a_million_positions),
        cmocka_unit_test(whole_turns_drop_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
