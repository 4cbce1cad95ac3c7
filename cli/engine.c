/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include "stopwatch.h"

#include <stdlib.h>

cli_exit engine_make(pod_device *device, const pod_limits *limits, engine *made, cli_error *error) {
    made->limits = *limits;
    for (int call = 0; call < NUM_CALLS; call++) CLI_TRY(planner_make(device, limits, &made->planners[call], error));
    made->decode_q_start = malloc(((size_t)limits->max_requests + 1) * sizeof(int32_t));
    return made->decode_q_start != NULL ? CLI_OK : cli_fail_memory(error);
}

void engine_free(engine *engine) {
    for (int call = 0; call < NUM_CALLS; call++) planner_free(&engine->planners[call]);
    free(engine->decode_q_start);
}

/** Requests at the batch's beginning that are prefill work. */
static int32_t count_prefills(const engine *engine, const pod_batch *batch) {
    int32_t group = engine->limits.q_heads / engine->limits.kv_heads, count = 0;
    while (count < batch->num_requests &&
           (int64_t)(batch->q_start[count + 1] - batch->q_start[count]) * group > engine->info.decode_rows) {
        count++;
    }
    return count;
}

/** The batch's two sides as batches of their own over the same arrays. */
static void split_batch(engine *engine, const pod_batch *batch, int32_t num_prefills) {
    pod_batch *prefill = &engine->batches[CALL_PREFILL], *decode = &engine->batches[CALL_DECODE];
    *prefill = *decode = *batch;
    prefill->num_requests = num_prefills;
    decode->num_requests = batch->num_requests - num_prefills;
    decode->kv_len += num_prefills;
    decode->q_start = engine->decode_q_start;
    engine->first_q_token[CALL_DECODE] = batch->q_start[num_prefills];
    for (int32_t r = 0; r <= decode->num_requests; r++) {
        engine->decode_q_start[r] = batch->q_start[num_prefills + r] - batch->q_start[num_prefills];
    }
    if (batch->page_table != NULL) {
        decode->page_table += num_prefills * batch->page_table_stride;
    } else {
        decode->num_pages -= num_prefills; /* request r has page r: engine_run() moves k and v */
    }
}

cli_exit engine_plan(engine *engine, const pod_batch *batch, cli_error *error) {
    engine->batches[CALL_FUSED] = *batch;
    double begin_us = stopwatch_us();
    CLI_TRY(planner_build(&engine->planners[CALL_FUSED], batch, error));
    engine->plan_us = stopwatch_us() - begin_us;
    engine->info = pod_plan_info_init();
    if (pod_plan_get_info(engine->planners[CALL_FUSED].plan, &engine->info) != POD_OK) return cli_fail_library(error);
    split_batch(engine, batch, count_prefills(engine, batch));
    CLI_TRY(planner_build(&engine->planners[CALL_PREFILL], &engine->batches[CALL_PREFILL], error));
    return planner_build(&engine->planners[CALL_DECODE], &engine->batches[CALL_DECODE], error);
}

int engine_has(const engine *engine, engine_call call) {
    return engine->batches[call].num_requests > 0;
}

static const void *offset(const void *array, int64_t elements, pod_dtype dtype) {
    return (const char *)array + elements * (int64_t)pod_dtype_size(dtype);
}

/** The call's part of the packed tensors. */
static pod_tensors call_tensors(const engine *engine, engine_call call, const pod_tensors *tensors) {
    const pod_limits *limits = &engine->limits;
    int64_t q_token = engine->first_q_token[call], q_token_elements = (int64_t)limits->q_heads * limits->head_dim;
    pod_tensors part = *tensors;
    part.q = offset(tensors->q, q_token * q_token_elements, limits->q_dtype);
    part.out = (char *)tensors->out + q_token * q_token_elements * (int64_t)pod_dtype_size(limits->out_dtype);
    part.lse = tensors->lse + q_token * limits->q_heads;
    if (engine->batches[call].page_table == NULL) {
        int64_t page = engine->batches[CALL_FUSED].num_pages - engine->batches[call].num_pages;
        int64_t page_elements = (int64_t)limits->page_size * limits->kv_heads * limits->head_dim;
        part.k = offset(tensors->k, page * page_elements, limits->kv_dtype);
        part.v = offset(tensors->v, page * page_elements, limits->kv_dtype);
    }
    return part;
}

cli_exit engine_run(engine *engine, engine_call call, const pod_tensors *tensors, double *took_us, cli_error *error) {
    *took_us = 0;
    if (!engine_has(engine, call)) return CLI_OK;
    pod_tensors part = call_tensors(engine, call, tensors);
    double begin_us = stopwatch_us();
    CLI_TRY(planner_run(&engine->planners[call], &part, error));
    *took_us = stopwatch_us() - begin_us;
    return CLI_OK;
}
