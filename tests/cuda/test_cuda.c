/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU backend against the oracle.
 *
 *   test_cuda [NAME...]   runs the tests of these names, or all
 *
 * PODATTN_COUNT and PODATTN_SEED set how many random batches and which; PODATTN_CASE takes the chosen batches whose
 * names hold it; PODATTN_CUDA_DEVICE tests one device name instead of every kernel variant. Exit code 77: there is no
 * GPU, or one where two are needed. */
#include "backend/backend.h"
#include "chosen_case.h"
#include "gpu_append.h"
#include "gpu_change.h"
#include "gpu_merge.h"
#include "gpu_pair.h"
#include "gpu_plan.h"
#include "property.h"

#include <pthread.h>
#include <string.h>

enum { MAX_DEVICES = 32, MAX_NAME = 128 };

typedef struct context {
    gpu gpu;
    pod_device *devices[MAX_DEVICES];
    char names[MAX_DEVICES][MAX_NAME];
    int32_t num_devices;
    pod_errors errors;
} context;

static const gpu_case_bounds small_bounds = {12, 400, 3000, 1.5e8};

#define REQUIRE(condition, ...) PROPERTY(condition, __VA_ARGS__)
#define REQUIRE_OK(call) PROPERTY((call) == POD_OK, "%s", pod_error_message())

/* ---- random batches ---- */

static size_t out_bytes(const gpu_case *c) {
    return c->out_elements * sizeof(uint16_t);
}

/** Runs the planned case again and compares bit by bit with what `host` holds. */
static int runs_alike(const gpu_case *c, const gpu *gpu, CUstream stream) {
    size_t lse_bytes = c->host.lse != NULL ? c->lse_elements * sizeof(float) : 0;
    unsigned char *before = malloc(out_bytes(c) + lse_bytes + 1);
    if (before == NULL) return 0;
    memcpy(before, c->host.out, out_bytes(c));
    if (lse_bytes > 0) memcpy(before + out_bytes(c), c->host.lse, lse_bytes);
    gpu_case_poison(c, gpu, 0);
    gpu_case_run(c, stream);
    GPU_CHECK(gpu, stream_synchronize(stream));
    gpu_case_download(c, gpu);
    int alike = memcmp(before, c->host.out, out_bytes(c)) == 0;
    if (lse_bytes > 0) alike &= memcmp(before + out_bytes(c), c->host.lse, lse_bytes) == 0;
    free(before);
    return alike;
}

static int random_batch(test_rng *rng, void *argument) {
    context *t = argument;
    gpu_case c;
    int32_t d = rng_range(rng, 0, t->num_devices - 1);
    gpu_case_random(&c, rng, t->devices[d], &small_bounds);
    pod_memory memory = rng_chance(rng, 30) ? POD_MEMORY_HOST : POD_MEMORY_DEVICE;
    gpu_case_upload(&c, &t->gpu, t->devices[d]);
    gpu_case_plan(&c, memory, NULL);
    /* the check copies all of the workspace, of which initcheck wants to know only what kernels read */
    if (getenv("PODATTN_RAW_WORKSPACE") == NULL) {
        REQUIRE(gpu_plan_check(&c, &t->gpu), "device %s", t->names[d]);
    }
    gpu_case_run(&c, NULL);
    REQUIRE_OK(pod_plan_check(c.plan, NULL));
    REQUIRE(gpu_case_bad_request(&c, &t->gpu) == 0, "a good batch was told of");
    gpu_case_download(&c, &t->gpu);
    REQUIRE(gpu_case_check(&c, NULL, &t->errors), "device %s", t->names[d]);
    REQUIRE(runs_alike(&c, &t->gpu, NULL), "device %s gives other bits in a second run", t->names[d]);
    gpu_case_free(&c, &t->gpu);
    return 0;
}

static int test_random(context *t) {
    return property_run("random", 300, random_batch, t);
}

/* ---- chosen shapes ---- */

typedef struct shape {
    int32_t q_heads, kv_heads, page_size, num_prefills, prefill_q, prefill_kv, num_decodes, decode_q, decode_kv;
} shape;

static void make_shape(gpu_case *c, test_rng *rng, const shape *s, int32_t head_dim) {
    memset(c, 0, sizeof *c);
    pod_limits *l = &c->limits;
    *l = pod_limits_init();
    l->q_heads = s->q_heads;
    l->kv_heads = s->kv_heads;
    l->head_dim = head_dim;
    l->q_dtype = l->kv_dtype = l->out_dtype = POD_BF16;
    l->page_size = s->page_size;
    l->max_requests = s->num_prefills + s->num_decodes + 2;
    l->max_q_tokens = s->num_prefills * s->prefill_q + s->num_decodes * s->decode_q;
    l->max_kv_len = s->prefill_kv > s->decode_kv ? s->prefill_kv : s->decode_kv;
    if (!test_batch_alloc(&c->batch, l)) exit(EXIT_FAILURE);
    pod_batch *b = &c->batch.batch;
    b->num_requests = s->num_prefills + s->num_decodes;
    c->batch.masks[0].causal = 1;
    c->batch.q_start[0] = 0;
    for (int32_t r = 0; r < b->num_requests; r++) {
        int is_prefill = r % 2 == 0 ? r / 2 < s->num_prefills : r / 2 >= s->num_decodes;
        c->batch.q_start[r + 1] = c->batch.q_start[r] + (is_prefill ? s->prefill_q : s->decode_q);
        c->batch.kv_len[r] = is_prefill ? s->prefill_kv : s->decode_kv;
    }
    l->max_q_tokens = c->batch.q_start[b->num_requests] > 0 ? c->batch.q_start[b->num_requests] : 1;
    if (!test_batch_add_pages(&c->batch, rng, l)) exit(EXIT_FAILURE);
    gpu_case_fill(c, rng);
}

