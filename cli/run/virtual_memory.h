/* SPDX-License-Identifier: Apache-2.0 */
/* A replay's KV cache in virtual memory. A scheduler of its own runs one step ahead, so that the library's thread has a
 * step's time to map what the next one needs. */
#ifndef CLI_VIRTUAL_MEMORY_H
#define CLI_VIRTUAL_MEMORY_H

#include "run/device_memory.h"
#include "run/layer.h"
#include "run/scheduler.h"

/** What the cache is asked for in one step. */
typedef struct virtual_step {
    int32_t num_requests, num_closing;
    int64_t *requests, *closing; /**< in the order of the batch; those that end with it */
    int32_t *kv_len, *q_len;
} virtual_step;

typedef struct virtual_memory {
    pod_virtual_cache *cache;
    pod_virtual_info info;
    pod_cache layer; /**< the first one, whose attention is computed */
    int32_t num_layers;
    scheduler ahead;
    int64_t *handles; /**< [max_batch] of the requests that run, by their row of the scheduler's slots; 0: none */
    virtual_step now, next;
    int32_t *pages; /**< [max_batch] of the batch: a page table of one column */
    int64_t num_steps;
} virtual_memory;

/** Tokens of a physical page, at least 1: what the scheduler counts memory in. */
int32_t virtual_memory_page_tokens(const pod_virtual_config *config);

/** A cache for twice as many requests as run at once, since those of the next step are opened before those of this one
 * are closed. Fill `*made` with zeros before, and free it also on error. */
cli_exit virtual_memory_make(pod_device *device, const pod_virtual_config *config, const scheduler_config *schedule,
                             const trace *trace, int32_t max_tokens, virtual_memory *made, cli_error *error);
void virtual_memory_free(virtual_memory *memory);

/** Bytes of the host that virtual_memory_make() takes, but for the cache. */
double virtual_memory_bytes(const scheduler_config *schedule, int32_t max_tokens);

/** Before the step that the replay's scheduler formed: what it needs is there, `batch` reads it, and the next step is
 * being prepared. `*took_us` is the time of the library's calls. */
cli_exit virtual_memory_begin(virtual_memory *memory, pod_batch *batch, double *took_us, cli_error *error);

/** Copies `source`'s tokens to the step's new places; the source has one page of max_tokens, packed. */
cli_exit virtual_memory_fill(virtual_memory *memory, device_memory *device, const pod_cache *source, cli_error *error);

/** After the step: it has left the device. Adds to `*took_us`. */
cli_exit virtual_memory_end(virtual_memory *memory, double *took_us, cli_error *error);

#endif
