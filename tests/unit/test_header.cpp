/* SPDX-License-Identifier: Apache-2.0 */
/* The header compiles as C++, and its functions link with C linkage. */
#include "podattn.h"

#include <cstdio>

int main() {
    pod_limits limits = pod_limits_init();
    limits.q_heads = limits.kv_heads = limits.page_size = 1;
    limits.head_dim = 8;
    limits.max_requests = limits.max_q_tokens = limits.max_kv_len = 1;
    pod_device *device = nullptr;
    pod_workspace workspace = pod_workspace_init();
    pod_status status = pod_device_open("sim:cpu", &device);
    if (status == POD_OK) status = pod_workspace_size(device, &limits, &workspace);
    pod_device_close(device);
    if (status == POD_OK && workspace.plan_bytes > 0) return 0;
    std::fprintf(stderr, "%s: %s\n", pod_status_name(status), pod_error_message());
    return 1;
}
