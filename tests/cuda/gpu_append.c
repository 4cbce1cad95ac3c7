/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_append.h"

#include "append_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const append_bounds bounds = {12, 150, 300, NULL};

/** A case with its copy on the GPU. */
typedef struct gpu_append {
    append_case c;
    append_call call;
    unsigned char *arena;
    pod_plan *plan;
    pod_workspace workspace;
} gpu_append;

static int require(pod_status status, const char *call) {
    if (status != POD_OK) fprintf(stderr, "%s: %s: %s\n", call, pod_status_name(status), pod_error_message());
    return status == POD_OK;
}

static int make_plan(gpu_append *g, const gpu *gpu, pod_device *device) {
    g->workspace = pod_workspace_init();
    if (!require(pod_plan_create(device, &g->c.limits, &g->plan), "pod_plan_create")) return 0;
    if (!g->c.needs_build) return 1;
    if (!require(pod_workspace_size(device, &g->c.limits, &g->workspace), "pod_workspace_size")) return 0;
    g->workspace.plan = gpu_alloc(gpu, g->workspace.plan_bytes);
    g->workspace.scratch = gpu_alloc(gpu, g->workspace.scratch_bytes);
    return require(pod_plan_attach(g->plan, &g->workspace), "pod_plan_attach");
}

static int build(const gpu_append *g) {
    pod_batch batch = g->call.batch;
    batch.memory = POD_MEMORY_DEVICE;
    if (g->call.append.num_tokens == 0) return require(pod_plan_build(g->plan, &batch, NULL), "pod_plan_build");
    batch.num_q_tokens = g->call.append.num_tokens < g->c.limits.max_q_tokens ? g->call.append.num_tokens : 0;
    return !g->c.needs_build || require(pod_plan_build(g->plan, &batch, NULL), "pod_plan_build");
}

static int append(const gpu_append *g, CUstream stream) {
    const pod_cache *cache = g->call.append.k != NULL ? &g->call.cache : NULL;
    return require(pod_cache_append(g->plan, &g->call.append, cache, stream), "pod_cache_append");
}

/** Captured with a batch of zeros in memory; the replay finds the true one. */
static int append_by_graph(const gpu_append *g, const gpu *gpu) {
    CUstream stream;
    CUgraph graph;
    CUgraphExec executable;
    gpu_fill(gpu, g->arena, 0, g->c.arena_bytes);
    if (!build(g)) return 0;
    GPU_CHECK(gpu, stream_synchronize(NULL));
    GPU_CHECK(gpu, stream_create(&stream, CU_STREAM_NON_BLOCKING));
    GPU_CHECK(gpu, stream_begin_capture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    int good = append(g, stream);
    GPU_CHECK(gpu, stream_end_capture(stream, &graph));
    GPU_CHECK(gpu, graph_instantiate(&executable, graph, 0));
    gpu_upload(gpu, g->arena, g->c.arena, g->c.arena_bytes);
    good &= build(g);
    GPU_CHECK(gpu, stream_synchronize(NULL));
    GPU_CHECK(gpu, graph_launch(executable, stream));
    GPU_CHECK(gpu, stream_synchronize(stream));
    GPU_CHECK(gpu, graph_exec_destroy(executable));
    GPU_CHECK(gpu, graph_destroy(graph));
    GPU_CHECK(gpu, stream_destroy(stream));
    return good;
}

static int append_at_once(const gpu_append *g, const gpu *gpu) {
    gpu_upload(gpu, g->arena, g->c.arena, g->c.arena_bytes);
    if (!build(g) || !append(g, NULL)) return 0;
    GPU_CHECK(gpu, stream_synchronize(NULL));
    return 1;
}

/** Spoils what the GPU alone reads of a request: its tokens are left out, those of the others are not. */
static void plant_request(append_case *c, test_rng *rng) {
    int32_t n = c->host.batch.num_requests;
    if (!c->needs_build || c->bad_token >= 0 || n == 0) return;
    int32_t *q_start = (int32_t *)(uintptr_t)c->host.batch.q_start,
            *kv_len = (int32_t *)(uintptr_t)c->host.batch.kv_len;
    int32_t kind = rng_range(rng, 0, 2), r = kind == 0 ? rng_range(rng, 0, n - 1) : kind == 1 ? 0 : n - 1;
    append_case_drop_request(c, r);
    if (kind == 0) kv_len[r] = rng_chance(rng, 50) ? -1 : c->limits.max_kv_len + 1;
    if (kind == 1) q_start[0] = rng_range(rng, 1, c->limits.max_q_tokens);
    if (kind == 2) q_start[n] = c->limits.max_q_tokens + rng_range(rng, 1, 1000);
}

static int check(gpu_append *g, const gpu *gpu) {
    unsigned char *after = malloc(g->c.arena_bytes);
    int32_t told;
    if (after == NULL) return 0;
    gpu_download(gpu, after, g->arena, g->c.arena_bytes);
    int good = append_case_check(&g->c, after);
    memcpy(&told, after + ((const unsigned char *)g->c.host.append.bad_token - g->c.arena), sizeof told);
    if (good && told != g->c.bad_token + 1) {
        fprintf(stderr, "the word says %d of bad token %d\n", told, g->c.bad_token);
        good = 0;
    }
    free(after);
    return good;
}

int gpu_append_check(const gpu *gpu, pod_device *device, test_rng *rng) {
    gpu_append g;
    append_bounds of_device = bounds;
    of_device.device = device;
    memset(&g, 0, sizeof g);
    int good = append_case_make(&g.c, rng, &of_device);
    if (good && rng_chance(rng, 15)) plant_request(&g.c, rng);
    if (good) {
        g.arena = gpu_alloc(gpu, g.c.arena_bytes);
        append_case_move(&g.c, g.arena, &g.call);
        if (g.c.needs_build && rng_chance(rng, 20)) g.call.append.num_tokens = 0; /* not told */
        good = make_plan(&g, gpu, device);
    }
    good = good && (rng_chance(rng, 30) ? append_by_graph(&g, gpu) : append_at_once(&g, gpu)) && check(&g, gpu);
    if (!good) append_case_print(&g.c);
    pod_plan_destroy(g.plan);
    if (g.arena != NULL) gpu_free(gpu, g.arena);
    if (g.workspace.plan != NULL) gpu_free(gpu, g.workspace.plan);
    if (g.workspace.scratch != NULL) gpu_free(gpu, g.workspace.scratch);
    append_case_free(&g.c);
    return good;
}
