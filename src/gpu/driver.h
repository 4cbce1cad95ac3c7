/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA driver, loaded at run time: the library links nothing of CUDA and starts on machines without it.
 * <cuda.h> is used for its types and constants only. */
#ifndef POD_CUDA_DRIVER_H
#define POD_CUDA_DRIVER_H

#include "podattn.h"

#include <cuda.h>

/** Every driver function that the library calls: our name, the exported symbol, its arguments. The symbols carry their
 * version, so that a newer toolkit does not ask for more than an older driver has. */
#define POD_CUDA_FUNCTIONS(X)                                                                                          \
    X(init, "cuInit", (unsigned int flags))                                                                            \
    X(driver_get_version, "cuDriverGetVersion", (int *version))                                                        \
    X(get_error_name, "cuGetErrorName", (CUresult result, const char **name))                                          \
    X(get_error_string, "cuGetErrorString", (CUresult result, const char **text))                                      \
    X(device_get_count, "cuDeviceGetCount", (int *count))                                                              \
    X(device_get, "cuDeviceGet", (CUdevice * device, int ordinal))                                                     \
    X(device_get_name, "cuDeviceGetName", (char *name, int bytes, CUdevice device))                                    \
    X(device_total_mem, "cuDeviceTotalMem_v2", (size_t * bytes, CUdevice device))                                      \
    X(device_get_attribute, "cuDeviceGetAttribute", (int *value, CUdevice_attribute attribute, CUdevice device))       \
    X(primary_ctx_retain, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))                          \
    X(primary_ctx_release, "cuDevicePrimaryCtxRelease_v2", (CUdevice device))                                          \
    X(ctx_get_current, "cuCtxGetCurrent", (CUcontext * context))                                                       \
    X(ctx_push_current, "cuCtxPushCurrent_v2", (CUcontext context))                                                    \
    X(ctx_pop_current, "cuCtxPopCurrent_v2", (CUcontext * context))                                                    \
    X(module_load_data, "cuModuleLoadData", (CUmodule * module, const void *image))                                    \
    X(module_unload, "cuModuleUnload", (CUmodule module))                                                              \
    X(module_get_function, "cuModuleGetFunction", (CUfunction * function, CUmodule module, const char *name))          \
    X(func_set_attribute, "cuFuncSetAttribute", (CUfunction function, CUfunction_attribute attribute, int value))      \
    X(max_active_blocks, "cuOccupancyMaxActiveBlocksPerMultiprocessor",                                                \
      (int *count, CUfunction function, int threads, size_t shared_bytes))                                             \
    X(launch_kernel, "cuLaunchKernel",                                                                                 \
      (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,       \
       unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params,          \
       void **extra))                                                                                                  \
    X(pointer_get_attribute, "cuPointerGetAttribute",                                                                  \
      (void *value, CUpointer_attribute attribute, CUdeviceptr pointer))                                               \
    X(memcpy_htod_async, "cuMemcpyHtoDAsync_v2", (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))    \
    X(memcpy_dtoh_async, "cuMemcpyDtoHAsync_v2", (void *to, CUdeviceptr from, size_t bytes, CUstream stream))          \
    X(memcpy_2d_async, "cuMemcpy2DAsync_v2", (const CUDA_MEMCPY2D *copy, CUstream stream))                             \
    X(stream_is_capturing, "cuStreamIsCapturing", (CUstream stream, CUstreamCaptureStatus * status))                   \
    X(stream_synchronize, "cuStreamSynchronize", (CUstream stream))                                                    \
    X(stream_create, "cuStreamCreate", (CUstream * stream, unsigned int flags))                                        \
    X(stream_destroy, "cuStreamDestroy_v2", (CUstream stream))                                                         \
    X(mem_get_info, "cuMemGetInfo_v2", (size_t * free_bytes, size_t * total_bytes))                                    \
    X(mem_alloc, "cuMemAlloc_v2", (CUdeviceptr * address, size_t bytes))                                               \
    X(mem_free, "cuMemFree_v2", (CUdeviceptr address))                                                                 \
    X(memset_d8_async, "cuMemsetD8Async", (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))        \
    X(device_get_pci_bus_id, "cuDeviceGetPCIBusId", (char *bus, int bytes, CUdevice device))

/** The same for those that may be missing: NULL where the driver is too old for them. */
#define POD_CUDA_OPTIONAL_FUNCTIONS(X)                                                                                 \
    X(tensor_map_encode_tiled, "cuTensorMapEncodeTiled",                                                               \
      (CUtensorMap * map, CUtensorMapDataType type, cuuint32_t rank, void *address, const cuuint64_t *extents,         \
       const cuuint64_t *strides_bytes, const cuuint32_t *box, const cuuint32_t *element_strides,                      \
       CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,                 \
       CUtensorMapFloatOOBfill fill))

typedef struct pod_cuda_driver {
    void *library;
#define POD_CUDA_MEMBER_(name, symbol, arguments) CUresult(*name) arguments;
    POD_CUDA_FUNCTIONS(POD_CUDA_MEMBER_)
    POD_CUDA_OPTIONAL_FUNCTIONS(POD_CUDA_MEMBER_)
#undef POD_CUDA_MEMBER_
} pod_cuda_driver;

/** Loads and starts the driver. POD_E_NO_DEVICE, saying what to do: there is none, it is too old for the kernels in
 * this library, or it does not start. */
pod_status pod__cuda_driver_load(pod_cuda_driver *driver);
void pod__cuda_driver_unload(pod_cuda_driver *driver);

/** POD_OK, or the status that fits `result`, with a message: what was being done, the driver's words, what to do. */
pod_status pod__cuda_check(const pod_cuda_driver *driver, CUresult result, const char *doing);

#endif
