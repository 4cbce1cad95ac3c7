/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_pair.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition, ...)                                                                                        \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        fprintf(stderr, "line %d: %s: ", __LINE__, #condition);                                                        \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fprintf(stderr, "\n");                                                                                         \
        return 0;                                                                                                      \
    } while (0)

/* ---- one good call of each kind ---- */

enum { Q_HEADS = 4, KV_HEADS = 2, DIM = 128, PAGE = 16, TOKENS = 3, REQUESTS = 2, COLUMNS = 3, NUM_PAGES = 8 };
enum { NUM_PARTS = 2, POSITIONS = 64, ROOM_BYTES = 1 << 16 };

/** All that the calls take is in the memory of one GPU. */
typedef struct calls {
    const gpu *gpu;
    pod_device *device;
    pod_plan *plan;
    pod_workspace workspace;
    pod_mask mask;
    pod_batch batch;
    pod_tensors tensors;
    pod_cache cache;
    pod_rope tables;
    pod_append by_slots, by_batch;
    pod_parts parts;
    const void *part_outs[NUM_PARTS];
    const float *part_lses[NUM_PARTS];
    void *others; /**< memory of the other GPU */
    void *memory[48];
    int num_memory;
} calls;

static void enter(const gpu *gpu) {
    GPU_CHECK(gpu, ctx_set_current(gpu->context));
}

/** Zeros on the calls' GPU, whose context is current. */
static void *room(calls *c, size_t bytes) {
    void *memory = gpu_alloc(c->gpu, bytes);
    gpu_fill(c->gpu, memory, 0, bytes);
    c->memory[c->num_memory++] = memory;
    return memory;
}

static void *numbers(calls *c, const int32_t *values, int count) {
    void *memory = room(c, (size_t)count * sizeof *values);
    gpu_upload(c->gpu, memory, values, (size_t)count * sizeof *values);
    return memory;
}

static void make_batch(calls *c) {
    static const int32_t q_start[] = {0, 2, 3}, kv_len[] = {40, 20}, causal[] = {1, 0}, table[] = {0, 1, 2, 3, 4, 5};
    c->mask = pod_mask_init();
    c->mask.causal_per_request = numbers(c, causal, REQUESTS);
    c->batch = pod_batch_init();
    c->batch.memory = POD_MEMORY_DEVICE;
    c->batch.num_requests = REQUESTS;
    c->batch.q_start = numbers(c, q_start, REQUESTS + 1);
    c->batch.kv_len = numbers(c, kv_len, REQUESTS);
    c->batch.page_table = numbers(c, table, REQUESTS * COLUMNS);
    c->batch.page_table_stride = c->batch.max_pages = COLUMNS;
    c->batch.num_pages = NUM_PAGES;
    c->batch.num_q_tokens = TOKENS;
    c->batch.num_masks = 1;
    c->batch.masks = &c->mask;
}

static void make_layer(calls *c) {
    c->tensors = pod_tensors_init();
    c->tensors.q = room(c, ROOM_BYTES);
    c->tensors.out = room(c, ROOM_BYTES);
    c->tensors.lse = room(c, ROOM_BYTES);
    c->tensors.sinks = room(c, ROOM_BYTES);
    c->cache = pod_cache_init();
    c->cache.k = room(c, ROOM_BYTES);
    c->cache.v = room(c, ROOM_BYTES);
    const float ones[] = {1, 1};
    float *scales = room(c, ROOM_BYTES), *others = room(c, ROOM_BYTES);
    gpu_upload(c->gpu, scales, ones, sizeof ones);
    gpu_upload(c->gpu, others, ones, sizeof ones);
    c->cache.k_scale = scales;
    c->cache.v_scale = others;
}

static void make_appends(calls *c) {
    c->tables = pod_rope_init();
    c->tables.cos = room(c, ROOM_BYTES);
    c->tables.sin = room(c, ROOM_BYTES);
    c->tables.table_positions = POSITIONS;
    c->tables.table_dtype = POD_F32;
    pod_append *a = &c->by_slots;
    *a = pod_append_init();
    a->num_tokens = TOKENS;
    a->num_pages = NUM_PAGES;
    a->dtype = POD_BF16;
    a->k = room(c, ROOM_BYTES);
    a->v = room(c, ROOM_BYTES);
    a->q = room(c, ROOM_BYTES);
    a->q_out = room(c, ROOM_BYTES);
    a->bad_token = room(c, sizeof *a->bad_token);
    a->rope = &c->tables;
    c->by_batch = *a;
    c->by_batch.num_pages = 0;
    c->by_batch.left_pad = room(c, ROOM_BYTES);
    a->slot_mapping = room(c, ROOM_BYTES);
    a->positions = room(c, ROOM_BYTES);
}

