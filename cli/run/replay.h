/* SPDX-License-Identifier: Apache-2.0 */
/* A request trace through the scheduler, step by step; the attention of each step is computed in every way. */
#ifndef CLI_REPLAY_H
#define CLI_REPLAY_H

#include "run/check.h"
#include "run/compute_device.h"
#include "run/engine.h"
#include "run/scheduler.h"
#include "run/tensor_set.h"
#include "run/virtual_memory.h"

/** Where the KV cache is. */
typedef enum replay_cache {
    REPLAY_PAGED = 0,   /**< a pool of pages, and a page table */
    REPLAY_VIRTUAL = 1, /**< contiguous, a tensor per layer */
    REPLAY_MEGA = 2     /**< contiguous, all layers of a token together */
} replay_cache;

typedef struct replay_options {
    const batch_spec *spec;
    const char *trace_name;
    int32_t chunk_tokens;
    int32_t max_batch; /**< 0: as many as the chunk and the default allow */
    int64_t kv_tokens; /**< 0: what the trace needs, within a modest size */
    int32_t skips_too_long;
    replay_cache cache;
    int32_t num_layers;    /**< of the cache; the attention of the first is computed */
    int64_t page_bytes;    /**< of a physical page, 0: 2 MiB */
    int32_t has_no_thread; /**< pages are mapped when they are needed, and not before */
    int32_t has_check;     /**< replay_check() will be called */
} replay_options;

/** The KV cache of all layers after a step. */
typedef struct step_memory {
    double physical_bytes, used_bytes, waste_bytes;
    double cache_us; /**< of the virtual cache's calls */
} step_memory;

typedef struct replay_step {
    int32_t num_requests;
    int32_t prefill_tokens, decode_tokens;
    double plan_us, fused_us, serial_us, prefill_us, decode_us;
    double streams_us; /**< 0 on a CPU */
    step_memory memory;
} replay_step;

typedef struct replay {
    replay_options options;
    compute_device *device;
    trace *trace;
    int32_t num_skipped; /**< requests that no cache of this size holds */
    scheduler_config config;
    int32_t max_tokens; /**< of a request */
    double cache_bytes;
    scheduler scheduler;
    pod_limits limits;
    tensor_set tensors;
    virtual_memory virtual_memory;
    pod_cache source; /**< of the tokens that a virtual cache is filled with, on the device */
    engine engine;
    int64_t num_steps; /**< computed */
} replay;

/** Drops or refuses requests that are too long. Fill `*made` with zeros before, and free it also on error. */
cli_exit replay_make(compute_device *device, const replay_options *options, trace *trace, replay *made,
                     cli_error *error);
/** The same without a device: replay_next() makes the steps' batches, and nothing can be computed. */
cli_exit replay_schedule(const replay_options *options, trace *trace, replay *made, cli_error *error);
void replay_free(replay *replay);

/** Forms the next step, after the one before has ended. Returns 0 when all requests are finished. */
int replay_next(replay *replay);

/** Steps that replay_next() will form, at most `max_steps`; 0 where there is no memory to find out. */
int64_t replay_count_steps(const replay *replay, int64_t max_steps);

/** Plans and times the step that replay_next() formed. */
cli_exit replay_compute(replay *replay, replay_step *step, cli_error *error);

/** After it was computed and checked. */
cli_exit replay_end(replay *replay, replay_step *step, cli_error *error);

/** Runs the computed step once more on poisoned outputs, and compares with the oracle. */
cli_exit replay_check(replay *replay, pod_errors *errors, cli_error *error);

#endif
