/* SPDX-License-Identifier: Apache-2.0 */
#include "run/engine.h"

#include <stdlib.h>

cli_exit engine_make(pod_device *device, device_memory *memory, const pod_limits *limits, engine *made,
                     cli_error *error) {
    made->limits = *limits;
    made->memory = memory;
    for (int call = 0; call < NUM_CALLS; call++) {
        CLI_TRY(planner_make(device, memory, limits, &made->planners[call], error));
    }
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
        decode->num_pages -= num_prefills; /* request r has page r: call_layer() moves k and v */
    }
}

cli_exit engine_plan(engine *engine, const pod_batch *batch, cli_error *error) {
    engine->batches[CALL_FUSED] = *batch;
    CLI_TRY(device_memory_begin(engine->memory, error));
    CLI_TRY(planner_build(&engine->planners[CALL_FUSED], batch, error));
    CLI_TRY(device_memory_end(engine->memory, &engine->plan_us, error));
    engine->info = pod_plan_info_init();
    if (pod_plan_get_info(engine->planners[CALL_FUSED].plan, 0, &engine->info) != POD_OK)
        return cli_fail_library(error);
    split_batch(engine, batch, count_prefills(engine, batch));
    CLI_TRY(planner_build(&engine->planners[CALL_PREFILL], &engine->batches[CALL_PREFILL], error));
    return planner_build(&engine->planners[CALL_DECODE], &engine->batches[CALL_DECODE], error);
}

static char *offset(const void *array, int64_t elements, pod_dtype dtype) {
    return (char *)(uintptr_t)array + elements * (int64_t)pod_dtype_size(dtype);
}

/** The call's part of the packed tensors. */
static layer call_layer(const engine *engine, engine_call call, const layer *whole) {
    const pod_limits *limits = &engine->limits;
    int64_t first_row = engine->first_q_token[call] * limits->q_heads;
    layer part = *whole;
    part.tensors.q = offset(whole->tensors.q, first_row * limits->head_dim, limits->q_dtype);
    part.tensors.out = offset(whole->tensors.out, first_row * limits->v_head_dim, limits->out_dtype);
    if (whole->tensors.lse != NULL) part.tensors.lse = whole->tensors.lse + first_row;
    if (whole->tensors.tree_mask != NULL) part.tensors.tree_mask += first_row / limits->q_heads;
    if (engine->batches[call].page_table == NULL) {
        int64_t page = engine->batches[CALL_FUSED].num_pages - engine->batches[call].num_pages;
        int64_t first_key = page * limits->page_size * limits->kv_heads;
        part.cache.k = offset(whole->cache.k, first_key * limits->head_dim, limits->kv_dtype);
        if (part.cache.v != NULL) {
            part.cache.v = offset(whole->cache.v, first_key * limits->v_head_dim, limits->kv_dtype);
        }
    }
    return part;
}

static cli_exit queue_call(engine *engine, engine_call call, const layer *layer, device_stream stream,
                           cli_error *error) {
    if (engine->batches[call].num_requests == 0) return CLI_OK;
    struct layer part = call_layer(engine, call, layer);
    return planner_run(&engine->planners[call], &part, stream, error);
}

static cli_exit queue_streams(engine *engine, const layer *layer, cli_error *error) {
    CLI_TRY(device_memory_fork(engine->memory, error));
    CLI_TRY(queue_call(engine, CALL_PREFILL, layer, STREAM_MAIN, error));
    CLI_TRY(queue_call(engine, CALL_DECODE, layer, STREAM_SIDE, error));
    return device_memory_join(engine->memory, error);
}

cli_exit engine_queue(engine *engine, engine_way way, const layer *layer, cli_error *error) {
    switch (way) {
    case WAY_FUSED:
        return queue_call(engine, CALL_FUSED, layer, STREAM_MAIN, error);
    case WAY_STREAMS:
        return queue_streams(engine, layer, error);
    case WAY_PREFILL:
        return queue_call(engine, CALL_PREFILL, layer, STREAM_MAIN, error);
    case WAY_DECODE:
        return queue_call(engine, CALL_DECODE, layer, STREAM_MAIN, error);
    case WAY_SERIAL:
        break;
    }
    CLI_TRY(queue_call(engine, CALL_PREFILL, layer, STREAM_MAIN, error));
    return queue_call(engine, CALL_DECODE, layer, STREAM_MAIN, error);
}

int engine_has_work(const engine *engine, engine_way way) {
    engine_call call = way == WAY_PREFILL ? CALL_PREFILL : way == WAY_DECODE ? CALL_DECODE : CALL_FUSED;
    return engine->batches[call].num_requests > 0;
}

cli_exit engine_run(engine *engine, engine_way way, const layer *layer, cli_error *error) {
    double unused_us;
    if (!engine_has_work(engine, way)) return CLI_OK;
    CLI_TRY(device_memory_begin(engine->memory, error));
    CLI_TRY(engine_queue(engine, way, layer, error));
    return device_memory_end(engine->memory, &unused_us, error);
}