static void make_parts(calls *c) {
    for (int p = 0; p < NUM_PARTS; p++) {
        c->part_outs[p] = room(c, ROOM_BYTES);
        c->part_lses[p] = room(c, ROOM_BYTES);
    }
    c->parts = pod_parts_init();
    c->parts.num_parts = NUM_PARTS;
    c->parts.num_tokens = TOKENS;
    c->parts.q_heads = Q_HEADS;
    c->parts.head_dim = DIM;
    c->parts.part_dtype = c->parts.out_dtype = POD_BF16;
    c->parts.part_outs = c->part_outs;
    c->parts.part_lses = c->part_lses;
    c->parts.out = room(c, ROOM_BYTES);
    c->parts.lse = room(c, ROOM_BYTES);
}

/** For one of the two. */
static int make_calls(calls *c, const gpu gpus[2], pod_device *const devices[2], int own) {
    const gpu *gpu = &gpus[own];
    pod_device *device = devices[own];
    memset(c, 0, sizeof *c);
    c->gpu = gpu;
    c->device = device;
    pod_limits limits = pod_limits_init();
    limits.q_heads = Q_HEADS;
    limits.kv_heads = KV_HEADS;
    limits.head_dim = DIM;
    limits.q_dtype = limits.out_dtype = POD_BF16;
    limits.kv_dtype = POD_F8E4M3; /* whose caches have scales */
    limits.page_size = PAGE;
    limits.max_requests = REQUESTS;
    limits.max_q_tokens = TOKENS;
    limits.max_kv_len = COLUMNS * PAGE;
    enter(gpu);
    make_batch(c);
    make_layer(c);
    make_appends(c);
    make_parts(c);
    c->workspace = pod_workspace_init();
    REQUIRE(pod_workspace_size(device, &limits, &c->workspace) == POD_OK, "%s", pod_error_message());
    enter(&gpus[1 - own]);
    c->others = gpu_alloc(&gpus[1 - own], c->workspace.scratch_bytes + ROOM_BYTES); /* as much as any of them */
    enter(gpu);
    c->workspace.plan = room(c, c->workspace.plan_bytes);
    c->workspace.scratch = room(c, c->workspace.scratch_bytes);
    c->workspace.bad_request = room(c, sizeof(int32_t));
    REQUIRE(pod_plan_create(device, &limits, &c->plan) == POD_OK, "%s", pod_error_message());
    return 1;
}

static void free_calls(calls *c, const gpu *other) {
    enter(other);
    gpu_free(other, c->others);
    enter(c->gpu);
    GPU_CHECK(c->gpu, ctx_synchronize());
    pod_plan_destroy(c->plan);
    for (int i = 0; i < c->num_memory; i++) gpu_free(c->gpu, c->memory[i]);
}

/* ---- the calls ---- */

static pod_status build(calls *c) {
    pod_status status = pod_plan_attach(c->plan, &c->workspace);
    return status == POD_OK ? pod_plan_build(c->plan, &c->batch, NULL) : status;
}

static pod_status attend(calls *c) {
    return pod_attention(c->plan, &c->tensors, &c->cache, NULL);
}

static pod_status append_by_slots(calls *c) {
    return pod_cache_append(c->plan, &c->by_slots, &c->cache, NULL);
}

static pod_status append_by_batch(calls *c) {
    return pod_cache_append(c->plan, &c->by_batch, &c->cache, NULL);
}

static pod_status merge(calls *c) {
    return pod_merge(c->device, &c->parts, NULL);
}

static pod_status check_plan(calls *c) {
    return pod_plan_check(c->plan, NULL);
}

static pod_status describe_plan(calls *c) {
    pod_plan_info info = pod_plan_info_init();
    return pod_plan_get_info(c->plan, 0, &info);
}

