/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of an instruction set by a trial: with kernels whose speed is given, and with those of the processor. */
#include "cpu/cpu_kernels.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- kernels that only use time ---- */

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/** Of the processor's time, which is what the trial counts: other programs do not change it. */
static void use(double microseconds) {
    double begin_s = cpu_seconds();
    while (cpu_seconds() - begin_s < 1e-6 * microseconds) {
    }
}

static int turns[3];

#define TAKES(set, index, microseconds)                                                                                \
    static void set##_prefill(const cpu_job *job, const cpu_item *item, cpu_scratch *scratch) {                        \
        (void)job, (void)item, (void)scratch;                                                                          \
        turns[index]++;                                                                                                \
        use(microseconds);                                                                                             \
    }                                                                                                                  \
    static const cpu_kernels set = {.name = #set, .prefill = set##_prefill}

enum { FAST_US = 100, SLOW_US = 200, ALIKE_US = 103, SLOW_TURNS = 6 };
TAKES(first_slow, 0, SLOW_US);
TAKES(first_alike, 0, ALIKE_US);
TAKES(second, 1, FAST_US);
TAKES(third_slow, 2, SLOW_US);
TAKES(first_late, 0, turns[0] <= SLOW_TURNS ? 3 * SLOW_US : FAST_US); /* as on a core whose clock has yet to rise */

static const cpu_kernels *choose(const cpu_kernels *a, const cpu_kernels *b, const cpu_kernels *c) {
    const cpu_kernels *const sets[] = {a, b, c};
    memset(turns, 0, sizeof turns);
    return pod__cpu_fastest_of(sets, 3);
}

static void the_fastest_wins_in_any_place(void **state) {
    (void)state;
    assert_ptr_equal(choose(&first_slow, &second, &third_slow), &second);
    assert_ptr_equal(choose(&second, &first_slow, &third_slow), &second);
    assert_ptr_equal(choose(&first_slow, &third_slow, &second), &second);
}

static void of_equals_the_first_wins(void **state) {
    (void)state;
    assert_ptr_equal(choose(&first_alike, &second, &third_slow), &first_alike);
}

static void what_the_processor_lacks_is_not_tried(void **state) {
    (void)state;
    assert_ptr_equal(choose(NULL, &third_slow, &second), &second);
    assert_ptr_equal(choose(NULL, NULL, &third_slow), &third_slow);
    assert_null(choose(NULL, NULL, NULL));
}

static void plain_c_is_the_last_choice(void **state) {
    (void)state;
    assert_ptr_equal(choose(NULL, &first_slow, &pod__cpu_kernels_generic), &first_slow);
    assert_ptr_equal(choose(NULL, NULL, &pod__cpu_kernels_generic), &pod__cpu_kernels_generic);
}

static void a_slow_beginning_does_not_count(void **state) {
    (void)state;
    assert_ptr_equal(choose(&first_late, &third_slow, NULL), &first_late);
    assert_true(turns[0] > SLOW_TURNS);
    assert_int_equal(turns[0], turns[2]);
}

/* ---- without memory for the trial ---- */

static int has_memory = 1;

/* The linker chooses these names. NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return has_memory ? __real_aligned_alloc(alignment, bytes) : NULL;
}

static void without_memory_it_is_the_first(void **state) {
    (void)state;
    has_memory = 0;
    assert_ptr_equal(choose(NULL, &first_slow, &second), &first_slow);
    assert_int_equal(turns[0] + turns[1], 0);
    has_memory = 1;
}

/* ---- on this processor ---- */

static void a_device_takes_the_choice(void **state) {
    (void)state;
    const cpu_kernels *chosen = pod__cpu_fastest_kernels(), *kernels, *first = NULL;
    assert_non_null(chosen);
    assert_ptr_equal(chosen, pod__cpu_fastest_kernels());
    for (int32_t i = 0; first == NULL && pod__cpu_kernels_at(i, &kernels); i++) first = kernels;
    assert_true(chosen != &pod__cpu_kernels_generic || first == &pod__cpu_kernels_generic);

    pod_device *device;
    pod_device_info info = pod_device_info_init();
    assert_ok(pod_device_open("cpu:1", &device));
    assert_ok(pod_device_get_info(device, &info));
    assert_string_equal(info.kernel, chosen->name);
    pod_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_wins_in_any_place),
        cmocka_unit_test(of_equals_the_first_wins),
        cmocka_unit_test(what_the_processor_lacks_is_not_tried),
        cmocka_unit_test(plain_c_is_the_last_choice),
        cmocka_unit_test(a_slow_beginning_does_not_count),
        cmocka_unit_test(without_memory_it_is_the_first),
        cmocka_unit_test(a_device_takes_the_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
