/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the C library reads it */
#include "base/status.h"
#include "cache/memory_provider.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/** A page is its number in the file, counted in pages. */
typedef struct host_memory {
    int file;
    uint64_t num_pages; /**< that the file is long */
    uint64_t *free_pages, num_free, free_capacity;
} host_memory;

static pod_status fail_with(const char *doing, int64_t bytes, int error) {
    char text[96] = "";
    /* The GNU strerror_r() returns the text, which may be elsewhere. */
    const char *why = strerror_r(error, text, sizeof text);
    pod_status status = error == ENOMEM || error == ENOSPC || error == EFBIG ? POD_E_NO_MEMORY : POD_E_DEVICE;
    return pod__fail(status, "%s %lld bytes: %s", doing, (long long)bytes, why);
}

static pod_status host_reserve(void *context, int64_t bytes, int64_t page_bytes, void **address) {
    (void)context;
    size_t wanted = (size_t)bytes + (size_t)page_bytes;
    char *found = mmap(NULL, wanted, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) return fail_with("reserving addresses for", bytes, errno);
    size_t before = (size_t)(-(uintptr_t)found & (uintptr_t)(page_bytes - 1));
    if ((page_bytes & (page_bytes - 1)) != 0) before = 0; /* only powers of two are worth aligning to */
    if (before > 0) munmap(found, before);
    munmap(found + before + bytes, wanted - before - (size_t)bytes);
    *address = found + before;
    return POD_OK;
}

static pod_status host_unreserve(void *context, void *address, int64_t bytes) {
    (void)context;
    return munmap(address, (size_t)bytes) == 0 ? POD_OK : fail_with("giving back addresses for", bytes, errno);
}

/** The memory is taken here and not when it is first written, where nobody could be told that there is none. */
static pod_status host_create(void *context, int64_t page_bytes, uint64_t *page) {
    host_memory *memory = context;
    uint64_t number = memory->num_free > 0 ? memory->free_pages[memory->num_free - 1] : memory->num_pages;
    int error;
    do {
        error = fallocate(memory->file, 0, (off_t)((int64_t)number * page_bytes), (off_t)page_bytes) == 0 ? 0 : errno;
    } while (error == EINTR);
    if (error != 0) return fail_with("taking a page of", page_bytes, error);
    if (memory->num_free > 0)
        memory->num_free--;
    else
        memory->num_pages++;
    *page = number;
    return POD_OK;
}

static pod_status host_release(void *context, int64_t page_bytes, uint64_t page) {
    host_memory *memory = context;
    if (memory->num_free == memory->free_capacity) {
        uint64_t capacity = memory->free_capacity > 0 ? 2 * memory->free_capacity : 64;
        uint64_t *grown = realloc(memory->free_pages, (size_t)capacity * sizeof *grown);
        if (grown == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for the list of free pages");
        memory->free_pages = grown;
        memory->free_capacity = capacity;
    }
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (fallocate(memory->file, mode, (off_t)((int64_t)page * page_bytes), (off_t)page_bytes) != 0) {
        return fail_with("giving back a page of", page_bytes, errno);
    }
    memory->free_pages[memory->num_free++] = page;
    return POD_OK;
}

/** With its entries of the page table, so that whoever writes there first does not fault. */
static pod_status host_map(void *context, void *address, int64_t page_bytes, uint64_t page) {
    const host_memory *memory = context;
    void *mapped = mmap(address, (size_t)page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
                        memory->file, (off_t)((int64_t)page * page_bytes));
    if (mapped != MAP_FAILED) return POD_OK;
    if (errno != ENOMEM) return fail_with("mapping a page of", page_bytes, errno);
    return pod__fail(POD_E_NO_MEMORY,
                     "mapping a page of %lld bytes: out of memory, or of mappings: with many requests and layers take "
                     "larger pages or raise vm.max_map_count",
                     (long long)page_bytes);
}

/** Addresses stay reserved. */
static pod_status host_unmap(void *context, void *address, int64_t page_bytes) {
    (void)context;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (mmap(address, (size_t)page_bytes, PROT_NONE, flags, -1, 0) != MAP_FAILED) return POD_OK;
    return fail_with("unmapping a page of", page_bytes, errno);
}

static pod_status host_copy(void *context, void *to, const void *from, int64_t bytes, pod_stream stream) {
    (void)context, (void)stream;
    memcpy(to, from, (size_t)bytes);
    return POD_OK;
}

static void host_abandon(void *context, void *address, int64_t bytes) {
    (void)context;
    munmap(address, (size_t)bytes);
}

static void host_close(void *context) {
    host_memory *memory = context;
    close(memory->file);
    free(memory->free_pages);
    free(memory);
}

pod_status pod__host_provider_open(pod_memory_provider *provider) {
    static const pod_memory_functions functions = {
        .reserve = host_reserve,
        .unreserve = host_unreserve,
        .create = host_create,
        .release = host_release,
        .map = host_map,
        .unmap = host_unmap,
        .copy = host_copy,
        .abandon = host_abandon,
        .close = host_close,
    };
    host_memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for a memory provider");
    memory->file = memfd_create("podattn-cache", MFD_CLOEXEC);
    if (memory->file < 0) {
        pod_status status = fail_with("making a file in memory of", 0, errno);
        free(memory);
        return status;
    }
    *provider = (pod_memory_provider){
        .call = &functions, .context = memory, .granularity_bytes = sysconf(_SC_PAGESIZE), .read_tokens = 1};
    return POD_OK;
}
