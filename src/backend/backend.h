/* SPDX-License-Identifier: Apache-2.0 */
/* What a backend gives to the core, and what the core gives to a backend. */
#ifndef POD_CORE_BACKEND_H
#define POD_CORE_BACKEND_H

#include "families/choice.h"
#include "podattn.h"
#include "schedule/schedule.h"
#include "schedule/workspace.h"

/** One row per backend; no field is NULL unless it says so. Arguments were validated by the core. */
typedef struct pod_backend {
    /** The kernel for these limits and how it cuts work; POD_E_UNSUPPORTED, naming field and value, if it has none. */
    pod_status (*choose)(const pod_device *device, const pod_limits *limits, pod_choice *choice);
    /** POD_E_UNSUPPORTED, naming the field, for tensors or options that it cannot do. */
    pod_status (*check_tensors)(const pod_device *device, const pod_limits *limits, const pod_tensors *tensors);
    /** Plans on the device; NULL: the core plans on the host, into a workspace in host memory. */
    pod_status (*plan_build)(pod_plan *plan, const pod_batch *batch, pod_stream stream);
    /** Names the first bad request of a plan made on the device; NULL: plan_build is, and validation named it. */
    pod_status (*plan_status)(const pod_plan *plan, pod_stream stream);
    /** Waits for a plan made on the device and copies it to the host: header, requests, decode_begin and entries of
     * `copy`, in one block that free(copy->header) frees. NULL: plan_build is. */
    pod_status (*plan_read)(const pod_plan *plan, pod_schedule *copy);
    /** Runs the plan. Strides and scale in `tensors` are filled in. */
    pod_status (*attention)(const pod_plan *plan, const pod_tensors *tensors, pod_stream stream);
    void (*get_info)(const pod_device *device, pod_device_info *info);
    /** Calls `visit` for each of its kernels until that returns non-zero. */
    void (*visit_kernels)(const pod_device *device, int (*visit)(void *context, const pod_kernel_info *info),
                          void *context);
    /** Fills in zeros. NULL: nothing to measure. */
    pod_status (*measure_peak)(const pod_device *device, pod_device_peak *limits);
    void (*close)(pod_device *device);
} pod_backend;

/** First member of every backend's own device. */
struct pod_device {
    const pod_backend *backend;
    char note[256]; /**< why "auto" chose it, or "" */
};

struct pod_plan {
    pod_device *device;
    pod_limits limits;
    pod_choice choice; /**< the kernel that runs it, and its tiling */
    pod_layout layout;
    int is_built;
    void *workspace;   /**< that the plan was built in */
    pod_batch batch;   /**< as given */
    pod_stream stream; /**< that it was built on */
    pod_shape shape;
    pod_schedule schedule; /**< the workspace's arrays */
    int32_t *sort_digits;  /**< the host planner's only scratch beside the workspace */
};

/** Opens of the backends; `argument` is what stands behind the colon, "" if nothing. */
pod_status pod__cuda_open(const char *argument, pod_device **device);
pod_status pod__cpu_open(const char *argument, pod_device **device);
pod_status pod__sim_open(const char *argument, pod_device **device);

#endif
