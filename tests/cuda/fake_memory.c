/* SPDX-License-Identifier: Apache-2.0 */
/* The fake driver's virtual memory: the host's, mapped piece by piece, under the rules of the driver's documentation.
 * Whoever breaks one gets the error that the driver gives. A page is readable only after cuMemSetAccess(). */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the C library reads it */
#include "fake_driver.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/** FAKE_CUDA_PAGE_BYTES changes it. */
enum { PAGE_BYTES = 2 << 20, MAX_PAGES = 4096, MAX_MAPPINGS = 4096, MAX_RANGES = 16 };

typedef struct fake_page {
    size_t bytes;
    int file, is_released, gpu, num_mappings;
} fake_page;

typedef struct fake_mapping {
    char *at;
    size_t bytes;
    int page, is_readable, gpu; /* that may read it */
} fake_mapping;

typedef struct fake_range {
    char *at;
    size_t bytes;
} fake_range;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fake_page pages[MAX_PAGES]; /* a handle is a number here, plus 1 */
static fake_mapping mappings[MAX_MAPPINGS];
static fake_range ranges[MAX_RANGES];

static size_t granularity(void) {
    return (size_t)fake_setting("FAKE_CUDA_PAGE_BYTES", PAGE_BYTES);
}

static int is_a_gpu(const CUmemLocation *location) {
    return location->type == CU_MEM_LOCATION_TYPE_DEVICE && location->id >= 0 && location->id < fake_num_gpus();
}

/** The mapping that begins there, or NULL. */
static fake_mapping *find_mapping(CUdeviceptr address, size_t bytes) {
    char *at = (char *)(uintptr_t)address;
    for (int i = 0; i < MAX_MAPPINGS; i++) {
        if (mappings[i].bytes > 0 && mappings[i].at == at && mappings[i].bytes == bytes) return &mappings[i];
    }
    return NULL;
}

/** Whether any mapping has a byte of it. */
static int is_touched(const char *at, size_t bytes) {
    for (int i = 0; i < MAX_MAPPINGS; i++) {
        if (mappings[i].bytes > 0 && mappings[i].at < at + bytes && at < mappings[i].at + mappings[i].bytes) return 1;
    }
    return 0;
}

static int is_reserved(const char *at, size_t bytes) {
    for (int i = 0; i < MAX_RANGES; i++) {
        if (ranges[i].bytes > 0 && at >= ranges[i].at && at + bytes <= ranges[i].at + ranges[i].bytes) return 1;
    }
    return 0;
}

int fake_memory_gpu(CUdeviceptr address) {
    const char *at = (const char *)(uintptr_t)address;
    int gpu = -1;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_MAPPINGS; i++) {
        const fake_mapping *m = &mappings[i];
        if (m->bytes > 0 && m->is_readable && at >= m->at && at < m->at + m->bytes) gpu = m->gpu;
    }
    pthread_mutex_unlock(&lock);
    return gpu;
}

static CUresult locked(CUresult (*work)(void *), void *argument) {
    pthread_mutex_lock(&lock);
    CUresult result = work(argument);
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                              CUmemAllocationGranularity_flags which) {
    FAKE("cuMemGetAllocationGranularity");
    if (which != CU_MEM_ALLOC_GRANULARITY_MINIMUM || !is_a_gpu(&properties->location)) return CUDA_ERROR_INVALID_VALUE;
    *bytes = granularity();
    return CUDA_SUCCESS;
}

/* ---- addresses ---- */