static int test_shapes(context *t) {
    static const shape shapes[] = {
        {8, 1, 16, 0, 0, 0, 1, 1, 131072},    /* one long context on all SMs */
        {32, 8, 16, 0, 0, 0, 96, 1, 1500},    /* decodes alone */
        {32, 8, 256, 1, 1024, 2048, 0, 0, 0}, /* a prefill alone, one that splits */
        {4, 4, 1, 1, 64, 16384, 3, 1, 777},   /* few rows, many keys */
        {32, 8, 16, 1, 512, 3000, 24, 1, 2000},
        {16, 1, 16, 2, 100, 900, 30, 1, 600},  /* MQA: 16 rows per token */
        {8, 2, 64, 1, 130, 1000, 20, 4, 800},  /* speculative decodes */
        {16, 2, 64, 1, 130, 1000, 20, 3, 800}, /* of 24 rows */
        {8, 2, 16, 1, 300, 1500, 40, 1, 4001},
        {8, 2, 64, 1, 300, 1500, 40, 1, 4001}, /* decode lasts: slots are lent */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int32_t d = 0; d < t->num_devices; d++) {
            test_rng rng = {i};
            gpu_case c;
            make_shape(&c, &rng, &shapes[i], i % 2 == 0 || d % 2 == 0 ? 128 : 64);
            gpu_case_upload(&c, &t->gpu, t->devices[d]);
            gpu_case_plan(&c, POD_MEMORY_DEVICE, NULL);
            gpu_case_run(&c, NULL);
            gpu_case_download(&c, &t->gpu);
            REQUIRE(gpu_case_check(&c, NULL, &t->errors), "shape %zu on %s", i, t->names[d]);
            gpu_case_free(&c, &t->gpu);
        }
    }
    return 0;
}

static int run_chosen(context *t, gpu_case *c, int32_t i, int32_t d, const gpu_expect *expect) {
    gpu_case_upload(c, &t->gpu, t->devices[d]);
    gpu_case_plan(c, i % 2 == 0 ? POD_MEMORY_DEVICE : POD_MEMORY_HOST, NULL);
    pod_plan_info info = pod_plan_info_init();
    REQUIRE_OK(pod_plan_get_info(c->plan, 0, &info));
    if (!chosen_case_is_for(i, info.kernel)) return 0;
    gpu_case_run(c, NULL);
    REQUIRE_OK(pod_plan_check(c->plan, NULL));
    gpu_case_download(c, &t->gpu);
    REQUIRE(gpu_case_check(c, expect, &t->errors), "\"%s\" on %s", chosen_case_name(i), t->names[d]);
    return 0;
}

/** Batches at the edges of what kernels do. */
static int test_chosen(context *t) {
    const char *only = getenv("PODATTN_CASE");
    for (int32_t i = 0; i < chosen_case_count(); i++) {
        if (only != NULL && strstr(chosen_case_name(i), only) == NULL) continue;
        for (int32_t d = 0; d < t->num_devices; d++) {
            gpu_case c;
            gpu_expect *expect = chosen_case_make(&c, i);
            REQUIRE(expect != NULL, "no memory");
            if (gpu_case_is_taken(&c, t->devices[d]) && run_chosen(t, &c, i, d, expect) != 0) return 1;
            gpu_case_free(&c, &t->gpu);
            free(expect);
        }
    }
    return 0;
}

/* ---- both sides at full length ---- */

/** Large hybrid batches many times over: what depends on timing shows as other bits. The oracle would take minutes. */
static int test_large(context *t) {
    static const shape shapes[] = {{32, 8, 16, 1, 1024, 16384, 64, 1, 4096},
                                   {32, 8, 64, 1, 2048, 8192, 32, 1, 8192},
                                   {32, 8, 16, 1, 1024, 4096, 64, 1, 4096}};
    enum { RUNS = 60 };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int32_t d = 0; d < t->num_devices; d++) {
            test_rng rng = {i};
            gpu_case c;
            make_shape(&c, &rng, &shapes[i], 128);
            gpu_case_upload(&c, &t->gpu, t->devices[d]);
            gpu_case_plan(&c, POD_MEMORY_DEVICE, NULL);
            gpu_case_run(&c, NULL);
            gpu_case_download(&c, &t->gpu);
            for (int run = 1; run < RUNS; run++) {
                REQUIRE(runs_alike(&c, &t->gpu, NULL), "shape %zu on %s: run %d gives other bits", i, t->names[d], run);
            }
            gpu_case_free(&c, &t->gpu);
        }
    }
    return 0;
}

/* ---- bad requests ---- */

typedef enum fault {
    FAULT_KV_NEGATIVE,
    FAULT_KV_TOO_LONG,
    FAULT_KV_SHORT,
    FAULT_PAGE,
    FAULT_Q_START,
    FAULT_Q_BEGIN,
    FAULT_COUNT
} fault;

/** A request that the fault can be planted in, -1 if none. */
static int32_t pick_victim(const gpu_case *c, test_rng *rng, fault kind) {
    const pod_batch *b = &c->batch.batch;
    if (b->num_requests == 0) return -1;
    int32_t r = rng_range(rng, 0, b->num_requests - 1);
    if (kind == FAULT_Q_START) r = b->num_requests - 1;
    if (kind == FAULT_Q_BEGIN) r = 0;
    const pod_mask *mask = &c->batch.masks[c->host.mask];
    int causal = mask->causal_per_request != NULL ? mask->causal_per_request[r] : mask->causal;
    /* a shorter request would need what is before its window now, also pages, which the GPU would name instead */
    int32_t first_key = test_batch_first_key(&c->batch, r, -1);
    if (kind == FAULT_KV_SHORT && (!causal || b->q_start[r + 1] - b->q_start[r] < 1 || first_key > 0)) return -1;
    if (kind == FAULT_PAGE && (b->page_table == NULL || first_key == b->kv_len[r])) return -1;
    return r;
}

