/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/status.h"

#include <pthread.h>
#include <stdio.h>

static void names_and_texts_are_those_of_the_list(void **state) {
    (void)state;
#define CHECK_STATUS(name, value, text)                                                                                \
    assert_int_equal(name, value);                                                                                     \
    assert_string_equal(pod_status_name(name), #name);                                                                 \
    assert_string_equal(pod_status_text(name), text);
    POD_STATUS_LIST(CHECK_STATUS)
#undef CHECK_STATUS
    assert_string_equal(pod_status_name((pod_status)99), "POD_E_?");
    assert_string_equal(pod_status_text((pod_status)99), "an unknown status");
}

static void version_is_that_of_the_header(void **state) {
    (void)state;
    char numbers[32];
    snprintf(numbers, sizeof numbers, "%d.%d.%d", POD_VERSION_MAJOR, POD_VERSION_MINOR, POD_VERSION_PATCH);
    assert_string_equal(pod_version(), POD_VERSION_STRING);
    assert_string_equal(pod_version(), numbers);
}

static void *fail_elsewhere(void *message_before) {
    *(int *)message_before = pod_error_message()[0] == '\0';
    pod__fail(POD_E_LIMIT, "another thread's");
    return NULL;
}

static void message_belongs_to_its_thread(void **state) {
    (void)state;
    int was_empty = 0;
    pthread_t thread;
    pod__fail(POD_E_ARGUMENT, "mine, %d", 1);
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &was_empty), 0);
    pthread_join(thread, NULL);
    assert_true(was_empty);
    assert_string_equal(pod_error_message(), "mine, 1");
}

static void success_leaves_the_message_alone(void **state) {
    (void)state;
    pod_device *device;
    assert_int_equal(pod_device_open("nonsense", &device), POD_E_ARGUMENT);
    char before[512];
    snprintf(before, sizeof before, "%s", pod_error_message());
    assert_ok(pod_device_open("sim:h100", &device));
    pod_device_close(device);
    assert_ok(pod_device_open("auto", &device)); /* whose search for a GPU may fail inside */
    pod_device_close(device);
    assert_string_equal(pod_error_message(), before);
}

static void long_message_is_cut_to_one_line(void **state) {
    (void)state;
    char name[2000];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    assert_int_equal(pod__fail(POD_E_DEVICE, "%s", name), POD_E_DEVICE);
    assert_true(strlen(pod_error_message()) < 512);
    assert_null(strchr(pod_error_message(), '\n'));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_texts_are_those_of_the_list), cmocka_unit_test(version_is_that_of_the_header),
        cmocka_unit_test(message_belongs_to_its_thread),         cmocka_unit_test(success_leaves_the_message_alone),
        cmocka_unit_test(long_message_is_cut_to_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
