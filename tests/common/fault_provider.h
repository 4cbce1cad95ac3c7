/* SPDX-License-Identifier: Apache-2.0 */
/* A memory provider that passes calls on to the host's, refuses those that it is told to, and keeps count. */
#ifndef POD_TEST_FAULT_PROVIDER_H
#define POD_TEST_FAULT_PROVIDER_H

#include "cache/memory_provider.h"

typedef struct fault_provider {
    pod_memory_provider host;
    int64_t num_calls;                           /**< that may be refused */
    int64_t fails_at;                            /**< this call is refused, counted from 1; 0: none */
    int32_t percent;                             /**< of all calls are refused */
    uint64_t seed;                               /**< which of them */
    int64_t num_refused;                         /**< calls */
    int64_t num_pages, num_mapped, num_reserved; /**< that are not given back */
    int64_t num_closed;                          /**< 1 after the end */
    int32_t sleep_us;                            /**< of each call */
} fault_provider;

/** What it returns for a refused call. */
#define FAULT_MESSAGE "refused by the test"

/** Opens the host's provider behind it. `faults` outlives the cache. */
pod_status fault_provider_open(fault_provider *faults, pod_memory_provider *provider);

#endif
