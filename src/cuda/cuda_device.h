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
    CUfunction plan_kernel;
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

/* The backend's functions; see backend.h. */
pod_status pod__cuda_check_tensors(const pod_device *device, const pod_limits *limits, const pod_tensors *tensors);
/** POD_E_ARGUMENT for a pointer that the GPU cannot reach: the commonest mistake, caught before it becomes a fault that
 * ends the process's context. NULL passes. Call it inside the context. */
pod_status pod__cuda_check_pointer(const pod_cuda_device *cuda, const char *field, const void *pointer);
/** Copies from the device, after all that `stream` was given, and waits for it. */
pod_status pod__cuda_read_back(const pod_cuda_device *cuda, void *to, const void *from, size_t bytes, CUstream stream);
/** POD_E_STATE while `stream` is being captured: then nothing can be read back. */
pod_status pod__cuda_check_not_capturing(const pod_cuda_device *cuda, CUstream stream);
pod_status pod__cuda_plan_read(const pod_plan *plan, pod_schedule *copy);
pod_status pod__cuda_plan_build(pod_plan *plan, const pod_batch *batch, pod_stream stream);
pod_status pod__cuda_plan_status(const pod_plan *plan, pod_stream stream);
pod_status pod__cuda_measure_peak(const pod_device *device, pod_device_peak *limits);
pod_status pod__cuda_attention(const pod_plan *plan, const pod_tensors *tensors, pod_stream stream);

#endif
