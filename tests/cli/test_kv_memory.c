/* SPDX-License-Identifier: Apache-2.0 */
/* What an 80 GB card holds, against figures worked out by hand. */
#include "bench/kv_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

static void check(const char *model, double expected) {
    double tokens;
    cli_error error;
    assert_int_equal(kv_memory_tokens(model, &tokens, &error), CLI_OK);
    assert_true(fabs(tokens - expected) < 1);
}

static void test_tokens(void **state) {
    (void)state;
    check("llama-3-8b", (72e9 - 16.06e9) / 131072);
    check("llama-3-8b:tp2", (72e9 - 8.03e9) / 65536);
    check("llama-3-8b:tp8", (72e9 - 2.0075e9) / 16384);
    check("yi-6b", (72e9 - 12.12e9) / 65536); /* 55.8 requests of 16,384 tokens */
    check("yi-6b:tp4", (72e9 - 3.03e9) / 16384);
}

static void test_unknown(void **state) {
    (void)state;
    double tokens;
    cli_error error;
    assert_int_equal(kv_memory_tokens("falcon-7b", &tokens, &error), CLI_BAD_INPUT);
    assert_int_equal(kv_memory_tokens("yi-6b:tp3", &tokens, &error), CLI_BAD_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tokens), cmocka_unit_test(test_unknown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
