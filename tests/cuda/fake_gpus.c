/* SPDX-License-Identifier: Apache-2.0 */
/* The fake driver's GPUs: what they are, their contexts, and their memory, which is the host's. Calls that belong to a
 * GPU need one of its contexts, as they do on a real one. */
#include "fake_driver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ALLOCATIONS = 4096, MAX_DEPTH = 8, DEFAULT_SMS = 20 };
enum { SM_SMEM_BYTES = 233472 }; /* an H100's */

CUresult fake_injected(const char *function) {
    const char *wanted = getenv("FAKE_CUDA_FAIL");
    size_t length = strlen(function);
    if (wanted == NULL || strncmp(wanted, function, length) != 0 || wanted[length] != '=') return CUDA_SUCCESS;
    return (CUresult)atoi(wanted + length + 1);
}

int fake_setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text != NULL ? atoi(text) : otherwise;
}

int fake_num_sms(void) {
    return fake_setting("FAKE_CUDA_SMS", DEFAULT_SMS);
}

int fake_sm_smem_bytes(void) {
    return fake_setting("FAKE_CUDA_SM_SMEM", SM_SMEM_BYTES);
}

int fake_num_gpus(void) {
    int count = fake_setting("FAKE_CUDA_GPUS", 1);
    return count < FAKE_MAX_GPUS ? count : FAKE_MAX_GPUS;
}

/* ---- contexts ---- */

struct CUctx_st {
    int gpu;
};

static struct CUctx_st contexts[FAKE_MAX_GPUS]; /* the primary ones */
static _Thread_local CUcontext context_stack[MAX_DEPTH];
static _Thread_local int context_depth;

