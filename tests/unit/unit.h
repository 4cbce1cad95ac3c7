/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka and what all unit tests need beside it. */
#ifndef POD_TEST_UNIT_H
#define POD_TEST_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "podattn.h"

/** The call fails with exactly this status and this message. */
#define assert_fails(call, expected_status, expected_message)                                                          \
    do {                                                                                                               \
        pod_status unit_status_ = (call);                                                                              \
        assert_string_equal(pod_status_name(unit_status_), pod_status_name(expected_status));                          \
        assert_string_equal(pod_error_message(), expected_message);                                                    \
    } while (0)

/** The call succeeds; else its message is shown. */
#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        if ((call) != POD_OK) fail_msg("%s: %s", #call, pod_error_message());                                          \
    } while (0)

#endif
