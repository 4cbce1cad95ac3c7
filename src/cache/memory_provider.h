/* SPDX-License-Identifier: Apache-2.0 */
/* What a virtual cache asks of a driver: address ranges, physical pages, and the first mapped to the second. All pages
 * of a cache have the same size, a multiple of the granularity. Each function returns POD_OK, or an error with its
 * message after which all is as before. */
#ifndef POD_CACHE_MEMORY_PROVIDER_H
#define POD_CACHE_MEMORY_PROVIDER_H

#include "podattn.h"

typedef struct pod_memory_functions {
    /** Addresses without memory, aligned to a page. */
    pod_status (*reserve)(void *context, int64_t bytes, int64_t page_bytes, void **address);
    pod_status (*unreserve)(void *context, void *address, int64_t bytes);
    /** A physical page; what it holds is not defined. */
    pod_status (*create)(void *context, int64_t page_bytes, uint64_t *page);
    /** Of a page that is mapped nowhere. */
    pod_status (*release)(void *context, int64_t page_bytes, uint64_t page);
    /** A page may be mapped at several places. */
    pod_status (*map)(void *context, void *address, int64_t page_bytes, uint64_t page);
    /** Makes what was mapped readable and writable. NULL: map does. */
    pod_status (*allow)(void *context, void *address, int64_t page_bytes);
    pod_status (*unmap)(void *context, void *address, int64_t page_bytes);
    /** In the order of the stream. */
    pod_status (*copy)(void *context, void *to, const void *from, int64_t bytes, pod_stream stream);
    /** In a forked child, instead of unmap, release and unreserve: frees what is the child's, touches nothing of the
     * parent's. */
    void (*abandon)(void *context, void *address, int64_t bytes);
    /** The last call. */
    void (*close)(void *context);
} pod_memory_functions;

typedef struct pod_memory_provider {
    const pod_memory_functions *call;
    void *context;
    int64_t granularity_bytes;
    int32_t gpu;         /**< 0: the host's memory; otherwise 1 + the number of the GPU whose it is */
    int32_t read_tokens; /**< kernels read whole multiples of so many tokens, the last one's end included */
} pod_memory_provider;

/** Of the host's memory: a file without a name, mapped piece by piece. POD_E_NO_MEMORY. */
pod_status pod__host_provider_open(pod_memory_provider *provider);

#endif
