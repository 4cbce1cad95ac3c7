/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdio.h>

static void *const POISON = (void *)&POISON;

static void assert_refused(const char *name, pod_status status, const char *message) {
    pod_device *device = POISON;
    assert_fails(pod_device_open(name, &device), status, message);
    assert_null(device);
}

static pod_device_info open_and_describe(const char *name) {
    pod_device *device = NULL;
    pod_device_info info = pod_device_info_init();
    assert_ok(pod_device_open(name, &device));
    assert_ok(pod_device_get_info(device, &info));
    pod_device_close(device);
    return info;
}

static void unknown_names_are_refused(void **state) {
    (void)state;
    static const char known[] = "is no device; known are auto, cpu[:threads], cuda:N, sim:TARGET";
    static const char *const names[] = {"", "gpu", "CPU", "cpu4", "sim h100", ":"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char message[256];
        snprintf(message, sizeof message, "name = \"%s\" %s", names[i], known);
        assert_refused(names[i], POD_E_ARGUMENT, message);
    }
    assert_refused(NULL, POD_E_ARGUMENT, "name is NULL");
    assert_fails(pod_device_open("cpu", NULL), POD_E_ARGUMENT, "device is NULL");
    assert_refused("auto:1", POD_E_ARGUMENT, "name = \"auto:1\": auto takes no argument");
}

static void sim_targets(void **state) {
    (void)state;
    static const char *const bad[] = {"",         "h200",   "sms=",   "sms=0", "sms=1025",
                                      "sms=12x",  "sms=-1", "sms= 1", "H100",  "sms=99999999999999999999",
                                      "h100 more"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[64], message[256];
        snprintf(name, sizeof name, "sim:%s", bad[i]);
        snprintf(message, sizeof message,
                 "sim target \"%s\" is none of h100, h100,kernel=sm80, a100, cpu, sms=N (N from 1 to 1024)", bad[i]);
        assert_refused(name, POD_E_ARGUMENT, message);
    }
    assert_int_equal(open_and_describe("sim:h100").num_ctas, 132);
    assert_int_equal(open_and_describe("sim:h100,kernel=sm80").num_ctas, 2 * 132);
    assert_int_equal(open_and_describe("sim:a100").num_ctas, 2 * 108);
    assert_int_equal(open_and_describe("sim:sms=1").num_ctas, 2);
    pod_device_info info = open_and_describe("sim:sms=1024");
    assert_int_equal(info.num_ctas, 1024);
    assert_string_equal(info.backend, "sim");
    assert_string_equal(info.name, "sms=1024");
    assert_string_equal(info.kernel, "none");
    assert_int_equal(info.num_threads, 0);
}

static void cpu_threads(void **state) {
    (void)state;
    static const char *const bad[] = {"0", "-1", "4x", "99999999999999999999", "1025", " 1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[64], message[256];
        snprintf(name, sizeof name, "cpu:%s", bad[i]);
        snprintf(message, sizeof message, "cpu threads \"%s\" is no number from 1 to 1024", bad[i]);
        assert_refused(name, POD_E_ARGUMENT, message);
    }
    assert_refused("cpu:isa=", POD_E_ARGUMENT, "cpu option \"isa=\" is not isa=NAME");
    assert_refused("cpu:2,", POD_E_ARGUMENT, "cpu option \"\" is not isa=NAME");
    assert_refused("cpu:2,fast", POD_E_ARGUMENT, "cpu option \"fast\" is not isa=NAME");
    assert_refused("cpu:isa=sse2", POD_E_ARGUMENT, "isa=sse2 is none of avx512-bf16, avx512, avx2, generic");
    pod_device_info info = open_and_describe("cpu:3");
    assert_string_equal(info.backend, "cpu");
    assert_int_equal(info.num_threads, 3);
    assert_string_equal(info.note, "");
    assert_true(open_and_describe("cpu").num_threads >= 1);
    assert_string_equal(open_and_describe("cpu:2,isa=generic").kernel, "generic");
}

static void every_device_has_the_cpus_schedule_on_the_cpu(void **state) {
    (void)state;
    int32_t num_ctas = open_and_describe("sim:cpu").num_ctas;
    assert_int_equal(open_and_describe("cpu:1").num_ctas, num_ctas);
    assert_int_equal(open_and_describe("cpu:7").num_ctas, num_ctas);
}

static void auto_says_why(void **state) {
    (void)state;
    pod_device_info info = open_and_describe("auto");
    assert_string_not_equal(info.note, "");
    assert_string_not_equal(info.backend, "sim");
}

static void a_gpu_that_is_not_there_is_refused(void **state) {
    (void)state;
    pod_device *device = POISON;
    assert_int_equal(pod_device_open("cuda:99", &device), POD_E_NO_DEVICE);
    assert_null(device);
    assert_string_not_equal(pod_error_message(), "");
}

static void info_checks_its_arguments(void **state) {
    (void)state;
    pod_device *device;
    assert_ok(pod_device_open("sim:cpu", &device));
    pod_device_info info = pod_device_info_init();
    assert_fails(pod_device_get_info(NULL, &info), POD_E_ARGUMENT, "device is NULL");
    assert_fails(pod_device_get_info(device, NULL), POD_E_ARGUMENT, "device_info is NULL");
    memset(&info, 0x5a, sizeof info);
    pod_device_info before = info;
    info.struct_size = before.struct_size = 4;
    char message[128];
    snprintf(message, sizeof message,
             "device_info.struct_size = 4 is not a size of this struct (%zu); start from pod_device_info_init()",
             sizeof info);
    assert_fails(pod_device_get_info(device, &info), POD_E_ARGUMENT, message);
    assert_memory_equal(&info, &before, sizeof info);
    pod_device_close(device);
    pod_device_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(sim_targets),
        cmocka_unit_test(cpu_threads),
        cmocka_unit_test(every_device_has_the_cpus_schedule_on_the_cpu),
        cmocka_unit_test(auto_says_why),
        cmocka_unit_test(a_gpu_that_is_not_there_is_refused),
        cmocka_unit_test(info_checks_its_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
