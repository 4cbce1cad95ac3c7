/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of a server for the planner's tests: requests of a trace through a plain chunked-prefill scheduler. */
#ifndef POD_TEST_TRACE_STEPS_H
#define POD_TEST_TRACE_STEPS_H

#include "random_batch.h"

typedef struct trace_request {
    int32_t prompt_tokens, output_tokens;
} trace_request;

typedef struct trace {
    trace_request *requests;
    size_t num_requests;
} trace;

/** The first requests of a trace file (CSV or JSON lines); an empty trace if there is no such file. */
trace trace_read(const char *path, size_t max_requests);

/** Prompts and outputs of widely varying lengths. */
trace trace_synthetic(test_rng *rng, size_t num_requests);

void trace_free(trace *trace);

/** A step takes one token of each running request, then the waiting prompt's next chunk. */
typedef struct trace_server {
    const trace *trace;
    size_t next;             /**< request whose prompt is being read */
    int32_t prompt_done;     /**< tokens of it that are in the cache */
    int32_t num_running;     /**< requests that generate */
    int32_t *context, *left; /**< [max_requests] tokens in the cache; tokens still to generate */
} trace_server;

int trace_server_open(trace_server *server, const trace *trace, const pod_limits *limits);
void trace_server_close(trace_server *server);

/** The next step's batch, of at most `chunk_tokens` query tokens; 0 when the trace is done. */
int trace_server_step(trace_server *server, const pod_limits *limits, int32_t chunk_tokens, test_batch *batch);

#endif