/** Overwrites one number of the batch in the GPU's memory; `word` is what pod_plan_check() has to name. */
static void plant(const gpu_case *c, const gpu *gpu, test_rng *rng, fault kind, int32_t r, char word[64]) {
    static const int32_t pages[] = {-1, INT32_MAX, INT32_MIN};
    const pod_batch *b = &c->batch.batch;
    const int32_t *target = c->device_batch.kv_len + r;
    int32_t value = 0;
    snprintf(word, 64, "kv_len[%d]", r);
    if (kind == FAULT_KV_NEGATIVE) value = -1 - rng_range(rng, 0, 1000);
    if (kind == FAULT_KV_TOO_LONG) value = c->limits.max_kv_len + 1 + rng_range(rng, 0, 1 << 20);
    if (kind == FAULT_KV_SHORT) value = b->q_start[r + 1] - b->q_start[r] - 1;
    if (kind == FAULT_PAGE) {
        int32_t page_size = c->limits.page_size;
        int32_t p = rng_range(rng, test_batch_first_key(&c->batch, r, -1) / page_size, (b->kv_len[r] - 1) / page_size);
        target = c->device_batch.page_table + r * b->page_table_stride + p;
        value = rng_chance(rng, 50) ? b->num_pages : rng_pick(rng, pages, 3);
        snprintf(word, 64, "page_table[%d][%d] = %d", r, p, value);
    }
    if (kind == FAULT_Q_START) {
        target = c->device_batch.q_start + r + 1;
        value = c->limits.max_q_tokens + 1 + rng_range(rng, 0, 1000);
        snprintf(word, 64, "q_start[%d] = %d", r + 1, value);
    }
    if (kind == FAULT_Q_BEGIN) { /* a first value within what request 0 has, or behind, or before */
        target = c->device_batch.q_start;
        value = rng_chance(rng, 20) ? -1 : rng_range(rng, 1, c->limits.max_q_tokens);
        snprintf(word, 64, "q_start[0] = %d is not 0", value);
    }
    gpu_upload(gpu, (void *)(uintptr_t)target, &value, sizeof value);
}

/** Runs the case with a fault planted in request `victim`. */
static int run_with_fault(context *t, gpu_case *c, test_rng *rng, fault kind, int32_t victim, gpu_expect *expect) {
    char word[64];
    plant(c, &t->gpu, rng, kind, victim, word);
    expect[victim] = kind == FAULT_Q_START || kind == FAULT_Q_BEGIN ? EXPECT_UNTOUCHED : EXPECT_ZERO;
    gpu_case_plan(c, POD_MEMORY_DEVICE, NULL);
    gpu_case_run(c, NULL);
    pod_status status = pod_plan_check(c->plan, NULL);
    REQUIRE(status == POD_E_ARGUMENT, "fault %d of request %d: status %s", kind, victim, pod_status_name(status));
    REQUIRE(strstr(pod_error_message(), word) != NULL, "\"%s\" does not name %s", pod_error_message(), word);
    int32_t told = gpu_case_bad_request(c, &t->gpu);
    REQUIRE(told == 1 + victim, "fault %d of request %d: the word says %d", kind, victim, told);
    gpu_case_download(c, &t->gpu);
    REQUIRE(gpu_case_check(c, expect, &t->errors), "fault %d of request %d", kind, victim);
    return 0;
}

static int bad_request(test_rng *rng, void *argument) {
    context *t = argument;
    gpu_case c;
    int32_t d = rng_range(rng, 0, t->num_devices - 1);
    gpu_case_random(&c, rng, t->devices[d], &small_bounds);
    fault kind = (fault)rng_range(rng, 0, FAULT_COUNT - 1);
    int32_t victim = pick_victim(&c, rng, kind);
    gpu_case_upload(&c, &t->gpu, t->devices[d]);
    gpu_expect *expect = calloc((size_t)c.batch.batch.num_requests + 1, sizeof *expect);
    int failed = expect == NULL || (victim >= 0 && run_with_fault(t, &c, rng, kind, victim, expect) != 0);
    if (failed) fprintf(stderr, "device %s\n", t->names[d]);
    free(expect);
    gpu_case_free(&c, &t->gpu);
    return failed;
}

static int test_bad(context *t) {
    return property_run("bad", 200, bad_request, t);
}

/* ---- graphs ---- */

