/* SPDX-License-Identifier: Apache-2.0 */
#include "fault_provider.h"

#include "base/prng.h"
#include "base/status.h"

#include <unistd.h>

static int64_t add(int64_t *counter, int64_t amount) {
    return __atomic_add_fetch(counter, amount, __ATOMIC_RELAXED);
}

/** Whether this call goes through. The caller's thread and the cache's may both call. */
static pod_status pass(fault_provider *faults, pod_status refusal) {
    int64_t number = add(&faults->num_calls, 1);
    uint64_t state = faults->seed + (uint64_t)number;
    int32_t percent = __atomic_load_n(&faults->percent, __ATOMIC_RELAXED);
    if (faults->sleep_us > 0) usleep((useconds_t)faults->sleep_us);
    int is_refused = number == __atomic_load_n(&faults->fails_at, __ATOMIC_RELAXED);
    is_refused |= percent > 0 && (int32_t)(pod__splitmix64(&state) % 100) < percent;
    if (!is_refused) return POD_OK;
    add(&faults->num_refused, 1);
    return pod__fail(refusal, FAULT_MESSAGE);
}

static pod_status fault_reserve(void *context, int64_t bytes, int64_t page_bytes, void **address) {
    fault_provider *faults = context;
    POD_TRY(pass(faults, POD_E_NO_MEMORY));
    POD_TRY(faults->host.call->reserve(faults->host.context, bytes, page_bytes, address));
    add(&faults->num_reserved, bytes);
    return POD_OK;
}

static pod_status fault_unreserve(void *context, void *address, int64_t bytes) {
    fault_provider *faults = context;
    POD_TRY(pass(faults, POD_E_DEVICE));
    POD_TRY(faults->host.call->unreserve(faults->host.context, address, bytes));
    add(&faults->num_reserved, -bytes);
    return POD_OK;
}

static pod_status fault_create(void *context, int64_t page_bytes, uint64_t *page) {
    fault_provider *faults = context;
    POD_TRY(pass(faults, POD_E_NO_MEMORY));
    POD_TRY(faults->host.call->create(faults->host.context, page_bytes, page));
    add(&faults->num_pages, 1);
    return POD_OK;
}

static pod_status fault_release(void *context, int64_t page_bytes, uint64_t page) {
    fault_provider *faults = context;
    POD_TRY(pass(faults, POD_E_DEVICE));
    POD_TRY(faults->host.call->release(faults->host.context, page_bytes, page));
    add(&faults->num_pages, -1);
    return POD_OK;
}

static pod_status fault_map(void *context, void *address, int64_t page_bytes, uint64_t page) {
    fault_provider *faults = context;
    POD_TRY(pass(faults, POD_E_DEVICE));
    POD_TRY(faults->host.call->map(faults->host.context, address, page_bytes, page));
    add(&faults->num_mapped, 1);
    return POD_OK;
}

static pod_status fault_allow(void *context, void *address, int64_t page_bytes) {
    (void)address, (void)page_bytes;
    return pass(context, POD_E_DEVICE);
}

static pod_status fault_unmap(void *context, void *address, int64_t page_bytes) {
    fault_provider *faults = context;
    POD_TRY(pass(faults, POD_E_DEVICE));
    POD_TRY(faults->host.call->unmap(faults->host.context, address, page_bytes));
    add(&faults->num_mapped, -1);
    return POD_OK;
}

static pod_status fault_copy(void *context, void *to, const void *from, int64_t bytes, pod_stream stream) {
    fault_provider *faults = context;
    POD_TRY(pass(faults, POD_E_DEVICE));
    return faults->host.call->copy(faults->host.context, to, from, bytes, stream);
}

static void fault_abandon(void *context, void *address, int64_t bytes) {
    fault_provider *faults = context;
    faults->host.call->abandon(faults->host.context, address, bytes);
}

static void fault_close(void *context) {
    fault_provider *faults = context;
    faults->host.call->close(faults->host.context);
    faults->num_closed++;
}

pod_status fault_provider_open(fault_provider *faults, pod_memory_provider *provider) {
    static const pod_memory_functions functions = {
        .reserve = fault_reserve,
        .unreserve = fault_unreserve,
        .create = fault_create,
        .release = fault_release,
        .map = fault_map,
        .allow = fault_allow,
        .unmap = fault_unmap,
        .copy = fault_copy,
        .abandon = fault_abandon,
        .close = fault_close,
    };
    POD_TRY(pod__host_provider_open(&faults->host));
    *provider = faults->host;
    provider->call = &functions;
    provider->context = faults;
    return POD_OK;
}
