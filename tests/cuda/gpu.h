/* SPDX-License-Identifier: Apache-2.0 */
/* What tests and benchmarks need of a GPU beside the library: memory, streams, events, graphs. Over the driver, loaded
 * at run time, so that the programs start everywhere. Every failure ends the program with a line on stderr. */
#ifndef POD_TEST_GPU_H
#define POD_TEST_GPU_H

#include <cuda.h>

#include "base/driver_functions.h" /* after <cuda.h>, whose types it takes */

#include <stddef.h>
#include <stdint.h>

enum { GPU_EXIT_SKIPPED = 77 };

typedef struct gpu {
    CUdevice device;
    CUcontext context;
    char name[128];
    pod_driver_functions driver;
} gpu;

/** Ends the program if the call failed. */
#define GPU_CHECK(gpu, call) gpu_check(gpu, (gpu)->driver.call, #call, __FILE__, __LINE__)
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