static CUresult add_range(void *argument) {
    fake_range *range = argument;
    for (int i = 0; i < MAX_RANGES; i++) {
        if (ranges[i].bytes > 0) continue;
        void *at = mmap(NULL, range->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
        range->at = at;
        ranges[i] = *range;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wanted,
                                    unsigned long long flags) {
    FAKE("cuMemAddressReserve");
    fake_range range = {NULL, bytes};
    if (bytes == 0 || bytes % granularity() != 0 || (alignment & (alignment - 1)) != 0 || wanted != 0 || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = locked(add_range, &range);
    *address = (CUdeviceptr)(uintptr_t)range.at;
    return result;
}

static CUresult remove_range(void *argument) {
    const fake_range *range = argument;
    if (is_touched(range->at, range->bytes)) return CUDA_ERROR_INVALID_VALUE;
    for (int i = 0; i < MAX_RANGES; i++) {
        if (ranges[i].at != range->at || ranges[i].bytes != range->bytes) continue;
        munmap(ranges[i].at, ranges[i].bytes);
        ranges[i] = (fake_range){NULL, 0};
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
    FAKE("cuMemAddressFree");
    fake_range range = {(char *)(uintptr_t)address, bytes};
    return locked(remove_range, &range);
}

/* ---- pages ---- */

static CUresult add_page(void *argument) {
    fake_page *page = argument;
    for (int i = 0; i < MAX_PAGES; i++) {
        if (pages[i].bytes > 0) continue;
        page->file = memfd_create("fake-page", MFD_CLOEXEC);
        if (page->file < 0 || ftruncate(page->file, (off_t)page->bytes) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
        pages[i] = *page;
        page->num_mappings = i + 1; /* its handle */
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                            unsigned long long flags) {
    FAKE("cuMemCreate");
    if (bytes == 0 || bytes % granularity() != 0 || flags != 0 || properties->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
        !is_a_gpu(&properties->location))
        return CUDA_ERROR_INVALID_VALUE;
    fake_page page = {.bytes = bytes, .gpu = properties->location.id};
    CUresult result = locked(add_page, &page);
    *handle = (CUmemGenericAllocationHandle)page.num_mappings;
    return result;
}

/** The driver keeps a page until its last mapping is gone. */
static void free_page(fake_page *page) {
    if (!page->is_released || page->num_mappings > 0) return;
    close(page->file);
    *page = (fake_page){0};
}

static CUresult release_page(void *argument) {
    CUmemGenericAllocationHandle handle = *(CUmemGenericAllocationHandle *)argument;
    if (handle < 1 || handle > MAX_PAGES || pages[handle - 1].bytes == 0 || pages[handle - 1].is_released)
        return CUDA_ERROR_INVALID_VALUE;
    pages[handle - 1].is_released = 1;
    free_page(&pages[handle - 1]);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    FAKE("cuMemRelease");
    return locked(release_page, &handle);
}

/* ---- mappings ---- */

static CUresult add_mapping(void *argument) {
    const fake_mapping *wanted = argument;
    if (wanted->page < 0 || wanted->page >= MAX_PAGES) return CUDA_ERROR_INVALID_VALUE;
    fake_page *page = &pages[wanted->page];
    if (page->bytes != wanted->bytes || page->is_released || !is_reserved(wanted->at, wanted->bytes) ||
        is_touched(wanted->at, wanted->bytes))
        return CUDA_ERROR_INVALID_VALUE;
    for (int i = 0; i < MAX_MAPPINGS; i++) {
        if (mappings[i].bytes > 0) continue;
        mappings[i] = *wanted;
        page->num_mappings++;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                         unsigned long long flags) {
    FAKE("cuMemMap");
    fake_mapping mapping = {(char *)(uintptr_t)address, bytes, (int)handle - 1, 0, 0};
    if (bytes == 0 || address % granularity() != 0 || offset != 0 || flags != 0) return CUDA_ERROR_INVALID_VALUE;
    return locked(add_mapping, &mapping);
}

static CUresult make_readable(void *argument) {
    fake_mapping *mapping = argument;
    int flags = MAP_SHARED | MAP_FIXED;
    fake_mapping *found = find_mapping((CUdeviceptr)(uintptr_t)mapping->at, mapping->bytes);
    if (found == NULL || pages[found->page].gpu != mapping->gpu) return CUDA_ERROR_INVALID_VALUE;
    if (mmap(found->at, found->bytes, PROT_READ | PROT_WRITE, flags, pages[found->page].file, 0) == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    found->is_readable = 1;
    found->gpu = mapping->gpu;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count) {
    FAKE("cuMemSetAccess");
    fake_mapping mapping = {(char *)(uintptr_t)address, bytes, 0, 0, access->location.id};
    if (count != 1 || !is_a_gpu(&access->location) || access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
        return CUDA_ERROR_INVALID_VALUE;
    return locked(make_readable, &mapping);
}

static CUresult remove_mapping(void *argument) {
    const fake_mapping *mapping = argument;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    fake_mapping *found = find_mapping((CUdeviceptr)(uintptr_t)mapping->at, mapping->bytes);
    if (found == NULL || mmap(found->at, found->bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED)
        return CUDA_ERROR_INVALID_VALUE;
    fake_page *page = &pages[found->page];
    found->bytes = 0;
    page->num_mappings--;
    free_page(page);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
    FAKE("cuMemUnmap");
    fake_mapping mapping = {(char *)(uintptr_t)address, bytes, 0, 0, 0};
    return locked(remove_mapping, &mapping);
}

/** For tests: pages, mappings and ranges that there are. */
EXPORT void fake_memory_count(int *num_pages, int *num_mappings, int *num_ranges) {
    *num_pages = *num_mappings = *num_ranges = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_PAGES; i++) *num_pages += pages[i].bytes > 0;
    for (int i = 0; i < MAX_MAPPINGS; i++) *num_mappings += mappings[i].bytes > 0;
    for (int i = 0; i < MAX_RANGES; i++) *num_ranges += ranges[i].bytes > 0;
    pthread_mutex_unlock(&lock);
}
