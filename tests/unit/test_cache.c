/* SPDX-License-Identifier: Apache-2.0 */
/* Addressing of the KV cache: pages of a context, the slot of a key, the offset of a token. */
#include "unit.h"

#include "schedule/cache_core.h"

static void a_context_fills_whole_pages(void **state) {
    (void)state;
    assert_int_equal(pod_core_num_pages(0, 16), 0);
    assert_int_equal(pod_core_num_pages(1, 16), 1);
    assert_int_equal(pod_core_num_pages(16, 16), 1);
    assert_int_equal(pod_core_num_pages(17, 16), 2);
    assert_int_equal(pod_core_num_pages(INT32_MAX, 16), 1 << 27);
}

static void pages_are_numbered_from_zero(void **state) {
    (void)state;
    assert_true(pod_core_is_page(0, 3) && pod_core_is_page(2, 3));
    assert_false(pod_core_is_page(3, 3) || pod_core_is_page(-1, 3) || pod_core_is_page(INT32_MIN, INT32_MAX));
}

static void a_key_is_in_one_slot_of_one_page(void **state) {
    (void)state;
    for (int32_t page_size = 1; page_size <= 40; page_size++) {
        int is_power = (page_size & (page_size - 1)) == 0;
        for (int32_t key = 0; key < 200; key++) {
            pod_key_slot at = pod_core_key_slot(page_size, -1, key);
            assert_int_equal(at.page_idx * page_size + at.slot, key);
            assert_in_range(at.slot, 0, page_size - 1);
            if (!is_power) continue;
            pod_key_slot shifted = pod_core_key_slot(page_size, __builtin_ctz((unsigned)page_size), key);
            assert_true(shifted.page_idx == at.page_idx && shifted.slot == at.slot);
        }
    }
}

static void offsets_reach_beyond_32_bits(void **state) {
    (void)state;
    const pod_cache_strides strides = {INT64_C(1) << 33, INT64_C(1) << 20, 128};
    assert_true(pod_core_cache_offset(&strides, 3, 5000, 7) == (INT64_C(3) << 33) + (INT64_C(5000) << 20) + 7 * 128);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_context_fills_whole_pages),
        cmocka_unit_test(pages_are_numbered_from_zero),
        cmocka_unit_test(a_key_is_in_one_slot_of_one_page),
        cmocka_unit_test(offsets_reach_beyond_32_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