/** Global mode: an allocation or a wait on any thread would break the capture. */
static void begin_capture(const gpu *gpu, CUstream stream) {
    GPU_CHECK(gpu, stream_begin_capture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
}

/** What was captured, ready to be launched. */
static CUgraphExec end_capture(const gpu *gpu, CUstream stream) {
    CUgraph graph;
    CUgraphExec executable;
    GPU_CHECK(gpu, stream_end_capture(stream, &graph));
    GPU_CHECK(gpu, graph_instantiate(&executable, graph, 0));
    GPU_CHECK(gpu, graph_destroy(graph));
    return executable;
}

static void launch_and_wait(const gpu *gpu, CUgraphExec executable, CUstream stream) {
    GPU_CHECK(gpu, graph_launch(executable, stream));
    GPU_CHECK(gpu, stream_synchronize(stream));
}

/** Plan and two layers, captured. */
static CUgraphExec capture(const gpu_case *c, const gpu *gpu, CUstream stream) {
    begin_capture(gpu, stream);
    gpu_case_plan(c, POD_MEMORY_DEVICE, stream);
    gpu_case_run(c, stream);
    gpu_case_run(c, stream);
    return end_capture(gpu, stream);
}

static int replay(context *t, gpu_case *c, CUgraphExec executable, CUstream stream) {
    gpu_case_poison(c, &t->gpu, 0);
    launch_and_wait(&t->gpu, executable, stream);
    REQUIRE_OK(pod_plan_check(c->plan, stream));
    gpu_case_download(c, &t->gpu);
    REQUIRE(gpu_case_check(c, NULL, &t->errors), "a replay differs from the oracle");
    gpu_case_poison(c, &t->gpu, 1); /* a fresh run, in a workspace that knows nothing */
    gpu_case_plan(c, POD_MEMORY_DEVICE, stream);
    REQUIRE(runs_alike(c, &t->gpu, stream), "a replay differs from a fresh run");
    return 0;
}

static int graph_batch(test_rng *rng, void *argument) {
    context *t = argument;
    gpu_case c;
    CUstream stream;
    pod_device *device = t->devices[rng_range(rng, 0, t->num_devices - 1)];
    gpu_case_random(&c, rng, device, &small_bounds);
    gpu_case_upload(&c, &t->gpu, device);
    GPU_CHECK(&t->gpu, stream_create(&stream, CU_STREAM_NON_BLOCKING));
    gpu_room room = gpu_room_of(&c);
    CUgraphExec executable = capture(&c, &t->gpu, stream);
    for (int i = 0; i < 3; i++) {
        if (replay(t, &c, executable, stream) != 0) return 1;
        gpu_change(&c, &t->gpu, rng, &room);
    }
    gpu_room_free(&room);
    GPU_CHECK(&t->gpu, graph_exec_destroy(executable));
    GPU_CHECK(&t->gpu, stream_destroy(stream));
    gpu_case_free(&c, &t->gpu);
    return 0;
}

static int test_graph(context *t) {
    return property_run("graph", 40, graph_batch, t);
}

/** Attention alone, captured after a build: replays follow the builds that come before them. */
static int outside_batch(test_rng *rng, void *argument) {
    context *t = argument;
    gpu_case c;
    CUstream stream;
    pod_device *device = t->devices[rng_range(rng, 0, t->num_devices - 1)];
    gpu_case_random(&c, rng, device, &small_bounds);
    gpu_case_upload(&c, &t->gpu, device);
    GPU_CHECK(&t->gpu, stream_create(&stream, CU_STREAM_NON_BLOCKING));
    gpu_case_plan(&c, POD_MEMORY_DEVICE, stream);
    begin_capture(&t->gpu, stream);
    gpu_case_run(&c, stream);
    CUgraphExec executable = end_capture(&t->gpu, stream);
    gpu_room room = gpu_room_of(&c);
    for (int i = 0; i < 3; i++) {
        gpu_case_poison(&c, &t->gpu, 1);
        gpu_case_plan(&c, POD_MEMORY_DEVICE, stream);
        launch_and_wait(&t->gpu, executable, stream);
        gpu_case_download(&c, &t->gpu);
        REQUIRE(gpu_case_check(&c, NULL, &t->errors), "replay %d after a build of its own", i);
        gpu_change(&c, &t->gpu, rng, &room);
    }
    gpu_room_free(&room);
    GPU_CHECK(&t->gpu, graph_exec_destroy(executable));
    GPU_CHECK(&t->gpu, stream_destroy(stream));
    gpu_case_free(&c, &t->gpu);
    return 0;
}

static int test_graph_outside(context *t) {
    return property_run("graph_outside", 40, outside_batch, t);
}

/** Two plans that take turns on one stream with one scratch between them. */
static int shared_scratch(test_rng *rng, void *argument) {
    context *t = argument;
    gpu_case cases[2];
    for (int i = 0; i < 2; i++) {
        pod_device *device = t->devices[rng_range(rng, 0, t->num_devices - 1)];
        gpu_case_random(&cases[i], rng, device, &small_bounds);
        gpu_case_upload(&cases[i], &t->gpu, device);
    }
    int larger = cases[1].workspace.scratch_bytes > cases[0].workspace.scratch_bytes;
    pod_workspace shared = cases[!larger].workspace;
    shared.scratch = cases[larger].workspace.scratch;
    shared.scratch_bytes = cases[larger].workspace.scratch_bytes;
    REQUIRE_OK(pod_plan_attach(cases[!larger].plan, &shared));
    for (int i = 0; i < 2; i++) gpu_case_plan(&cases[i], POD_MEMORY_DEVICE, NULL);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) gpu_case_run(&cases[i], NULL);
    }
    for (int i = 0; i < 2; i++) {
        gpu_case_download(&cases[i], &t->gpu);
        REQUIRE(gpu_case_check(&cases[i], NULL, &t->errors), "plan %d", i);
        gpu_case_free(&cases[i], &t->gpu);
    }
    return 0;
}

static int test_scratch(context *t) {
    return property_run("scratch", 40, shared_scratch, t);
}

static int append_batch(test_rng *rng, void *argument) {
    context *t = argument;
    int32_t d = rng_range(rng, 0, t->num_devices - 1);
    REQUIRE(gpu_append_check(&t->gpu, t->devices[d], rng), "appended on %s", t->names[d]);
    return 0;
}

static int test_append(context *t) {
    return property_run("append", 300, append_batch, t);
}

static int merge_batch(test_rng *rng, void *argument) {
    context *t = argument;
    REQUIRE(gpu_merge_check(&t->gpu, t->devices[0], rng), "merged on %s", t->names[0]);
    return 0;
}

static int test_merge(context *t) {
    return property_run("merge", 100, merge_batch, t);
}

/* ---- what cannot be captured ---- */

