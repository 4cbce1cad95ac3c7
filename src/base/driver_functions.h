/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA driver's functions that library, command line and tests call, loaded at run time: nothing links CUDA, and
 * everything starts on machines without it. With <cuda.h> included before, its types are used; without, the few below.
 */
#ifndef POD_BASE_DRIVER_FUNCTIONS_H
#define POD_BASE_DRIVER_FUNCTIONS_H

#include "base/dynlib.h"

#include <stddef.h>
#include <stdint.h>

#ifndef CUDA_VERSION
typedef int CUresult, CUdevice, CUdevice_attribute, CUfunction_attribute, CUpointer_attribute;
typedef int CUstreamCaptureStatus, CUstreamCaptureMode;
typedef int CUtensorMapDataType, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion;
typedef int CUtensorMapFloatOOBfill, CUmemAllocationGranularity_flags;
typedef void *CUcontext, *CUmodule, *CUfunction, *CUstream, *CUevent, *CUgraph, *CUgraphExec;
typedef unsigned long long CUdeviceptr, CUmemGenericAllocationHandle;
typedef uint32_t cuuint32_t;
typedef uint64_t cuuint64_t;
typedef struct CUDA_MEMCPY2D CUDA_MEMCPY2D;
typedef struct CUtensorMap CUtensorMap;
typedef struct CUmemAllocationProp CUmemAllocationProp;
typedef struct CUmemAccessDesc CUmemAccessDesc;
enum { CUDA_SUCCESS = 0, CUDA_ERROR_OUT_OF_MEMORY = 2, CU_EVENT_DEFAULT = 0, CU_EVENT_DISABLE_TIMING = 2 };
enum { CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 };
#endif

/** Our name, the exported symbol, its arguments. The symbols carry their version, so that a newer toolkit does not ask
 * for more than an older driver has. */
#define POD_DRIVER_FUNCTIONS(X)                                                                                        \
    X(init, "cuInit", (unsigned int flags))                                                                            \
    X(driver_get_version, "cuDriverGetVersion", (int *version))                                                        \
    X(get_error_name, "cuGetErrorName", (CUresult result, const char **name))                                          \
    X(get_error_string, "cuGetErrorString", (CUresult result, const char **text))                                      \
    X(device_get_count, "cuDeviceGetCount", (int *count))                                                              \
    X(device_get, "cuDeviceGet", (CUdevice * device, int ordinal))                                                     \
    X(device_get_name, "cuDeviceGetName", (char *name, int bytes, CUdevice device))                                    \
    X(device_get_pci_bus_id, "cuDeviceGetPCIBusId", (char *bus, int bytes, CUdevice device))                           \
    X(device_total_mem, "cuDeviceTotalMem_v2", (size_t * bytes, CUdevice device))                                      \
    X(device_get_attribute, "cuDeviceGetAttribute", (int *value, CUdevice_attribute attribute, CUdevice device))       \
    X(primary_ctx_retain, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))                          \
    X(primary_ctx_release, "cuDevicePrimaryCtxRelease_v2", (CUdevice device))                                          \
    X(ctx_get_current, "cuCtxGetCurrent", (CUcontext * context))                                                       \
    X(ctx_set_current, "cuCtxSetCurrent", (CUcontext context))                                                         \
    X(ctx_push_current, "cuCtxPushCurrent_v2", (CUcontext context))                                                    \
    X(ctx_pop_current, "cuCtxPopCurrent_v2", (CUcontext * context))                                                    \
    X(ctx_synchronize, "cuCtxSynchronize", (void))                                                                     \
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
    X(mem_get_info, "cuMemGetInfo_v2", (size_t * free_bytes, size_t * total_bytes))                                    \
    X(mem_alloc, "cuMemAlloc_v2", (CUdeviceptr * address, size_t bytes))                                               \
    X(mem_free, "cuMemFree_v2", (CUdeviceptr address))                                                                 \
    X(mem_get_allocation_granularity, "cuMemGetAllocationGranularity",                                                 \
      (size_t * bytes, const CUmemAllocationProp *properties, CUmemAllocationGranularity_flags which))                 \
    X(mem_address_reserve, "cuMemAddressReserve",                                                                      \
      (CUdeviceptr * address, size_t bytes, size_t alignment, CUdeviceptr wanted, unsigned long long flags))           \
    X(mem_address_free, "cuMemAddressFree", (CUdeviceptr address, size_t bytes))                                       \
    X(mem_create, "cuMemCreate",                                                                                       \
      (CUmemGenericAllocationHandle * handle, size_t bytes, const CUmemAllocationProp *properties,                     \
       unsigned long long flags))                                                                                      \
    X(mem_release, "cuMemRelease", (CUmemGenericAllocationHandle handle))                                              \
    X(mem_map, "cuMemMap",                                                                                             \
      (CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,                          \
       unsigned long long flags))                                                                                      \
    X(mem_set_access, "cuMemSetAccess",                                                                                \
      (CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count))                                \
    X(mem_unmap, "cuMemUnmap", (CUdeviceptr address, size_t bytes))                                                    \
    X(memcpy_htod, "cuMemcpyHtoD_v2", (CUdeviceptr to, const void *from, size_t bytes))                                \
    X(memcpy_dtoh, "cuMemcpyDtoH_v2", (void *to, CUdeviceptr from, size_t bytes))                                      \
    X(memcpy_dtod, "cuMemcpyDtoD_v2", (CUdeviceptr to, CUdeviceptr from, size_t bytes))                                \
    X(memcpy_dtod_async, "cuMemcpyDtoDAsync_v2", (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))    \
    X(memcpy_htod_async, "cuMemcpyHtoDAsync_v2", (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))    \
    X(memcpy_dtoh_async, "cuMemcpyDtoHAsync_v2", (void *to, CUdeviceptr from, size_t bytes, CUstream stream))          \
    X(memcpy_2d_async, "cuMemcpy2DAsync_v2", (const CUDA_MEMCPY2D *copy, CUstream stream))                             \
    X(memset_d8, "cuMemsetD8_v2", (CUdeviceptr to, unsigned char value, size_t bytes))                                 \
    X(memset_d8_async, "cuMemsetD8Async", (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))        \
    X(stream_create, "cuStreamCreate", (CUstream * stream, unsigned int flags))                                        \
    X(stream_destroy, "cuStreamDestroy_v2", (CUstream stream))                                                         \
    X(stream_synchronize, "cuStreamSynchronize", (CUstream stream))                                                    \
    X(stream_wait_event, "cuStreamWaitEvent", (CUstream stream, CUevent event, unsigned int flags))                    \
    X(stream_is_capturing, "cuStreamIsCapturing", (CUstream stream, CUstreamCaptureStatus * status))                   \
    X(stream_begin_capture, "cuStreamBeginCapture_v2", (CUstream stream, CUstreamCaptureMode mode))                    \
    X(stream_end_capture, "cuStreamEndCapture", (CUstream stream, CUgraph * graph))                                    \
    X(event_create, "cuEventCreate", (CUevent * event, unsigned int flags))                                            \
    X(event_destroy, "cuEventDestroy_v2", (CUevent event))                                                             \
    X(event_record, "cuEventRecord", (CUevent event, CUstream stream))                                                 \
    X(event_synchronize, "cuEventSynchronize", (CUevent event))                                                        \
    X(event_elapsed_time, "cuEventElapsedTime", (float *milliseconds, CUevent begin, CUevent end))                     \
    X(graph_instantiate, "cuGraphInstantiateWithFlags",                                                                \
      (CUgraphExec * executable, CUgraph graph, unsigned long long flags))                                             \
    X(graph_launch, "cuGraphLaunch", (CUgraphExec executable, CUstream stream))                                        \
    X(graph_exec_destroy, "cuGraphExecDestroy", (CUgraphExec executable))                                              \
    X(graph_destroy, "cuGraphDestroy", (CUgraph graph))

