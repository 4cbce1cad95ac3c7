/* SPDX-License-Identifier: Apache-2.0 */
#include "backend.h"
#include "status.h"

pod_status pod__cpu_open(const char *argument, pod_device **device) {
    (void)argument;
    (void)device;
    return pod__fail(POD_E_UNSUPPORTED, "the cpu backend is not built yet");
}
