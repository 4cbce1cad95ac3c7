/* SPDX-License-Identifier: Apache-2.0 */
/* The sizes of all public structs in every version that is accepted: here a new field shows itself. A version that adds
 * a field adds the new size behind the old ones. */
#ifndef POD_API_STRUCTS_H
#define POD_API_STRUCTS_H

#include "base/struct.h"

#define POD_LAYOUTS_(name, ...) static const pod_struct_layouts pod__##name##_layouts = {#name, {__VA_ARGS__}}

/* 0.1's limits ended with max_kv_len. */
#define POD_LIMITS_SIZE_0_1 48
POD_LAYOUTS_(limits, POD_LIMITS_SIZE_0_1, sizeof(pod_limits));
POD_LAYOUTS_(mask, sizeof(pod_mask));
POD_LAYOUTS_(batch, sizeof(pod_batch));
POD_LAYOUTS_(workspace, sizeof(pod_workspace));
POD_LAYOUTS_(cache, sizeof(pod_cache));
POD_LAYOUTS_(tensors, sizeof(pod_tensors));
POD_LAYOUTS_(rope, sizeof(pod_rope));
POD_LAYOUTS_(append, sizeof(pod_append));
POD_LAYOUTS_(parts, sizeof(pod_parts));
POD_LAYOUTS_(device_info, sizeof(pod_device_info));
POD_LAYOUTS_(device_peak, sizeof(pod_device_peak));
POD_LAYOUTS_(plan_info, sizeof(pod_plan_info));
POD_LAYOUTS_(virtual_config, sizeof(pod_virtual_config));
POD_LAYOUTS_(virtual_info, sizeof(pod_virtual_info));
POD_LAYOUTS_(virtual_stats, sizeof(pod_virtual_stats));
#undef POD_LAYOUTS_

#endif
