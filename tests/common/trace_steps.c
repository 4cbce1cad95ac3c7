/* SPDX-License-Identifier: Apache-2.0 */
#include "trace_steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** Reads the two lengths of a line in any of the known formats. */
static int parse_line(const char *line, trace_request *request) {
    double prompt, output;
    const char *input_field = strstr(line, "\"input_length\":"), *output_field = strstr(line, "\"output_length\":");
    int found = input_field != NULL && output_field != NULL
                    ? sscanf(input_field, "\"input_length\":%lf", &prompt) == 1 &&
                          sscanf(output_field, "\"output_length\":%lf", &output) == 1
                : strchr(line, ':') != NULL ? sscanf(line, "%*[^,],%lf,%lf", &prompt, &output) == 2
                                            : sscanf(line, "%lf,%lf", &prompt, &output) == 2;
    if (!found || !(prompt >= 1 && prompt < 1e6) || !(output >= 1 && output < 1e6)) return 0;
    *request = (trace_request){(int32_t)prompt, (int32_t)output};
    return 1;
}

trace trace_read(const char *path, size_t max_requests) {
    static char line[1 << 16];
    FILE *file = fopen(path, "r");
    if (file == NULL) return (trace){NULL, 0};
    trace trace = {malloc(max_requests * sizeof(trace_request)), 0};
    while (trace.requests != NULL && trace.num_requests < max_requests && fgets(line, sizeof line, file) != NULL) {
        trace.num_requests += (size_t)parse_line(line, &trace.requests[trace.num_requests]);
    }
    fclose(file);
    return trace;
}

trace trace_synthetic(test_rng *rng, size_t num_requests) {
    trace trace = {malloc(num_requests * sizeof(trace_request)), num_requests};
    if (trace.requests == NULL) trace.num_requests = 0;
    for (size_t i = 0; i < trace.num_requests; i++) {
        trace.requests[i].prompt_tokens = 1 + rng_log_range(rng, 0, 20000);
        trace.requests[i].output_tokens = 1 + rng_log_range(rng, 0, 800);
    }
    return trace;
}

void trace_free(trace *trace) {
    free(trace->requests);
    memset(trace, 0, sizeof *trace);
}

int trace_server_open(trace_server *server, const trace *trace, const pod_limits *limits) {
    *server = (trace_server){.trace = trace};
    server->context = calloc((size_t)limits->max_requests, sizeof(int32_t));
    server->left = calloc((size_t)limits->max_requests, sizeof(int32_t));
    return server->context != NULL && server->left != NULL;
}

void trace_server_close(trace_server *server) {
    free(server->context);
    free(server->left);
}

static void add(test_batch *batch, int32_t q_len, int32_t kv_len) {
    int32_t r = batch->batch.num_requests++;
    batch->q_start[r + 1] = batch->q_start[r] + q_len;
    batch->kv_len[r] = kv_len;
}

/** Every running request generates a token; those that are done leave. */
static void add_decodes(trace_server *server, const pod_limits *limits, test_batch *batch) {
    int32_t kept = 0;
    for (int32_t i = 0; i < server->num_running; i++) {
        if (server->left[i] == 0 || server->context[i] == limits->max_kv_len) continue;
        server->context[kept] = server->context[i] + 1;
        server->left[kept] = server->left[i] - 1;
        add(batch, 1, server->context[kept++]);
    }
    server->num_running = kept;
}

int trace_server_step(trace_server *server, const pod_limits *limits, int32_t chunk_tokens, test_batch *batch) {
    batch->batch.num_requests = 0;
    batch->masks[0].causal = 1;
    batch->q_start[0] = 0;
    add_decodes(server, limits, batch);
    int32_t budget = chunk_tokens - server->num_running;
    while (budget > 0 && server->next < server->trace->num_requests && server->num_running < limits->max_requests &&
           batch->batch.num_requests < limits->max_requests) {
        const trace_request *request = &server->trace->requests[server->next];
        int32_t prompt = request->prompt_tokens < limits->max_kv_len ? request->prompt_tokens : limits->max_kv_len;
        int32_t chunk = prompt - server->prompt_done < budget ? prompt - server->prompt_done : budget;
        server->prompt_done += chunk;
        budget -= chunk;
        add(batch, chunk, server->prompt_done);
        if (server->prompt_done < prompt) break;
        server->context[server->num_running] = prompt;
        server->left[server->num_running++] = request->output_tokens;
        server->prompt_done = 0;
        server->next++;
    }
    batch->batch.num_pages = batch->batch.num_requests;
    return batch->batch.num_requests > 0;
}
