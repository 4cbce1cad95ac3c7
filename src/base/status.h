/* SPDX-License-Identifier: Apache-2.0 */
/* How the library fails: a status for the program, one line for the person. */
#ifndef POD_CORE_STATUS_H
#define POD_CORE_STATUS_H

#include "podattn.h"

/** Stores the formatted line as this thread's message and returns `status`, so that callers write `return
 * pod__fail(...)`. */
pod_status pod__fail(pod_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Hands a failure on to the caller. */
#define POD_TRY(call)                                                                                                  \
    do {                                                                                                               \
        pod_status pod_try_status_ = (call);                                                                           \
        if (pod_try_status_ != POD_OK) return pod_try_status_;                                                         \
    } while (0)

#endif