static int pass(void *context, const pod_work_item *item) {
    (void)context, (void)item;
    return 0;
}

static pod_status visit_plan(calls *c) {
    return pod_plan_visit(c->plan, 0, pass, NULL);
}

/* ---- memory of the other GPU ---- */

/** The call with one pointer of the other GPU's is refused by the field's name, and good again without it. */
static int refuses(calls *c, pod_status (*call)(calls *c), const char *field, const void *place, void *others) {
    const void **pointer = (const void **)(uintptr_t)place, *own = *pointer;
    pod_device_info info = pod_device_info_init();
    char message[256];
    REQUIRE(pod_device_get_info(c->device, &info) == POD_OK, "%s", pod_error_message());
    snprintf(message, sizeof message, "%s is no memory that cuda:%d, %s, can reach", field, (int)c->gpu->device,
             info.name);
    REQUIRE(own != NULL, "%s is not set", field);
    *pointer = others;
    pod_status status = call(c), expected = strncmp(field, "workspace.", 10) == 0 ? POD_E_WORKSPACE : POD_E_ARGUMENT;
    *pointer = own;
    REQUIRE(status == expected, "%s: %s", field, pod_status_name(status));
    REQUIRE(strstr(pod_error_message(), message) == pod_error_message(), "%s: \"%s\"", field, pod_error_message());
    REQUIRE(call(c) == POD_OK, "%s, afterwards: %s", field, pod_error_message());
    return 1;
}

static int refuses_all(calls *c) {
    const struct {
        pod_status (*call)(calls *c);
        const char *field;
        const void *place;
    } pointers[] = {
        {build, "workspace.plan", &c->workspace.plan},
        {build, "workspace.scratch", &c->workspace.scratch},
        {build, "workspace.bad_request", &c->workspace.bad_request},
        {build, "q_start", &c->batch.q_start},
        {build, "kv_len", &c->batch.kv_len},
        {build, "page_table", &c->batch.page_table},
        {build, "causal_per_request", &c->mask.causal_per_request},
        {attend, "q", &c->tensors.q},
        {attend, "out", &c->tensors.out},
        {attend, "lse", &c->tensors.lse},
        {attend, "sinks", &c->tensors.sinks},
        {attend, "k", &c->cache.k},
        {attend, "v", &c->cache.v},
        {attend, "k_scale", &c->cache.k_scale},
        {attend, "v_scale", &c->cache.v_scale},
        {append_by_slots, "append.k", &c->by_slots.k},
        {append_by_slots, "append.v", &c->by_slots.v},
        {append_by_slots, "append.q", &c->by_slots.q},
        {append_by_slots, "append.q_out", &c->by_slots.q_out},
        {append_by_slots, "append.slot_mapping", &c->by_slots.slot_mapping},
        {append_by_slots, "append.positions", &c->by_slots.positions},
        {append_by_slots, "append.bad_token", &c->by_slots.bad_token},
        {append_by_slots, "rope.cos", &c->tables.cos},
        {append_by_slots, "rope.sin", &c->tables.sin},
        {append_by_slots, "k", &c->cache.k},
        {append_by_slots, "v", &c->cache.v},
        {append_by_slots, "k_scale", &c->cache.k_scale},
        {append_by_slots, "v_scale", &c->cache.v_scale},
        {append_by_batch, "append.left_pad", &c->by_batch.left_pad},
        {merge, "part_outs[0]", &c->part_outs[0]},
        {merge, "part_outs[1]", &c->part_outs[1]},
        {merge, "part_lses[0]", &c->part_lses[0]},
        {merge, "part_lses[1]", &c->part_lses[1]},
        {merge, "out", &c->parts.out},
        {merge, "lse", &c->parts.lse},
    };
    REQUIRE(build(c) == POD_OK, "%s", pod_error_message());
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++) {
        if (!refuses(c, pointers[i].call, pointers[i].field, pointers[i].place, c->others)) return 0;
    }
    return 1;
}

static pod_virtual_config virtual_config(int32_t num_layers, pod_dtype kv_dtype, int32_t max_requests,
                                         int32_t max_kv_len) {
    pod_virtual_config config = pod_virtual_config_init();
    config.num_layers = num_layers;
    config.kv_heads = KV_HEADS;
    config.head_dim = DIM;
    config.kv_dtype = kv_dtype;
    config.max_requests = max_requests;
    config.max_kv_len = max_kv_len;
    return config;
}

