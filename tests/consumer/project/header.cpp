/* SPDX-License-Identifier: Apache-2.0 */
/* The header is C++ as well. */
#include <podattn.h>

extern "C" int header_works_in_cpp(void) {
    pod_limits limits = pod_limits_init();
    return limits.struct_size == sizeof limits && pod_status_name(POD_E_LIMIT)[0] == 'P';
}
