/* SPDX-License-Identifier: Apache-2.0 */
/* Reading counters, with a script in the place of Nsight Compute. */
#include "bench/ncu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/podattn-ncu-XXXXXX", path[64], arguments[64];

/** A program "ncu" that keeps its arguments and does what `lines` say. */
static void write_ncu(const char *lines) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\necho \"$*\" >%s\n%s\n", arguments, lines);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0700), 0);
}

static int set_up(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(path, sizeof path, "%s/ncu", folder);
    snprintf(arguments, sizeof arguments, "%s/arguments", folder);
    return setenv("PATH", folder, 1);
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    unlink(arguments);
    return rmdir(folder);
}

static void test_absent(void **state) {
    (void)state;
    ncu_counters counters;
    cli_error error;
    assert_false(ncu_is_there());
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused", 1, &counters, &error), CLI_BAD_INPUT);
    assert_string_equal(error.line, "ncu: No such file or directory");
}

static void test_counters(void **state) {
    (void)state;
    char line[1024];
    ncu_counters counters;
    cli_error error;
    write_ncu("echo '==PROF== Connected to process 7'\n"
              "echo '\"ID\",\"Grid Size\",\"dram__throughput.avg.pct_of_peak_sustained_elapsed\","
              "\"sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed\","
              "\"sm__throughput.avg.pct_of_peak_sustained_elapsed\"'\n"
              "echo '\"\",\"\",\"%\",\"%\",\"%\"'\n"
              "echo '\"0\",\"(132, 1, 1)\",\"81.25\",\"55.5\",\"1,062.75\"'");
    assert_true(ncu_is_there());
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused", 1, &counters, &error), CLI_OK);
    assert_true(counters.dram_percent == 81.25);
    assert_true(counters.tensor_percent == 55.5);
    assert_true(counters.sm_percent == 1062.75);
    FILE *file = fopen(arguments, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_non_null(strstr(line, " bench utilisation --device cuda:0 --launch case/fused\n"));
    assert_non_null(strstr(line, "--clock-control none"));
}

static void test_several_kernels(void **state) {
    (void)state;
    char line[1024];
    ncu_counters counters[2];
    cli_error error;
    write_ncu("echo '\"ID\",\"dram__throughput.avg.pct_of_peak_sustained_elapsed\","
              "\"sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed\","
              "\"sm__throughput.avg.pct_of_peak_sustained_elapsed\"'\n"
              "echo '\"\",\"%\",\"%\",\"%\"'\n"
              "echo '\"0\",\"81\",\"55\",\"62\"'\n"
              "echo '\"1\",\"11\",\"n/a\",\"92\"'");
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused/prefill", 2, counters, &error), CLI_OK);
    assert_true(counters[0].dram_percent == 81 && counters[0].tensor_percent == 55 && counters[0].sm_percent == 62);
    assert_true(counters[1].dram_percent == 11 && counters[1].sm_percent == 92);
    assert_true(isnan(counters[1].tensor_percent));
    FILE *file = fopen(arguments, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_non_null(strstr(line, "--launch-skip 4 --launch-count 2 "));
    ncu_counters more[3];
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused/prefill/decode", 3, more, &error), CLI_BAD_INPUT);
}

/** ncu 2025.3 adds a hundred columns about the device and the launch, some of them empty, on both sides. */
static void test_many_columns(void **state) {
    (void)state;
    ncu_counters counters;
    cli_error error;
    write_ncu("many() { i=0; while [ $i -lt 300 ]; do printf \"$1\" $i; i=$((i + 1)); done; }\n"
              "echo \"\\\"ID\\\"$(many ',\"a%s\"'),\\\"dram__throughput.avg.pct_of_peak_sustained_elapsed\\\",\\\"\\\","
              "\\\"sm__throughput.avg.pct_of_peak_sustained_elapsed\\\"$(many ',\"b%s\"')\"\n"
              "echo '\"\"'\n"
              "echo \"\\\"0\\\"$(many ',\"1,0%s\"'),\\\"89.71\\\",\\\"\\\",\\\"27.52\\\"$(many ',\"%s\"')\"");
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused", 1, &counters, &error), CLI_OK);
    assert_true(counters.dram_percent == 89.71 && counters.sm_percent == 27.52 && isnan(counters.tensor_percent));
}

static void test_failures(void **state) {
    (void)state;
    ncu_counters counters;
    cli_error error;
    write_ncu("exit 9");
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused", 1, &counters, &error), CLI_BAD_INPUT);
    assert_string_equal(error.line, "ncu ended with exit code 9");
    write_ncu("echo '==PROF== Connected'\necho '==ERROR== ERR_NVGPUCTRPERM: no permission'\nexit 1");
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused", 1, &counters, &error), CLI_BAD_INPUT);
    assert_string_equal(error.line, "ncu ended with exit code 1: ERR_NVGPUCTRPERM: no permission");
    write_ncu("echo '==ERROR== ERR_NVGPUCTRPERM'");
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused", 1, &counters, &error), CLI_BAD_INPUT);
    assert_non_null(strstr(error.line, "permission"));
    write_ncu(
        "echo '\"ID\",\"dram__throughput.avg.pct_of_peak_sustained_elapsed\"'\necho '\"\",\"%\"'\necho '\"0\",\"50\"'");
    assert_int_equal(ncu_count("utilisation", "cuda:0", "case/fused", 1, &counters, &error), CLI_BAD_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_absent), cmocka_unit_test(test_counters),
                                       cmocka_unit_test(test_several_kernels), cmocka_unit_test(test_many_columns),
                                       cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