int fake_current_gpu(void) {
    return context_stack[context_depth] != NULL ? context_stack[context_depth]->gpu : -1;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext *context) {
    FAKE("cuCtxGetCurrent");
    *context = context_stack[context_depth];
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
    context_stack[context_depth] = context;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
    FAKE("cuCtxPushCurrent");
    if (context_depth == MAX_DEPTH - 1 || context == NULL) return CUDA_ERROR_INVALID_CONTEXT;
    context_stack[++context_depth] = context;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    if (context_depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
    *context = context_stack[context_depth--];
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSynchronize(void) {
    FAKE_IN_CONTEXT("cuCtxSynchronize");
    return CUDA_SUCCESS;
}

/* ---- driver and devices ---- */

EXPORT CUresult cuInit(unsigned int flags) {
    (void)flags;
    FAKE("cuInit");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int *version) {
    *version = fake_setting("FAKE_CUDA_VERSION", CUDA_VERSION);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorName(CUresult result, const char **name) {
    *name = result == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_OF_THE_FAKE";
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorString(CUresult result, const char **text) {
    (void)result;
    *text = "the fake driver was told to fail";
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int *count) {
    *count = fake_num_gpus();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < fake_num_gpus() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
    (void)device;
    snprintf(name, (size_t)bytes, "Fake GPU");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetPCIBusId(char *bus, int bytes, CUdevice device) {
    snprintf(bus, (size_t)bytes, "0000:%02x:00.0", (unsigned)device);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    (void)device;
    *bytes = (size_t)1 << 34;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    (void)device;
    int capability = fake_setting("FAKE_CUDA_CAPABILITY", 90);
    *value = 0;
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) *value = capability / 10;
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) *value = capability % 10;
    if (attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT) *value = fake_num_sms();
    if (attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        *value = fake_sm_smem_bytes() - FAKE_RESERVED_SMEM_BYTES;
    if (attribute == CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)
        *value = !fake_setting("FAKE_CUDA_NO_VMM", 0);
    if (attribute == CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS) *value = fake_setting("FAKE_CUDA_PAGEABLE", 0);
    if (attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) *value = fake_sm_smem_bytes();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    FAKE("cuDevicePrimaryCtxRetain");
    if (device < 0 || device >= fake_num_gpus()) return CUDA_ERROR_INVALID_DEVICE;
    contexts[device].gpu = device;
    *context = &contexts[device];
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    (void)device;
    return CUDA_SUCCESS;
}

/* ---- memory ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char *begin, *end;
    int gpu;
} allocations[MAX_ALLOCATIONS];

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    FAKE_IN_CONTEXT("cuMemAlloc");
    char *memory = aligned_alloc(256, (bytes + 255) & ~(size_t)255);
    if (memory == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < MAX_ALLOCATIONS && allocations[i].begin != NULL) i++;
    if (i < MAX_ALLOCATIONS) {
        allocations[i].begin = memory;
        allocations[i].end = memory + bytes;
        allocations[i].gpu = fake_current_gpu();
    }
    pthread_mutex_unlock(&lock);
    if (i == MAX_ALLOCATIONS) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = (CUdeviceptr)(uintptr_t)memory;
    return CUDA_SUCCESS;
}

/** Index of the allocation that holds the address, -1 if none. */
static int find_allocation(CUdeviceptr address) {
    const char *memory = (const char *)(uintptr_t)address;
    for (int i = 0; i < MAX_ALLOCATIONS; i++) {
        if (allocations[i].begin != NULL && memory >= allocations[i].begin && memory < allocations[i].end) return i;
    }
    return -1;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    pthread_mutex_lock(&lock);
    int i = find_allocation(address);
    if (i >= 0) allocations[i].begin = NULL;
    pthread_mutex_unlock(&lock);
    if (i < 0) return CUDA_ERROR_INVALID_VALUE;
    free((void *)(uintptr_t)address);
    return CUDA_SUCCESS;
}

/** The GPU whose memory it is, -1 if it is none's. */
static int gpu_of(CUdeviceptr address) {
    pthread_mutex_lock(&lock);
    int i = find_allocation(address), gpu = i >= 0 ? allocations[i].gpu : fake_memory_gpu(address);
    pthread_mutex_unlock(&lock);
    return gpu;
}

/** No GPU gives another one peer access. */
EXPORT CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    FAKE_IN_CONTEXT("cuPointerGetAttribute");
    int gpu = gpu_of(address);
    if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL && gpu >= 0) {
        *(int *)value = gpu;
        return CUDA_SUCCESS;
    }
    if (attribute != CU_POINTER_ATTRIBUTE_DEVICE_POINTER || gpu != fake_current_gpu()) return CUDA_ERROR_INVALID_VALUE;
    *(CUdeviceptr *)value = address;
    return CUDA_SUCCESS;
}

static CUresult copy(uintptr_t to, uintptr_t from, size_t bytes) {
    memcpy((void *)to, (const void *)from, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
    return copy((uintptr_t)to, (uintptr_t)from, bytes);
}

EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
    return copy((uintptr_t)to, (uintptr_t)from, bytes);
}

EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy((uintptr_t)to, (uintptr_t)from, bytes);
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    FAKE("cuMemcpyDtoDAsync");
    if (stream != NULL && stream->capturing != NULL) return CUDA_ERROR_NOT_SUPPORTED;
    return copy((uintptr_t)to, (uintptr_t)from, bytes);
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    (void)stream;
    FAKE("cuMemcpyHtoDAsync");
    return copy((uintptr_t)to, (uintptr_t)from, bytes);
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    (void)stream;
    FAKE("cuMemcpyDtoHAsync");
    return copy((uintptr_t)to, (uintptr_t)from, bytes);
}

EXPORT CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *c, CUstream stream) {
    (void)stream;
    FAKE("cuMemcpy2DAsync");
    for (size_t row = 0; row < c->Height; row++) {
        copy((uintptr_t)c->dstDevice + row * c->dstPitch, (uintptr_t)c->srcHost + row * c->srcPitch, c->WidthInBytes);
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t bytes) {
    memset((void *)(uintptr_t)to, value, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
    (void)stream;
    FAKE("cuMemsetD8Async");
    return cuMemsetD8_v2(to, value, bytes);
}

EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    FAKE_IN_CONTEXT("cuMemGetInfo");
    *free_bytes = *total_bytes = (size_t)1 << 30;
    return CUDA_SUCCESS;
}
