/* SPDX-License-Identifier: Apache-2.0 */
/* Computes one step in every way: fused in one call, or as a prefill-only and a decode-only call. */
#ifndef CLI_ENGINE_H
#define CLI_ENGINE_H

#include "run/planner.h"

typedef enum engine_call { CALL_FUSED = 0, CALL_PREFILL = 1, CALL_DECODE = 2 } engine_call;
enum { NUM_CALLS = 3 };

typedef enum engine_way {
    WAY_FUSED = 0,
    WAY_SERIAL = 1,  /**< prefill, then decode */
    WAY_STREAMS = 2, /**< prefill and decode on a stream each */
    WAY_PREFILL = 3,
    WAY_DECODE = 4
} engine_way;
enum { NUM_WAYS = 5 };

typedef struct engine {
    pod_limits limits;
    device_memory *memory;
    planner planners[NUM_CALLS];
    pod_batch batches[NUM_CALLS];
    int32_t first_q_token[NUM_CALLS]; /**< of the call's requests in the packed queries */
    int32_t *decode_q_start;          /**< [max_requests + 1] */
    pod_plan_info info;               /**< of the fused plan */
    double plan_us;                   /**< that building it took */
} engine;

/** Workspaces for the three calls. Fill `*made` with zeros before, and free it also on error. */
cli_exit engine_make(pod_device *device, device_memory *memory, const pod_limits *limits, engine *made,
                     cli_error *error);
void engine_free(engine *engine);

/** Plans the three calls. The batch's requests must be in order of their q_len, longest first, so that what the
 * library takes for prefill work comes first; its arrays stay in use. */
cli_exit engine_plan(engine *engine, const pod_batch *batch, cli_error *error);

/** Whether there is anything to do. */
int engine_has_work(const engine *engine, engine_way way);

/** Computes the step over tensors in the device's memory; a GPU has then only been given the work. */
cli_exit engine_queue(engine *engine, engine_way way, const layer *layer, cli_error *error);

/** The same, and waits. */
cli_exit engine_run(engine *engine, engine_way way, const layer *layer, cli_error *error);

#endif
