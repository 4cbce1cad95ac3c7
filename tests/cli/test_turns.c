/* SPDX-License-Identifier: Apache-2.0 */
/* Turns: who plays when, and what many of them say. */
#include "run/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MAX_CALLS = 64 };

/** What was called, in order. */
static struct {
    int who[MAX_CALLS];
    int64_t turn[MAX_CALLS];
    int count, fails_at;
} calls;

static cli_exit play(void *context, int64_t turn, cli_error *error) {
    if (calls.count == calls.fails_at) return cli_fail(error, "call %d fails", calls.count);
    calls.who[calls.count] = *(const int *)context;
    calls.turn[calls.count++] = turn;
    return CLI_OK;
}

static cli_exit play_all(int32_t warmup, int32_t repeat, double *took_us, cli_error *error) {
    static int names[] = {10, 20, 30};
    const turn_player players[] = {
        {play, &names[0], took_us}, {play, &names[1], took_us + repeat}, {play, &names[2], took_us + 2 * repeat}};
    const pod_device_info info = {.struct_size = sizeof info, .backend = "cpu"};
    device_memory *memory;
    assert_int_equal(device_memory_open("cpu", &info, &memory, error), CLI_OK);
    const turns turns = {memory, players, 3, warmup, repeat, 0};
    cli_exit code = turns_play(&turns, error);
    device_memory_close(memory);
    return code;
}

static void test_everyone_plays_in_every_turn(void **state) {
    (void)state;
    double took_us[3 * 4];
    cli_error error;
    for (int i = 0; i < 12; i++) took_us[i] = -1;
    calls.count = 0, calls.fails_at = -1;
    assert_int_equal(play_all(2, 4, took_us, &error), CLI_OK);
    assert_int_equal(calls.count, 3 * (2 + 4));
    for (int i = 0; i < calls.count; i++) {
        assert_int_equal(calls.who[i], 10 * (i % 3 + 1));
        assert_int_equal(calls.turn[i], i / 3);
    }
    for (int i = 0; i < 12; i++) assert_true(took_us[i] >= 0);
}

static void test_failure_ends_it(void **state) {
    (void)state;
    double took_us[3 * 4];
    cli_error error;
    calls.count = 0, calls.fails_at = 7;
    assert_int_equal(play_all(1, 4, took_us, &error), CLI_BAD_INPUT);
    assert_string_equal(error.line, "call 7 fails");
    assert_int_equal(calls.count, 7);
}

static void test_summary(void **state) {
    (void)state;
    const double values[] = {5, 1, 4, 2, 3, 10, 6, 8, 7, 9}, base[] = {5, 1, 4, 2, 3, 5, 3, 4, 3.5, 4.5};
    double scratch[10];
    turn_summary plain = turns_summarise(values, NULL, 10, scratch), ratio = turns_summarise(values, base, 10, scratch);
    assert_true(plain.median == 5 && plain.p10 == 1 && plain.p90 == 9);
    assert_true(ratio.median == 1 && ratio.p10 == 1 && ratio.p90 == 2);
    assert_true(values[0] == 5 && values[9] == 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_everyone_plays_in_every_turn),
                                       cmocka_unit_test(test_failure_ends_it), cmocka_unit_test(test_summary)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
