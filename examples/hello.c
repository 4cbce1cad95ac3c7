/* SPDX-License-Identifier: Apache-2.0 */
/* The shortest complete program: a prompt of 3 tokens and a decode over 20 tokens of context, in one call. */
#include <podattn.h>
#include <stdio.h>
#include <stdlib.h>

#define TRY(call)                                                                                                      \
    if ((call) != POD_OK) return fprintf(stderr, "%s\n", pod_error_message()), 1

enum { HEADS = 4, KV_HEADS = 2, DIM = 64, REQUESTS = 2, TOKENS = 32 };
static float q[4][HEADS * DIM], k[REQUESTS][TOKENS][KV_HEADS * DIM], v[REQUESTS][TOKENS][KV_HEADS * DIM];
static float out[4][HEADS * DIM];

int main(void) {
    /* Every value is its token's position. All scores are 0, so an output is the mean of the positions that it sees. */
    for (int r = 0; r < REQUESTS; r++)
        for (int t = 0; t < TOKENS; t++)
            for (int i = 0; i < KV_HEADS * DIM; i++) v[r][t][i] = (float)t;

    pod_limits limits = {.struct_size = sizeof limits,
                         .q_heads = HEADS,
                         .kv_heads = KV_HEADS,
                         .head_dim = DIM,
                         .page_size = TOKENS,
                         .max_requests = REQUESTS,
                         .max_q_tokens = 4,
                         .max_kv_len = TOKENS};
    pod_device *device;
    pod_plan *plan;
    size_t bytes;
    TRY(pod_device_open("cpu", &device));
    TRY(pod_plan_create(device, &limits, &plan));
    TRY(pod_workspace_size(device, &limits, &bytes));
    void *workspace = aligned_alloc(POD_WORKSPACE_ALIGN, bytes);

    /* Once per step: request 0 has the query tokens [0, 3), request 1 has [3, 4). */
    pod_batch batch = {.struct_size = sizeof batch,
                       .num_requests = REQUESTS,
                       .q_start = (int32_t[]){0, 3, 4},
                       .kv_len = (int32_t[]){3, 20},
                       .max_pages = 1,
                       .num_pages = REQUESTS,
                       .causal = 1};
    TRY(pod_plan_build(plan, &batch, workspace, bytes, NULL));

    /* Once per layer. */
    pod_tensors tensors = {.struct_size = sizeof tensors, .q = q, .k = k, .v = v, .out = out};
    TRY(pod_attention(plan, &tensors, workspace, bytes, NULL));
    for (int token = 0; token < 4; token++) printf("token %d: %.1f\n", token, (double)out[token][0]);

    pod_plan_destroy(plan);
    pod_device_close(device);
    free(workspace);
    return 0;
}