/** A batch in host memory cannot be captured, and says so. */
static int test_capture_host(context *t) {
    test_rng rng = {7};
    gpu_case c;
    CUstream stream;
    CUgraph graph;
    static const shape s = {8, 2, 16, 1, 40, 100, 3, 1, 90};
    make_shape(&c, &rng, &s, 128);
    gpu_case_upload(&c, &t->gpu, t->devices[0]);
    GPU_CHECK(&t->gpu, stream_create(&stream, CU_STREAM_NON_BLOCKING));
    begin_capture(&t->gpu, stream);
    pod_status status = pod_plan_build(c.plan, &c.batch.batch, stream);
    GPU_CHECK(&t->gpu, stream_end_capture(stream, &graph));
    REQUIRE(status == POD_E_UNSUPPORTED, "%s", pod_status_name(status));
    REQUIRE(strstr(pod_error_message(), "captured") != NULL, "%s", pod_error_message());
    GPU_CHECK(&t->gpu, graph_destroy(graph));
    GPU_CHECK(&t->gpu, stream_destroy(stream));
    gpu_case_free(&c, &t->gpu);
    return 0;
}

/** What a captured plan decided is known after a replay, not before. */
static int test_view(context *t) {
    test_rng rng = {23};
    gpu_case c;
    CUstream stream;
    CUgraph graph;
    CUgraphExec executable;
    pod_plan_info info = pod_plan_info_init();
    static const shape s = {8, 2, 16, 1, 40, 100, 3, 1, 90};
    make_shape(&c, &rng, &s, 128);
    gpu_case_upload(&c, &t->gpu, t->devices[0]);
    GPU_CHECK(&t->gpu, stream_create(&stream, CU_STREAM_NON_BLOCKING));
    begin_capture(&t->gpu, stream);
    gpu_case_plan(&c, POD_MEMORY_DEVICE, stream);
    pod_status while_capturing = pod_plan_get_info(c.plan, 0, &info);
    int names_capture = strstr(pod_error_message(), "captured") != NULL;
    GPU_CHECK(&t->gpu, stream_end_capture(stream, &graph));
    REQUIRE(while_capturing == POD_E_STATE && names_capture, "%s", pod_status_name(while_capturing));
    gpu_case_poison(&c, &t->gpu, 1);
    pod_status before = pod_plan_get_info(c.plan, 0, &info);
    REQUIRE(before == POD_E_STATE, "%s before a replay", pod_status_name(before));
    GPU_CHECK(&t->gpu, graph_instantiate(&executable, graph, 0));
    GPU_CHECK(&t->gpu, graph_launch(executable, stream));
    REQUIRE_OK(pod_plan_get_info(c.plan, 0, &info));
    REQUIRE(info.num_prefill_requests == 1 && info.num_decode_requests == 3, "%d", info.num_decode_requests);
    REQUIRE(gpu_plan_check(&c, &t->gpu), "after a replay");
    GPU_CHECK(&t->gpu, graph_exec_destroy(executable));
    GPU_CHECK(&t->gpu, graph_destroy(graph));
    GPU_CHECK(&t->gpu, stream_destroy(stream));
    gpu_case_free(&c, &t->gpu);
    return 0;
}

/** What a plan's part holds is noticed not to be the plan: where the host looks at it, and where another plan of the
 * process was built there. */
static int test_overwritten(context *t) {
    test_rng rng = {29};
    gpu_case c;
    pod_plan *other;
    pod_plan_info info = pod_plan_info_init();
    static const shape s = {8, 2, 16, 1, 40, 100, 3, 1, 90};
    make_shape(&c, &rng, &s, 128);
    gpu_case_upload(&c, &t->gpu, t->devices[0]);
    gpu_case_plan(&c, POD_MEMORY_DEVICE, NULL);
    REQUIRE_OK(pod_plan_check(c.plan, NULL));
    gpu_fill(&t->gpu, c.plan->schedules[0].entries, 0x7f, sizeof(pod_prefill_entry));
    pod_status status = pod_plan_get_info(c.plan, 0, &info);
    REQUIRE(status == POD_E_WORKSPACE, "entries: %s", pod_status_name(status));
    gpu_fill(&t->gpu, c.plan->schedules[0].header, 0xff, sizeof(pod_schedule_header));
    status = pod_plan_get_info(c.plan, 0, &info);
    REQUIRE(status == POD_E_STATE, "header: %s", pod_status_name(status));
    status = pod_plan_check(c.plan, NULL);
    REQUIRE(status == POD_E_STATE, "header: %s of pod_plan_check()", pod_status_name(status));

    gpu_case_plan(&c, POD_MEMORY_DEVICE, NULL);
    REQUIRE_OK(pod_plan_create(t->devices[0], &c.limits, &other));
    REQUIRE_OK(pod_plan_attach(other, &c.workspace));
    gpu_case_run(&c, NULL);
    REQUIRE_OK(pod_plan_build(other, &c.device_batch, NULL));
    status = pod_attention(c.plan, &c.device, &c.device_cache, NULL);
    REQUIRE(status == POD_E_WORKSPACE, "another plan's: %s", pod_status_name(status));
    status = pod_plan_get_info(c.plan, 0, &info);
    REQUIRE(status == POD_E_STATE, "another plan's: %s of pod_plan_get_info()", pod_status_name(status));
    REQUIRE_OK(pod_attention(other, &c.device, &c.device_cache, NULL));
    gpu_case_plan(&c, POD_MEMORY_DEVICE, NULL);
    gpu_case_run(&c, NULL);
    GPU_CHECK(&t->gpu, ctx_synchronize());
    gpu_case_download(&c, &t->gpu);
    REQUIRE(gpu_case_check(&c, NULL, &t->errors), "after a build of its own");
    pod_plan_destroy(other);
    gpu_case_free(&c, &t->gpu);
    return 0;
}

/* ---- streams and threads ---- */