/** A virtual cache on the other GPU: where its range has pages, and where it has none yet. */
static int refuses_virtual(calls *c, pod_device *device) {
    pod_virtual_cache *cache;
    pod_virtual_config config = virtual_config(1, POD_F8E4M3, 1, PAGE);
    pod_status status = pod_virtual_cache_create(device, &config, &cache);
    if (status == POD_E_UNSUPPORTED) return 1;
    REQUIRE(status == POD_OK, "%s", pod_error_message());
    pod_cache layer = pod_cache_init();
    int64_t request;
    int32_t kv_len = PAGE;
    int good = pod_virtual_cache_get_layer(cache, 0, &layer) == POD_OK;
    good =
        good && refuses(c, attend, "k", &c->cache.k, layer.k) && refuses(c, append_by_slots, "v", &c->cache.v, layer.v);
    good = good && pod_virtual_cache_open(cache, &request) == POD_OK;
    good = good && pod_virtual_cache_ensure(cache, 0, 1, &request, &kv_len) == POD_OK;
    good =
        good && refuses(c, attend, "k", &c->cache.k, layer.k) && refuses(c, append_by_slots, "v", &c->cache.v, layer.v);
    pod_virtual_cache_destroy(cache);
    return good;
}

int gpu_pair_refuses(const gpu gpus[2], pod_device *const devices[2]) {
    int good = 1;
    for (int own = 0; good && own < 2; own++) {
        calls c;
        good = make_calls(&c, gpus, devices, own) && refuses_all(&c) && refuses_virtual(&c, devices[1 - own]);
        free_calls(&c, &gpus[1 - own]);
    }
    return good;
}

/* ---- contexts ---- */

static pod_status open_and_close(calls *c) {
    char name[32];
    pod_device *device;
    snprintf(name, sizeof name, "cuda:%d", (int)c->gpu->device);
    pod_status status = pod_device_open(name, &device);
    pod_device_close(device);
    return status;
}

static pod_status live_virtually(calls *c) {
    pod_virtual_cache *cache;
    pod_virtual_config config = virtual_config(2, POD_BF16, 2, 100);
    int64_t request, forked;
    int32_t kv_len = 70;
    pod_status status = pod_virtual_cache_create(c->device, &config, &cache);
    if (status != POD_OK) return status == POD_E_UNSUPPORTED ? POD_OK : status;
    status = pod_virtual_cache_open(cache, &request);
    if (status == POD_OK) status = pod_virtual_cache_expect(cache, 1, &request, &kv_len);
    if (status == POD_OK) status = pod_virtual_cache_ensure(cache, 0, 1, &request, &kv_len);
    if (status == POD_OK) status = pod_virtual_cache_fork(cache, request, 50, NULL, &forked);
    if (status == POD_OK) status = pod_virtual_cache_close(cache, request);
    if (status == POD_OK) status = pod_virtual_cache_finished(cache, 0);
    if (status == POD_OK) status = pod_virtual_cache_trim(cache, INT64_MAX, NULL);
    pod_virtual_cache_destroy(cache);
    return status;
}

static pod_status fail_to_attend(calls *c) {
    pod_tensors tensors = c->tensors;
    tensors.q = c->others;
    return pod_attention(c->plan, &tensors, &c->cache, NULL) == POD_E_ARGUMENT ? POD_OK : POD_E_STATE;
}

static pod_status fail_to_merge(calls *c) {
    pod_parts parts = c->parts;
    parts.out = c->others;
    return pod_merge(c->device, &parts, NULL) == POD_E_ARGUMENT ? POD_OK : POD_E_STATE;
}

