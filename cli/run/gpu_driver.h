/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU's driver, loaded at run time, as far as this program uses it: no header of CUDA's is needed to build it. */
#ifndef CLI_GPU_DRIVER_H
#define CLI_GPU_DRIVER_H

#include "cli_error.h"
#include "podattn.h"

typedef int gpu_result;
typedef uintptr_t gpu_address;
typedef void *gpu_event;
typedef void *gpu_module;
typedef void *gpu_function;
enum { GPU_SUCCESS = 0, GPU_OUT_OF_MEMORY = 2, GPU_EVENT_TIMED = 0, GPU_EVENT_UNTIMED = 2 };

#define GPU_FUNCTIONS(X)                                                                                               \
    X(init, "cuInit", (unsigned flags))                                                                                \
    X(get_error_name, "cuGetErrorName", (gpu_result result, const char **name))                                        \
    X(device_get, "cuDeviceGet", (int *device, int ordinal))                                                           \
    X(device_get_attribute, "cuDeviceGetAttribute", (int *value, int attribute, int device))                           \
    X(device_get_pci_bus_id, "cuDeviceGetPCIBusId", (char *bus, int bytes, int device))                                \
    X(primary_ctx_retain, "cuDevicePrimaryCtxRetain", (void **context, int device))                                    \
    X(primary_ctx_release, "cuDevicePrimaryCtxRelease_v2", (int device))                                               \
    X(ctx_set_current, "cuCtxSetCurrent", (void *context))                                                             \
    X(mem_get_info, "cuMemGetInfo_v2", (size_t * free_bytes, size_t * total_bytes))                                    \
    X(mem_alloc, "cuMemAlloc_v2", (gpu_address * address, size_t bytes))                                               \
    X(mem_free, "cuMemFree_v2", (gpu_address address))                                                                 \
    X(memcpy_htod, "cuMemcpyHtoD_v2", (gpu_address to, const void *from, size_t bytes))                                \
    X(memcpy_dtoh, "cuMemcpyDtoH_v2", (void *to, gpu_address from, size_t bytes))                                      \
    X(memcpy_dtod, "cuMemcpyDtoD_v2", (gpu_address to, gpu_address from, size_t bytes))                                \
    X(stream_create, "cuStreamCreate", (pod_stream * stream, unsigned flags))                                          \
    X(stream_destroy, "cuStreamDestroy_v2", (pod_stream stream))                                                       \
    X(stream_wait_event, "cuStreamWaitEvent", (pod_stream stream, gpu_event event, unsigned flags))                    \
    X(event_create, "cuEventCreate", (gpu_event * event, unsigned flags))                                              \
    X(event_destroy, "cuEventDestroy_v2", (gpu_event event))                                                           \
    X(event_record, "cuEventRecord", (gpu_event event, pod_stream stream))                                             \
    X(event_synchronize, "cuEventSynchronize", (gpu_event event))                                                      \
    X(event_elapsed_time, "cuEventElapsedTime", (float *milliseconds, gpu_event begin, gpu_event end))                 \
    X(module_load_data, "cuModuleLoadData", (gpu_module * module, const void *image))                                  \
    X(module_unload, "cuModuleUnload", (gpu_module module))                                                            \
    X(module_get_function, "cuModuleGetFunction", (gpu_function * function, gpu_module module, const char *name))      \
    X(func_set_attribute, "cuFuncSetAttribute", (gpu_function function, int attribute, int value))                     \
    X(launch_kernel, "cuLaunchKernel",                                                                                 \
      (gpu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,   \
       unsigned block_z, unsigned shared_bytes, pod_stream stream, void **params, void **extra))

typedef struct gpu_driver {
    void *library; /**< NULL until loaded */
#define GPU_MEMBER_(name, symbol, arguments) gpu_result(*name) arguments;
    GPU_FUNCTIONS(GPU_MEMBER_)
#undef GPU_MEMBER_
} gpu_driver;

/** Fill with zeros before. */
cli_exit gpu_driver_load(gpu_driver *driver, cli_error *error);
void gpu_driver_unload(gpu_driver *driver);

/** Looks a symbol up and stores its address where `function` points. Returns 0 where there is none. */
int gpu_driver_find(void *library, const char *symbol, void *function);

/** Fails with a line that says what was being done and what the driver calls the error. */
cli_exit gpu_driver_check(const gpu_driver *driver, gpu_result result, const char *doing, cli_error *error);

/** Calls a function of the driver and hands its failure on to the caller. */
#define GPU_TRY(driver, call, doing) CLI_TRY(gpu_driver_check(driver, (driver)->call, doing, error))

#endif