/** Several batches at once on several streams, many times over, all on one device object. */
static int test_streams(context *t) {
    enum { STREAMS = 6, ROUNDS = 20 };
    gpu_case cases[STREAMS];
    CUstream streams[STREAMS];
    test_rng rng = {11};
    for (int i = 0; i < STREAMS; i++) {
        pod_device *device = t->devices[i % t->num_devices];
        gpu_case_random(&cases[i], &rng, device, &small_bounds);
        gpu_case_upload(&cases[i], &t->gpu, device);
        GPU_CHECK(&t->gpu, stream_create(&streams[i], CU_STREAM_NON_BLOCKING));
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < STREAMS; i++) {
            gpu_case_plan(&cases[i], POD_MEMORY_DEVICE, streams[i]);
            gpu_case_run(&cases[i], streams[i]);
            gpu_case_run(&cases[i], streams[i]);
        }
    }
    GPU_CHECK(&t->gpu, ctx_synchronize());
    for (int i = 0; i < STREAMS; i++) {
        gpu_case_download(&cases[i], &t->gpu);
        REQUIRE(gpu_case_check(&cases[i], NULL, &t->errors), "stream %d", i);
        GPU_CHECK(&t->gpu, stream_destroy(streams[i]));
        gpu_case_free(&cases[i], &t->gpu);
    }
    return 0;
}

typedef struct worker {
    const context *t;
    gpu_case c;
    pod_device *own; /**< NULL: shares the context's */
} worker;

/** Runs with no context current, as a thread that the program just made. */
static void *work_in_thread(void *argument) {
    enum { ROUNDS = 20 };
    worker *w = argument;
    const gpu *gpu = &w->t->gpu;
    CUstream stream;
    GPU_CHECK(gpu, ctx_set_current(gpu->context));
    GPU_CHECK(gpu, stream_create(&stream, CU_STREAM_NON_BLOCKING));
    GPU_CHECK(gpu, ctx_set_current(NULL));
    for (int round = 0; round < ROUNDS; round++) {
        gpu_case_plan(&w->c, round % 2 == 0 ? POD_MEMORY_HOST : POD_MEMORY_DEVICE, stream);
        gpu_case_run(&w->c, stream);
    }
    GPU_CHECK(gpu, ctx_set_current(gpu->context));
    GPU_CHECK(gpu, stream_synchronize(stream));
    GPU_CHECK(gpu, stream_destroy(stream));
    return NULL;
}

