/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for virtual caches: the driver's calls for virtual memory. A page is the driver's handle. */
#include "base/status.h"
#include "cuda/cuda_device.h"

#include <stdlib.h>

enum { LOADED_TOKENS = 64 }; /* the sm90 kernels load whole boxes, of at most so many tokens */

typedef struct cuda_memory {
    const pod_cuda_device *cuda;
    CUmemAllocationProp properties;
} cuda_memory;

static CUdeviceptr address_of(const void *address) {
    return (CUdeviceptr)(uintptr_t)address;
}

/** The calls are made on any thread: each enters the context that it needs. */
#define IN_CONTEXT(memory, call, doing)                                                                                \
    int pushed;                                                                                                        \
    POD_TRY(pod__cuda_enter((memory)->cuda, &pushed));                                                                 \
    pod_status status = pod__cuda_check(&(memory)->cuda->driver, (memory)->cuda->driver.call, doing);                  \
    pod__cuda_leave((memory)->cuda, pushed);                                                                           \
    return status

static pod_status cuda_reserve(void *context, int64_t bytes, int64_t page_bytes, void **address) {
    const cuda_memory *memory = context;
    CUdeviceptr found = 0;
    int pushed;
    int64_t alignment = (page_bytes & (page_bytes - 1)) == 0 ? page_bytes : 0; /* 0: the driver's own */
    POD_TRY(pod__cuda_enter(memory->cuda, &pushed));
    CUresult result = memory->cuda->driver.mem_address_reserve(&found, (size_t)bytes, (size_t)alignment, 0, 0);
    pod_status status = pod__cuda_check(&memory->cuda->driver, result, "reserving addresses of the GPU");
    pod__cuda_leave(memory->cuda, pushed);
    if (status == POD_OK) *address = (void *)(uintptr_t)found;
    return status;
}

static pod_status cuda_unreserve(void *context, void *address, int64_t bytes) {
    const cuda_memory *memory = context;
    IN_CONTEXT(memory, mem_address_free(address_of(address), (size_t)bytes), "giving back addresses of the GPU");
}

static pod_status cuda_create(void *context, int64_t page_bytes, uint64_t *page) {
    const cuda_memory *memory = context;
    CUmemGenericAllocationHandle handle = 0;
    int pushed;
    POD_TRY(pod__cuda_enter(memory->cuda, &pushed));
    CUresult result = memory->cuda->driver.mem_create(&handle, (size_t)page_bytes, &memory->properties, 0);
    pod_status status = pod__cuda_check(&memory->cuda->driver, result, "taking a page of the GPU's memory");
    pod__cuda_leave(memory->cuda, pushed);
    if (status == POD_OK) *page = handle;
    return status;
}

static pod_status cuda_release(void *context, int64_t page_bytes, uint64_t page) {
    const cuda_memory *memory = context;
    (void)page_bytes;
    IN_CONTEXT(memory, mem_release(page), "giving back a page of the GPU's memory");
}

static pod_status cuda_map(void *context, void *address, int64_t page_bytes, uint64_t page) {
    const cuda_memory *memory = context;
    IN_CONTEXT(memory, mem_map(address_of(address), (size_t)page_bytes, 0, page, 0), "mapping a page of the GPU");
}

static pod_status cuda_allow(void *context, void *address, int64_t page_bytes) {
    const cuda_memory *memory = context;
    const CUmemAccessDesc access = {.location = memory->properties.location,
                                    .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    IN_CONTEXT(memory, mem_set_access(address_of(address), (size_t)page_bytes, &access, 1),
               "giving access to a page of the GPU");
}

static pod_status cuda_unmap(void *context, void *address, int64_t page_bytes) {
    const cuda_memory *memory = context;
    IN_CONTEXT(memory, mem_unmap(address_of(address), (size_t)page_bytes), "unmapping a page of the GPU");
}

static pod_status cuda_copy(void *context, void *to, const void *from, int64_t bytes, pod_stream stream) {
    const cuda_memory *memory = context;
    IN_CONTEXT(memory, memcpy_dtod_async(address_of(to), address_of(from), (size_t)bytes, (CUstream)stream),
               "copying the end of a prefix");
}

/** A forked child cannot use the driver, and has nothing there. */
static void cuda_abandon(void *context, void *address, int64_t bytes) {
    (void)context, (void)address, (void)bytes;
}

static void cuda_close(void *context) {
    free(context);
}

/** Compression and other processes' access are left off: plain pages of this GPU. */
static pod_status describe_pages(const pod_cuda_device *cuda, CUmemAllocationProp *properties, size_t *granularity) {
    int is_supported = 0;
    POD_CUDA_TRY(
        cuda,
        device_get_attribute(&is_supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, cuda->ordinal),
        "asking for the GPU's properties");
    if (!is_supported) {
        return pod__fail(POD_E_UNSUPPORTED, "cuda:%d, %s, has no virtual memory management", cuda->number, cuda->name);
    }
    *properties = (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = cuda->ordinal}};
    POD_CUDA_TRY(cuda, mem_get_allocation_granularity(granularity, properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                 "asking for the size of the GPU's pages");
    if (*granularity > 0) return POD_OK;
    return pod__fail(POD_E_DEVICE, "asking for the size of the GPU's pages: the driver says 0");
}

pod_status pod__cuda_open_memory(pod_device *device, pod_memory_provider *provider) {
    static const pod_memory_functions functions = {
        .reserve = cuda_reserve,
        .unreserve = cuda_unreserve,
        .create = cuda_create,
        .release = cuda_release,
        .map = cuda_map,
        .allow = cuda_allow,
        .unmap = cuda_unmap,
        .copy = cuda_copy,
        .abandon = cuda_abandon,
        .close = cuda_close,
    };
    const pod_cuda_device *cuda = (const pod_cuda_device *)device;
    CUmemAllocationProp properties;
    size_t granularity = 0;
    int pushed;
    POD_TRY(pod__cuda_enter(cuda, &pushed));
    pod_status status = describe_pages(cuda, &properties, &granularity);
    pod__cuda_leave(cuda, pushed);
    if (status != POD_OK) return status;
    cuda_memory *memory = malloc(sizeof *memory);
    if (memory == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for a memory provider");
    *memory = (cuda_memory){cuda, properties};
    *provider = (pod_memory_provider){.call = &functions,
                                      .context = memory,
                                      .granularity_bytes = (int64_t)granularity,
                                      .gpu = 1 + cuda->number,
                                      .read_tokens = LOADED_TOKENS};
    return POD_OK;
}