/** The same for those that may be missing: NULL where the driver is too old for them. */
#define POD_DRIVER_OPTIONAL_FUNCTIONS(X)                                                                               \
    X(tensor_map_encode_tiled, "cuTensorMapEncodeTiled",                                                               \
      (CUtensorMap * map, CUtensorMapDataType type, cuuint32_t rank, void *address, const cuuint64_t *extents,         \
       const cuuint64_t *strides_bytes, const cuuint32_t *box, const cuuint32_t *element_strides,                      \
       CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,                 \
       CUtensorMapFloatOOBfill fill))

typedef struct pod_driver_functions {
    void *library; /**< NULL: not loaded */
#define POD_DRIVER_MEMBER_(name, symbol, arguments) CUresult(*name) arguments;
    POD_DRIVER_FUNCTIONS(POD_DRIVER_MEMBER_)
    POD_DRIVER_OPTIONAL_FUNCTIONS(POD_DRIVER_MEMBER_)
#undef POD_DRIVER_MEMBER_
} pod_driver_functions;

/** Loads the driver, without starting it. Returns NULL, or what is not there: the library, which is then not loaded, or
 * the first of its symbols. */
static inline const char *pod__driver_functions_load(pod_driver_functions *driver) {
    static const char name[] = "libcuda.so.1";
    memset(driver, 0, sizeof *driver);
    /* RTLD_NODELETE: the driver has threads of its own and must not vanish under them. */
    driver->library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (driver->library == NULL) return name;
#define POD_DRIVER_FIND_(function, symbol, arguments)                                                                  \
    if (!pod__find_symbol(driver->library, symbol, (void *)&driver->function)) return symbol;
    POD_DRIVER_FUNCTIONS(POD_DRIVER_FIND_)
#undef POD_DRIVER_FIND_
#define POD_DRIVER_FIND_(function, symbol, arguments)                                                                  \
    pod__find_symbol(driver->library, symbol, (void *)&driver->function);
    POD_DRIVER_OPTIONAL_FUNCTIONS(POD_DRIVER_FIND_)
#undef POD_DRIVER_FIND_
    return NULL;
}

/** One that was never loaded is allowed. */
static inline void pod__driver_functions_unload(pod_driver_functions *driver) {
    if (driver->library != NULL) dlclose(driver->library);
    driver->library = NULL;
}

#endif
