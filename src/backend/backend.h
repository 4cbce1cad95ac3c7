/* SPDX-License-Identifier: Apache-2.0 */
/* What a backend gives to the core, and what the core gives to a backend. */
#ifndef POD_CORE_BACKEND_H
#define POD_CORE_BACKEND_H

#include "cache/append.h"
#include "cache/memory_provider.h"
#include "families/choice.h"
#include "podattn.h"
#include "schedule/schedule.h"
#include "schedule/workspace.h"

/** One pod_attention(): validated, strides and scale filled in. */
typedef struct pod_call {
    const pod_plan *plan;
    const pod_shape *shape;       /**< of the layer's mask */
    const pod_schedule *schedule; /**< of the layer's mask */
    pod_tensors tensors;
    pod_cache cache;
    pod_stream stream;
} pod_call;

/** One row per backend; no field is NULL unless it says so. Arguments were validated before. */
typedef struct pod_backend {
    /** The kernel for these limits and how it cuts work; POD_E_UNSUPPORTED, naming field and value, if it has none. */
    pod_status (*choose)(const pod_device *device, const pod_limits *limits, pod_choice *choice);
    /** POD_E_UNSUPPORTED, naming the field, for tensors, caches or options that it cannot do. */
    pod_status (*check_call)(const pod_call *call);
    /** Plans all masks on the device; NULL: they are planned on the host, into a workspace in host memory. */
    pod_status (*plan_build)(pod_plan *plan);
    /** Names the first bad request of a plan made on the device; NULL: plan_build is, and validation named it. */
    pod_status (*plan_check)(const pod_plan *plan, pod_stream stream);
    /** Waits for a plan made on the device and copies one mask's to the host: header, requests, decode_begin and
     * entries of `copy`, in one block that free(copy->header) frees. NULL: plan_build is. */
    pod_status (*plan_read)(const pod_plan *plan, int32_t mask, pod_schedule *copy);
    /** Runs the plan. */
    pod_status (*attention)(const pod_call *call);
    /** POD_E_UNSUPPORTED, naming the field, for tensors or caches that it cannot append. */
    pod_status (*check_append)(const pod_append_job *job);
    /** Appends to a cache, through the device of a plan. NULL, like check_append: it computes nothing. */
    pod_status (*append)(const pod_device *device, const pod_append_job *job, pod_stream stream);
    /** Merges partial results; strides are filled in. NULL: it computes nothing. */
    pod_status (*merge)(const pod_device *device, const pod_parts *parts, pod_stream stream);
    void (*get_info)(const pod_device *device, pod_device_info *info);
    /** Calls `visit` for each of its kernels until that returns non-zero. */
    void (*visit_kernels)(const pod_device *device, int (*visit)(void *context, const pod_kernel_info *info),
                          void *context);
    /** Fills in zeros. NULL: nothing to measure. */
    pod_status (*measure_peak)(const pod_device *device, pod_device_peak *peak);
    /** Memory for a virtual cache. NULL: it has none. */
    pod_status (*open_memory)(pod_device *device, pod_memory_provider *provider);
    void (*close)(pod_device *device);
} pod_backend;

/** First member of every backend's own device. */
struct pod_device {
    const pod_backend *backend;
    char note[256]; /**< why "auto" chose it, or "" */
};

struct pod_plan {
    pod_device *device;
    pod_limits limits; /**< of this library's size, defaults filled in */
    pod_choice choice; /**< the kernel that runs it, and its tiling */
    pod_layout layout;
    uint64_t signature; /**< of the layout and of this plan: no other plan's schedule has it */
    int is_attached, is_built;
    int is_overwritten; /**< another plan was built in its workspace since; set by other threads too */
    pod_plan *next;     /**< in the list of all plans */
    pod_workspace workspace;
    pod_batch batch; /**< of the last build; its arrays are the workspace's copies where there are some */
    pod_stream stream;
    int32_t num_masks;
    pod_shape shapes[POD_MAX_MASKS];
    pod_schedule schedules[POD_MAX_MASKS]; /**< the workspace's arrays */
    uint64_t digests[POD_MAX_MASKS];       /**< of their requests, if the host planned */
    int32_t *sort_digits;                  /**< the host planner's only scratch beside the workspace */
};

/** Opens of the backends; `argument` is what follows the colon, "" if nothing. */
pod_status pod__cuda_open(const char *argument, pod_device **device);
pod_status pod__cpu_open(const char *argument, pod_device **device);
pod_status pod__sim_open(const char *argument, pod_device **device);

#endif
