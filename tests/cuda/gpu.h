/* SPDX-License-Identifier: Apache-2.0 */
/* What tests and benchmarks need of a GPU beside the library: memory, streams, events, graphs. Over the driver, loaded
 * at run time, so that the programs start everywhere. Every failure ends the program with a line on stderr. */
#ifndef POD_TEST_GPU_H
#define POD_TEST_GPU_H

#include <cuda.h>
#include <stddef.h>
#include <stdint.h>

enum { GPU_EXIT_SKIPPED = 77 };

#define GPU_FUNCTIONS(X)                                                                                               \
    X(init, "cuInit", (unsigned int flags))                                                                            \
    X(driver_get_version, "cuDriverGetVersion", (int *version))                                                        \
    X(get_error_name, "cuGetErrorName", (CUresult result, const char **name))                                          \
    X(device_get, "cuDeviceGet", (CUdevice * device, int ordinal))                                                     \
    X(device_get_name, "cuDeviceGetName", (char *name, int bytes, CUdevice device))                                    \
    X(device_get_attribute, "cuDeviceGetAttribute", (int *value, CUdevice_attribute attribute, CUdevice device))       \
    X(primary_ctx_retain, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))                          \
    X(primary_ctx_release, "cuDevicePrimaryCtxRelease_v2", (CUdevice device))                                          \
    X(ctx_set_current, "cuCtxSetCurrent", (CUcontext context))                                                         \
    X(ctx_synchronize, "cuCtxSynchronize", (void))                                                                     \
    X(mem_alloc, "cuMemAlloc_v2", (CUdeviceptr * address, size_t bytes))                                               \
    X(mem_free, "cuMemFree_v2", (CUdeviceptr address))                                                                 \
    X(memcpy_htod, "cuMemcpyHtoD_v2", (CUdeviceptr to, const void *from, size_t bytes))                                \
    X(memcpy_dtoh, "cuMemcpyDtoH_v2", (void *to, CUdeviceptr from, size_t bytes))                                      \
    X(memcpy_dtod, "cuMemcpyDtoD_v2", (CUdeviceptr to, CUdeviceptr from, size_t bytes))                                \
    X(memset_d8, "cuMemsetD8_v2", (CUdeviceptr to, unsigned char value, size_t bytes))                                 \
    X(stream_create, "cuStreamCreate", (CUstream * stream, unsigned int flags))                                        \
    X(stream_destroy, "cuStreamDestroy_v2", (CUstream stream))                                                         \
    X(stream_synchronize, "cuStreamSynchronize", (CUstream stream))                                                    \
    X(stream_wait_event, "cuStreamWaitEvent", (CUstream stream, CUevent event, unsigned int flags))                    \
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

typedef struct gpu {
    CUdevice device;
    CUcontext context;
    char name[128];
#define GPU_MEMBER_(name, symbol, arguments) CUresult(*name) arguments;
    GPU_FUNCTIONS(GPU_MEMBER_)
#undef GPU_MEMBER_
} gpu;

/** Ends the program if the call failed. */
#define GPU_CHECK(gpu, call) gpu_check(gpu, (gpu)->call, #call, __FILE__, __LINE__)
void gpu_check(const gpu *gpu, CUresult result, const char *call, const char *file, int line);

/** Opens the GPU's primary context and makes it current on this thread. Returns 0 where there is no driver or GPU. */
int gpu_open(gpu *gpu, int ordinal);
void gpu_close(gpu *gpu);

/** Memory on the GPU, at least one byte, aligned to 256. */
void *gpu_alloc(const gpu *gpu, size_t bytes);
void gpu_free(const gpu *gpu, void *memory);
void gpu_upload(const gpu *gpu, void *to, const void *from, size_t bytes);
void gpu_download(const gpu *gpu, void *to, const void *from, size_t bytes);
void gpu_fill(const gpu *gpu, void *to, unsigned char value, size_t bytes);
/** A copy of host memory on the GPU; NULL of NULL. */
void *gpu_copy(const gpu *gpu, const void *from, size_t bytes);

#endif