static int test_threads(context *t) {
    enum { THREADS = 6 };
    worker workers[THREADS];
    pthread_t threads[THREADS];
    test_rng rng = {13};
    for (int i = 0; i < THREADS; i++) {
        worker *w = &workers[i];
        w->t = t;
        w->own = NULL;
        if (i % 2 == 1) REQUIRE_OK(pod_device_open(t->names[0], &w->own));
        pod_device *device = w->own != NULL ? w->own : t->devices[i % t->num_devices];
        gpu_case_random(&w->c, &rng, device, &small_bounds);
        gpu_case_upload(&w->c, &t->gpu, device);
    }
    for (int i = 0; i < THREADS; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, work_in_thread, &workers[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        worker *w = &workers[i];
        gpu_case_download(&w->c, &t->gpu);
        REQUIRE(gpu_case_check(&w->c, NULL, &t->errors), "thread %d", i);
        gpu_case_free(&w->c, &t->gpu);
        pod_device_close(w->own);
    }
    return 0;
}

/* ---- refusals ---- */

static int refuses_device(const char *name, pod_status expected, const char *word) {
    pod_device *device = NULL;
    pod_status status = pod_device_open(name, &device);
    REQUIRE(status == expected && device == NULL, "%s: %s", name, pod_status_name(status));
    REQUIRE(strstr(pod_error_message(), word) != NULL, "%s: \"%s\" does not name %s", name, pod_error_message(), word);
    return 0;
}

static int refuses_limits(context *t, pod_limits limits, const char *word) {
    pod_workspace workspace = pod_workspace_init();
    pod_status status = pod_workspace_size(t->devices[0], &limits, &workspace);
    REQUIRE(status == POD_E_UNSUPPORTED, "%s: %s", word, pod_status_name(status));
    REQUIRE(strstr(pod_error_message(), word) != NULL, "\"%s\" does not name %s", pod_error_message(), word);
    return 0;
}

static int refuses_call(const gpu_case *c, const pod_tensors *tensors, const pod_cache *cache, pod_status expected,
                        const char *word) {
    pod_status status = pod_attention(c->plan, tensors, cache, NULL);
    REQUIRE(status == expected, "%s: %s", word, pod_status_name(status));
    REQUIRE(strstr(pod_error_message(), word) != NULL, "\"%s\" does not name %s", pod_error_message(), word);
    return 0;
}

static int refuses_append(const gpu_case *c, const pod_append *append, pod_status expected, const char *word) {
    pod_status status = pod_cache_append(c->plan, append, &c->device_cache, NULL);
    REQUIRE(status == expected, "%s: %s", word, pod_status_name(status));
    REQUIRE(strstr(pod_error_message(), word) != NULL, "\"%s\" does not name %s", pod_error_message(), word);
    return 0;
}

/** Appends of what is the case's q, as k and as v. */
static int refuses_appends(const gpu_case *c) {
    pod_append good = pod_append_init(), a;
    good.dtype = c->limits.q_dtype;
    good.k = good.v = c->device.q;
    int wrong = 0;
    a = good;
    a.k = (const uint16_t *)a.k + 1;
    wrong |= refuses_append(c, &a, POD_E_UNSUPPORTED, "append.k is not aligned");
    a = good;
    a.v_token_stride = c->limits.kv_heads * c->limits.head_dim + 1;
    wrong |= refuses_append(c, &a, POD_E_UNSUPPORTED, "append.v_token_stride");
    a = good;
    a.q = c->device.q;
    a.q_out = (uint16_t *)c->device.out + 3;
    wrong |= refuses_append(c, &a, POD_E_UNSUPPORTED, "append.q_out is not aligned");
    return wrong;
}

static int test_refusals(context *t) {
    int wrong = 0;
    wrong |= refuses_device("cuda:99", POD_E_NO_DEVICE, "cuda:99");
    wrong |= refuses_device("cuda:x", POD_E_ARGUMENT, "\"x\"");
    wrong |= refuses_device("cuda:-1", POD_E_ARGUMENT, "\"-1\"");
    wrong |= refuses_device("cuda:,ctas=2", POD_E_ARGUMENT, "write cuda:0,ctas=2");
    wrong |= refuses_device("cuda:0,ctas=2,ctas=4", POD_E_ARGUMENT, "\"ctas=4\" is a second");
    wrong |= refuses_device("cuda:99999999999999", POD_E_ARGUMENT, "9999");
    wrong |= refuses_device("cuda:0,fuse=1", POD_E_ARGUMENT, "\"fuse=1\"");
    wrong |= refuses_device("cuda:0,ctas=3", POD_E_ARGUMENT, "\"ctas=3\"");
    wrong |= refuses_device("cuda:0,", POD_E_ARGUMENT, "\"\"");

    test_rng rng = {17};
    static const shape s = {8, 2, 16, 1, 40, 100, 3, 1, 90};
    gpu_case c;
    make_shape(&c, &rng, &s, 128);
    pod_limits limits = c.limits;
    limits.q_dtype = POD_F32;
    wrong |= refuses_limits(t, limits, "q_dtype f32");
    limits = c.limits;
    limits.kv_dtype = POD_F32;
    wrong |= refuses_limits(t, limits, "kv_dtype f32");
    limits = c.limits;
    limits.head_dim = limits.v_head_dim = 576;
    wrong |= refuses_limits(t, limits, "head_dim = 576");

    gpu_case_upload(&c, &t->gpu, t->devices[0]);
    gpu_case_plan(&c, POD_MEMORY_DEVICE, NULL);
    pod_tensors tensors = c.device;
    pod_cache cache = c.device_cache;
    cache.k = (uint16_t *)cache.k + 1;
    wrong |= refuses_call(&c, &tensors, &cache, POD_E_UNSUPPORTED, "k is not aligned");
    cache = c.device_cache;
    cache.v_token_stride += 1;
    wrong |= refuses_call(&c, &tensors, &cache, POD_E_UNSUPPORTED, "v_token_stride");
    cache = c.device_cache;
    float one = 1;
    cache.k_scale = &one;
    wrong |= refuses_call(&c, &tensors, &cache, POD_E_UNSUPPORTED, "k_scale");
    cache = c.device_cache;
    cache.k_page_stride = INT64_C(1) << 40;
    wrong |= refuses_call(&c, &tensors, &cache, POD_E_UNSUPPORTED, "k_page_stride");
    tensors.scale = -0.5f;
    wrong |= refuses_call(&c, &tensors, &c.device_cache, POD_E_UNSUPPORTED, "scale = -0.5");
    tensors = c.device;
    tensors.alibi_slopes = &one;
    wrong |= refuses_call(&c, &tensors, &c.device_cache, POD_E_UNSUPPORTED, "alibi_slopes");
    tensors = c.device;
    uint64_t word = 1;
    tensors.tree_mask = &word;
    wrong |= refuses_call(&c, &tensors, &c.device_cache, POD_E_UNSUPPORTED, "tree_mask");
    tensors = c.device;
    wrong |= refuses_appends(&c);
    tensors.out_tokens = c.limits.max_q_tokens - 1;
    wrong |= refuses_call(&c, &tensors, &c.device_cache, POD_E_ARGUMENT, "out_tokens");
    gpu_case_free(&c, &t->gpu);
    return wrong;
}

/** A pointer from malloc is caught where the GPU cannot follow it. */
static int test_host_pointers(context *t) {
    int follows = 0;
    GPU_CHECK(&t->gpu, device_get_attribute(&follows, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, t->gpu.device));
    if (follows) return 0;
    test_rng rng = {19};
    static const shape s = {8, 2, 16, 1, 40, 100, 3, 1, 90};
    gpu_case c;
    make_shape(&c, &rng, &s, 64);
    gpu_case_upload(&c, &t->gpu, t->devices[0]);
    pod_batch batch = c.batch.batch;
    batch.memory = POD_MEMORY_DEVICE;
    pod_status status = pod_plan_build(c.plan, &batch, NULL);
    REQUIRE(status == POD_E_ARGUMENT, "%s", pod_status_name(status));
    REQUIRE(strstr(pod_error_message(), "q_start") != NULL, "%s", pod_error_message());
    gpu_case_plan(&c, POD_MEMORY_DEVICE, NULL);
    pod_cache cache = c.device_cache;
    cache.k = aligned_alloc(16, 1 << 20);
    int wrong = refuses_call(&c, &c.device, &cache, POD_E_ARGUMENT, "k is no memory");
    static const int64_t host_slot = 0;
    pod_append append = pod_append_init();
    append.dtype = c.limits.q_dtype;
    append.k = append.v = c.device.q;
    append.slot_mapping = &host_slot;
    append.num_tokens = 1;
    wrong |= refuses_append(&c, &append, POD_E_ARGUMENT, "append.slot_mapping is no memory");
    free(cache.k);
    gpu_case_free(&c, &t->gpu);
    return wrong;
}

static int test_info(context *t) {
    pod_device *device;
    pod_device_info info = pod_device_info_init();
    REQUIRE_OK(pod_device_open("auto", &device));
    REQUIRE_OK(pod_device_get_info(device, &info));
    printf("info: %s, %s, kernels %s, %d CTAs, %lld MiB; %s\n", info.backend, info.name, info.kernel, info.num_ctas,
           (long long)(info.memory_bytes >> 20), info.note);
    REQUIRE(strcmp(info.backend, "cuda") == 0, "%s", info.backend);
    REQUIRE(strcmp(info.name, t->gpu.name) == 0, "%s", info.name);
    REQUIRE(info.num_ctas > 0 && info.memory_bytes > 0, "%d", info.num_ctas);
    pod_device_close(device);
    return 0;
}

/* ---- two GPUs ---- */

static int run_pair(context *t, const gpu gpus[2]) {
    pod_device *devices[2];
    test_rng rng = {31};
    for (int g = 0; g < 2; g++) {
        char name[MAX_NAME];
        snprintf(name, sizeof name, "cuda:%d", g);
        REQUIRE_OK(pod_device_open(name, &devices[g]));
    }
    REQUIRE(gpu_pair_refuses(gpus, devices), "memory of the other GPU");
    REQUIRE(gpu_pair_keeps_contexts(gpus, devices), "contexts");
    REQUIRE(gpu_pair_computes_at_once(gpus, devices, &rng, &t->errors), "two threads");
    for (int g = 0; g < 2; g++) pod_device_close(devices[g]);
    return 0;
}

static int test_two_gpus(context *t) {
    gpu gpus[2];
    int count = 0;
    GPU_CHECK(&t->gpu, device_get_count(&count));
    if (count < 2) return GPU_EXIT_SKIPPED;
    for (int g = 0; g < 2; g++) REQUIRE(gpu_open(&gpus[g], g), "GPU %d", g);
    int failed = run_pair(t, gpus);
    for (int g = 0; g < 2; g++) gpu_close(&gpus[g]);
    GPU_CHECK(&t->gpu, ctx_set_current(t->gpu.context));
    return failed;
}

/* ---- running them ---- */

static const struct {
    const char *name;
    int (*run)(context *t);
} tests[] = {
    {"info", test_info},
    {"refusals", test_refusals},
    {"host_pointers", test_host_pointers},
    {"shapes", test_shapes},
    {"chosen", test_chosen},
    {"large", test_large},
    {"random", test_random},
    {"bad", test_bad},
    {"graph", test_graph},
    {"capture_host", test_capture_host},
    {"view", test_view},
    {"overwritten", test_overwritten},
    {"streams", test_streams},
    {"threads", test_threads},
    {"graph_outside", test_graph_outside},
    {"scratch", test_scratch},
    {"append", test_append},
    {"merge", test_merge},
    {"two_gpus", test_two_gpus},
};

static int is_wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) return 1;
    }
    return argc < 2;
}

