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

    /* Once: the shapes that stay, and the largest batch. A contiguous cache is one page per request. */
    pod_device *device;
    pod_plan *plan;
    pod_workspace workspace = pod_workspace_init();
    pod_limits limits = pod_limits_init();
    limits.q_heads = HEADS;
    limits.kv_heads = KV_HEADS;
    limits.head_dim = DIM;
    limits.page_size = TOKENS;
    limits.max_requests = REQUESTS;
    limits.max_q_tokens = 4;
    limits.max_kv_len = TOKENS;
    TRY(pod_device_open("cpu", &device));
    TRY(pod_plan_create(device, &limits, &plan));
    TRY(pod_workspace_size(device, &limits, &workspace));
    workspace.plan = aligned_alloc(POD_WORKSPACE_ALIGN, workspace.plan_bytes);
    workspace.scratch = aligned_alloc(POD_WORKSPACE_ALIGN, workspace.scratch_bytes);
    TRY(pod_plan_attach(plan, &workspace));

    /* Once per step: request 0 has the query tokens [0, 3), request 1 has [3, 4). */
    pod_batch batch = pod_batch_init();
    batch.num_requests = REQUESTS;
    batch.q_start = (int32_t[]){0, 3, 4};
    batch.kv_len = (int32_t[]){3, 20};
    batch.num_pages = REQUESTS;
    TRY(pod_plan_build(plan, &batch, NULL));

    /* Once per layer. */
    pod_tensors tensors = pod_tensors_init();
    pod_cache cache = pod_cache_init();
    tensors.q = q;
    tensors.out = out;
    cache.k = k;
    cache.v = v;
    TRY(pod_attention(plan, &tensors, &cache, NULL));
    for (int token = 0; token < 4; token++) printf("token %d: %.1f\n", token, (double)out[token][0]);

    pod_plan_destroy(plan);
    pod_device_close(device);
    free(workspace.plan);
    free(workspace.scratch);
    return 0;
}