/** Every call leaves `current` on top of `below`. */
static int keeps(calls *c, CUcontext below, CUcontext current) {
    static const struct {
        const char *name;
        pod_status (*call)(calls *c);
    } all[] = {
        {"open", open_and_close},
        {"build", build},
        {"attention", attend},
        {"append", append_by_slots},
        {"append", append_by_batch},
        {"merge", merge},
        {"check", check_plan},
        {"get_info", describe_plan},
        {"visit", visit_plan},
        {"virtual cache", live_virtually},
        {"refused attention", fail_to_attend},
        {"refused merge", fail_to_merge},
    };
    const gpu *gpu = c->gpu;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CUcontext found = NULL, popped = NULL;
        GPU_CHECK(gpu, ctx_set_current(below));
        GPU_CHECK(gpu, ctx_push_current(current));
        pod_status status = all[i].call(c);
        GPU_CHECK(gpu, ctx_pop_current(&popped));
        GPU_CHECK(gpu, ctx_get_current(&found));
        REQUIRE(status == POD_OK, "%s: %s", all[i].name, pod_error_message());
        REQUIRE(popped == current && found == below, "%s left another context", all[i].name);
    }
    return 1;
}

int gpu_pair_keeps_contexts(const gpu gpus[2], pod_device *const devices[2]) {
    int good = 1;
    for (int own = 0; good && own < 2; own++) {
        calls c;
        good = make_calls(&c, gpus, devices, own);
        const CUcontext below[] = {NULL, gpus[0].context, gpus[1].context};
        for (int i = 0; good && i < 6; i++) good = keeps(&c, below[i / 2], gpus[i % 2].context);
        free_calls(&c, &gpus[1 - own]);
    }
    return good;
}

/* ---- two threads ---- */

enum { ROUNDS = 8 };

typedef struct pair_worker {
    const gpu *gpus;
    gpu_case cases[2]; /**< on each GPU */
    int first;         /**< the GPU of its first round */
    int alternates;    /**< takes the other one in every second round */
} pair_worker;

/** Runs with no context current, as a thread that the program just made. */
static void *work(void *argument) {
    pair_worker *w = argument;
    CUstream streams[2];
    for (int g = 0; g < 2; g++) {
        enter(&w->gpus[g]);
        GPU_CHECK(&w->gpus[g], stream_create(&streams[g], CU_STREAM_NON_BLOCKING));
    }
    GPU_CHECK(w->gpus, ctx_set_current(NULL));
    for (int round = 0; round < ROUNDS; round++) {
        int g = w->alternates ? (w->first + round) % 2 : w->first;
        gpu_case_plan(&w->cases[g], round % 4 < 2 ? POD_MEMORY_HOST : POD_MEMORY_DEVICE, streams[g]);
        gpu_case_run(&w->cases[g], streams[g]);
    }
    for (int g = 0; g < 2; g++) {
        enter(&w->gpus[g]);
        GPU_CHECK(&w->gpus[g], stream_synchronize(streams[g]));
        GPU_CHECK(&w->gpus[g], stream_destroy(streams[g]));
    }
    return NULL;
}

static int run_workers(pair_worker workers[2], int alternates, pod_errors *errors) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        workers[i].first = i;
        workers[i].alternates = alternates;
        REQUIRE(pthread_create(&threads[i], NULL, work, &workers[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) {
        const gpu *gpu = &workers[i / 2].gpus[i % 2];
        gpu_case *c = &workers[i / 2].cases[i % 2];
        if (!alternates && i / 2 != i % 2) continue; /* not run */
        enter(gpu);
        gpu_case_download(c, gpu);
        REQUIRE(gpu_case_check(c, NULL, errors), "thread %d on GPU %d", i / 2, i % 2);
        gpu_case_poison(c, gpu, 1);
    }
    return 1;
}

int gpu_pair_computes_at_once(const gpu gpus[2], pod_device *const devices[2], test_rng *rng, pod_errors *errors) {
    static const gpu_case_bounds bounds = {8, 200, 1500, 2e7};
    pair_worker workers[2];
    for (int i = 0; i < 4; i++) {
        pair_worker *w = &workers[i / 2];
        w->gpus = gpus;
        gpu_case_random(&w->cases[i % 2], rng, devices[i % 2], &bounds);
        enter(&gpus[i % 2]);
        gpu_case_upload(&w->cases[i % 2], &gpus[i % 2], devices[i % 2]);
    }
    int good = run_workers(workers, 0, errors) && run_workers(workers, 1, errors);
    for (int i = 0; i < 4; i++) {
        enter(&gpus[i % 2]);
        gpu_case_free(&workers[i / 2].cases[i % 2], &gpus[i % 2]);
    }
    return good;
}
