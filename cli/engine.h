/* SPDX-License-Identifier: Apache-2.0 */
/* Computes one step in both ways: fused, and serial as a prefill-only call followed by a decode-only call. */
#ifndef CLI_ENGINE_H
#define CLI_ENGINE_H

#include "planner.h"

typedef enum engine_call { CALL_FUSED = 0, CALL_PREFILL = 1, CALL_DECODE = 2 } engine_call;
enum { NUM_CALLS = 3 };

typedef struct engine {
    pod_limits limits;
    planner planners[NUM_CALLS];
    pod_batch batches[NUM_CALLS];
    int32_t first_q_token[NUM_CALLS]; /**< of the call's requests in the packed queries */
    int32_t *decode_q_start;          /**< [max_requests + 1] */
    pod_plan_info info;               /**< of the fused plan */
    double plan_us;                   /**< that building it took */
} engine;

/** Workspaces for the three calls. Fill `*made` with zeros before, and free it also on error. */
cli_exit engine_make(pod_device *device, const pod_limits *limits, engine *made, cli_error *error);
void engine_free(engine *engine);

/** Plans the three calls. The batch's requests must stand in order of their q_len, longest first, so that what the
 * library takes for prefill work comes first; its arrays stay in use. */
cli_exit engine_plan(engine *engine, const pod_batch *batch, cli_error *error);

/** Whether a call has requests; one without is not to be run. */
int engine_has(const engine *engine, engine_call call);

/** Runs one call and says how long it took. A call without requests takes no time. */
cli_exit engine_run(engine *engine, engine_call call, const pod_tensors *tensors, double *took_us, cli_error *error);

#endif