/** Adds a device name, unless it is there. */
static void add_name(context *t, const char *options) {
    char name[MAX_NAME];
    snprintf(name, sizeof name, "cuda:0%s%s", *options != '\0' ? "," : "", options);
    for (int32_t d = 0; d < t->num_devices; d++) {
        if (strcmp(t->names[d], name) == 0) return;
    }
    if (t->num_devices == MAX_DEVICES) exit(EXIT_FAILURE);
    memcpy(t->names[t->num_devices++], name, sizeof name);
}

/** What chooses the kernel; for a kernel that has policies, the other one too. */
static int add_kernel(void *context, const pod_kernel_info *kernel) {
    int is_family = strchr(kernel->options, ',') == NULL; /* which refuses what the others are for */
    if (!is_family) add_name(context, kernel->options);
#ifdef POD_BASELINES
    char options[sizeof kernel->options + 16];
    int is_fused = strstr(kernel->options, "fusion=") == NULL;
    snprintf(options, sizeof options, "%s,policy=half", kernel->options);
    if (is_fused && strcmp(kernel->family, "sm80") == 0) add_name(context, options);
#endif
    return 0;
}

/** "cuda:0", and it with the options of each of its kernels. */
static void list_names(context *t) {
    pod_device *device;
    add_name(t, "");
    if (pod_device_open("cuda:0", &device) != POD_OK) return; /* opening it again says why */
    pod_device_visit_kernels(device, add_kernel, t);
    pod_device_close(device);
}

/** The GPU that PODATTN_CUDA_DEVICE names. */
static int wanted_ordinal(void) {
    const char *only = getenv("PODATTN_CUDA_DEVICE");
    return only != NULL && strncmp(only, "cuda:", 5) == 0 ? atoi(only + 5) : 0;
}

static void open_devices(context *t) {
    const char *only = getenv("PODATTN_CUDA_DEVICE");
    if (only != NULL) {
        snprintf(t->names[t->num_devices++], MAX_NAME, "%s", only);
    } else {
        list_names(t);
    }
    for (int32_t d = 0; d < t->num_devices; d++) {
        if (pod_device_open(t->names[d], &t->devices[d]) == POD_OK) continue;
        fprintf(stderr, "%s: %s\n", t->names[d], pod_error_message());
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv) {
    context t = {0};
    int failures = 0, num_passed = 0, num_skipped = 0;
    if (!gpu_open(&t.gpu, wanted_ordinal())) {
        printf("skipped: no GPU\n");
        return GPU_EXIT_SKIPPED;
    }
    open_devices(&t);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (!is_wanted(tests[i].name, argc, argv)) continue;
        t.errors = (pod_errors){0};
        int result = tests[i].run(&t), is_skipped = result == GPU_EXIT_SKIPPED, failed = result != 0 && !is_skipped;
        failures += failed;
        num_skipped += is_skipped;
        num_passed += result == 0;
        printf("%-14s %s", tests[i].name, failed ? "FAILED" : is_skipped ? "skipped" : "passed");
        if (t.errors.whole > 0) {
            printf("   largest error: batch %.2e, row %.2e, LSE %.2e", t.errors.whole, t.errors.worst_row,
                   t.errors.lse);
        }
        printf("\n");
        fflush(stdout);
    }
    for (int32_t d = 0; d < t.num_devices; d++) pod_device_close(t.devices[d]);
    gpu_close(&t.gpu);
    if (failures == 0 && num_passed == 0 && num_skipped > 0) return GPU_EXIT_SKIPPED;
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
