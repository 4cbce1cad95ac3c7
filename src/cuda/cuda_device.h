/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU that was opened: its primary context and the kernels loaded into it. Never changes after it was opened, so any
 * number of threads may use it. */
#ifndef POD_CUDA_DEVICE_H
#define POD_CUDA_DEVICE_H

#include "backend/backend.h"
#include "cuda/cuda_options.h"
#include "gpu/driver.h"
#include "gpu/images.h"

typedef struct pod_cuda_device {
    pod_device base;
    pod_cuda_driver driver;
    pod_gpu_options options;
    int32_t number; /**< N of "cuda:N" */
    CUdevice ordinal;
    CUcontext context; /**< the primary one; NULL until retained */
    CUmodule modules[POD_CUDA_NUM_IMAGES];
    CUfunction plan_kernel, merge_kernel, append_kernel;
    CUfunction peak_kernel, peak_fill_kernel;
    CUfunction kernels[POD_NUM_VARIANTS]; /**< by row of variants.def; NULL: not for this chip */
    pod_chip chip;
    char name[128];
    int32_t max_smem_bytes;        /**< of one CTA */
    int32_t reads_pageable_memory; /**< any host pointer is valid on the device */
    int64_t memory_bytes;
} pod_cuda_device;

/** Hands a driver's error on to the caller. */
#define POD_CUDA_TRY(cuda, call, doing) POD_TRY(pod__cuda_check(&(cuda)->driver, (cuda)->driver.call, doing))

/** Makes the primary context current for this thread unless it is; `*pushed` says what pod__cuda_leave() has to undo.
 */
pod_status pod__cuda_enter(const pod_cuda_device *cuda, int *pushed);
void pod__cuda_leave(const pod_cuda_device *cuda, int pushed);

/** Calls `work` with the primary context current, and returns what it returned. */
pod_status pod__cuda_in_context(const pod_device *device,
                                pod_status (*work)(const pod_cuda_device *cuda, void *argument), void *argument);

/** POD_E_ARGUMENT for a pointer that the GPU cannot reach, of the host or of another GPU: the commonest mistake, caught
 * before it becomes a fault that ends the process's context. NULL passes, and so does everything where the GPU follows
 * any pointer of the host. Call it inside the context. */
pod_status pod__cuda_check_pointer(const pod_cuda_device *cuda, const char *field, const void *pointer);
/** POD_E_UNSUPPORTED for a pointer, or a stride of elements of `element_bytes`, that is not a multiple of 16 bytes. */
pod_status pod__cuda_check_aligned(const char *field, const void *pointer);
pod_status pod__cuda_check_stride(const char *field, int64_t stride, size_t element_bytes);
/** The same for both tensors of a cache. */
pod_status pod__cuda_check_cache(const pod_cache *cache, size_t element_bytes);
/** `*is_capturing`: whether a graph is being captured from the stream. */
pod_status pod__cuda_is_capturing(const pod_cuda_device *cuda, CUstream stream, int *is_capturing);

/* The backend's functions: see backend.h. */
pod_status pod__cuda_check_call(const pod_call *call);
pod_status pod__cuda_plan_build(pod_plan *plan);
pod_status pod__cuda_plan_check(const pod_plan *plan, pod_stream stream);
pod_status pod__cuda_plan_read(const pod_plan *plan, int32_t mask, pod_schedule *copy);
pod_status pod__cuda_attention(const pod_call *call);
pod_status pod__cuda_check_append(const pod_append_job *job);
pod_status pod__cuda_append(const pod_device *device, const pod_append_job *job, pod_stream stream);
pod_status pod__cuda_merge(const pod_device *device, const pod_parts *parts, pod_stream stream);
pod_status pod__cuda_measure_peak(const pod_device *device, pod_device_peak *peak);
pod_status pod__cuda_open_memory(pod_device *device, pod_memory_provider *provider);

#endif
