/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual caches in a GPU's memory: contents, prefixes that are shared, attention with pages up to the last token and
 * no further; on the fake driver also every call that it can refuse. */
#include "base/prng.h"
#include "gpu.h"
#include "podattn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 2, HEAD_DIM = 128, TOKEN = HEADS * HEAD_DIM, MAX_KV_LEN = 4000, NUM_REQUESTS = 4, NUM_LAYERS = 2 };

static int failures;
static gpu the_gpu;
static int64_t page_bytes; /**< 0: the library's choice */
static char device_name[32];
static void (*count_fakes)(int *num_pages, int *num_mappings, int *num_ranges);

static void check(int is_true, const char *what) {
    if (is_true) return;
    fprintf(stderr, "not so: %s (\"%s\")\n", what, pod_error_message());
    failures++;
}

static void expect_ok(pod_status status, const char *what) {
    check(status == POD_OK, what);
}

/** The same of what everything after it needs. */
static void require_ok(pod_status status, const char *what) {
    expect_ok(status, what);
    if (status != POD_OK) exit(EXIT_FAILURE);
}

static pod_virtual_config small_config(pod_virtual_layout layout) {
    pod_virtual_config config = pod_virtual_config_init();
    config.num_layers = NUM_LAYERS;
    config.kv_heads = HEADS;
    config.head_dim = HEAD_DIM;
    config.kv_dtype = POD_BF16;
    config.max_requests = NUM_REQUESTS;
    config.max_kv_len = MAX_KV_LEN;
    config.layout = layout;
    config.page_bytes = page_bytes;
    return config;
}

/* ---- contents ---- */

/** A token of a layer, K or V; the same numbers wherever it is. Small: any bits of 15 are a bf16 of at most 1. */
static void make_token(uint16_t *token, int32_t request, int32_t layer, int is_value, int32_t position) {
    pod_prng random = pod__prng_seed((uint64_t)position * 64 + (uint64_t)(request * 8 + layer * 2 + is_value));
    for (int i = 0; i < TOKEN; i++) {
        uint64_t bits = pod__prng_next(&random);
        token[i] = (uint16_t)((bits & 0x8000) | (0x3c00 + (bits >> 16) % 0x380));
    }
}

static uint16_t *token_at(const pod_cache *c, int is_value, int32_t page, int32_t position) {
    return (uint16_t *)(is_value ? c->v : c->k) + page * c->k_page_stride + position * c->k_token_stride;
}

static void write_tokens(pod_virtual_cache *cache, int64_t handle, int32_t request, int32_t begin, int32_t end) {
    uint16_t token[TOKEN];
    for (int32_t part = 0; part < 2 * NUM_LAYERS; part++) {
        pod_cache c = pod_cache_init();
        expect_ok(pod_virtual_cache_get_layer(cache, part / 2, &c), "a layer");
        for (int32_t position = begin; position < end; position++) {
            make_token(token, request, part / 2, part % 2, position);
            gpu_upload(&the_gpu, token_at(&c, part % 2, pod_virtual_page(handle), position), token, sizeof token);
        }
    }
}

static void check_tokens(pod_virtual_cache *cache, int64_t handle, int32_t request, int32_t begin, int32_t end) {
    uint16_t token[TOKEN], found[TOKEN];
    for (int32_t part = 0; part < 2 * NUM_LAYERS; part++) {
        pod_cache c = pod_cache_init();
        expect_ok(pod_virtual_cache_get_layer(cache, part / 2, &c), "a layer");
        for (int32_t position = begin; position < end; position++) {
            make_token(token, request, part / 2, part % 2, position);
            gpu_download(&the_gpu, found, token_at(&c, part % 2, pod_virtual_page(handle), position), sizeof found);
            if (memcmp(found, token, sizeof token) == 0) continue;
            check(0, "a token is what was written");
            return;
        }
    }
}

/* ---- attention ---- */

typedef struct attention {
    pod_device *device;
    pod_plan *plan;
    pod_workspace workspace;
    void *q, *out;
} attention;

enum { Q_TOKENS = 70, Q_HEADS = 4, Q_BYTES = Q_TOKENS * Q_HEADS * HEAD_DIM * 2 };

static attention make_attention(pod_device *device, int32_t page_size) {
    attention a = {.device = device, .workspace = pod_workspace_init()};
    pod_limits limits = pod_limits_init();
    limits.q_heads = Q_HEADS;
    limits.kv_heads = HEADS;
    limits.head_dim = HEAD_DIM;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = POD_BF16;
    limits.page_size = page_size;
    limits.max_requests = NUM_REQUESTS;
    limits.max_q_tokens = Q_TOKENS;
    limits.max_kv_len = MAX_KV_LEN;
    expect_ok(pod_plan_create(device, &limits, &a.plan), "a plan");
    expect_ok(pod_workspace_size(device, &limits, &a.workspace), "its workspace");
    a.workspace.plan = gpu_alloc(&the_gpu, a.workspace.plan_bytes);
    a.workspace.scratch = gpu_alloc(&the_gpu, a.workspace.scratch_bytes);
    gpu_fill(&the_gpu, a.workspace.plan, 0xff, a.workspace.plan_bytes);
    expect_ok(pod_plan_attach(a.plan, &a.workspace), "attaching");
    uint16_t q[Q_BYTES / 2];
    for (int32_t t = 0; t < Q_BYTES / 2 / TOKEN; t++) make_token(q + t * TOKEN, 7, 0, 0, t);
    a.q = gpu_copy(&the_gpu, q, sizeof q);
    a.out = gpu_alloc(&the_gpu, Q_BYTES);
    return a;
}

static void free_attention(attention *a) {
    pod_plan_destroy(a->plan);
    gpu_free(&the_gpu, a->workspace.plan);
    gpu_free(&the_gpu, a->workspace.scratch);
    gpu_free(&the_gpu, a->q);
    gpu_free(&the_gpu, a->out);
}

static void attend(attention *a, const pod_cache *cache, const int32_t *pages, const int32_t *kv_len, void *out) {
    static const int32_t q_start[] = {0, 68, 69, 70};
    pod_batch batch = pod_batch_init();
    batch.num_requests = 3;
    batch.num_pages = NUM_REQUESTS;
    batch.q_start = q_start;
    batch.kv_len = kv_len;
    batch.page_table = pages;
    batch.page_table_stride = batch.max_pages = 1;
    expect_ok(pod_plan_build(a->plan, &batch, NULL), "a build");
    pod_tensors tensors = pod_tensors_init();
    tensors.q = a->q;
    tensors.out = a->out;
    gpu_fill(&the_gpu, a->out, 0xff, Q_BYTES);
    expect_ok(pod_attention(a->plan, &tensors, cache, NULL), "attention");
    GPU_CHECK(&the_gpu, stream_synchronize(NULL));
    gpu_download(&the_gpu, out, a->out, Q_BYTES);
}

/** The same keys and values in memory of the common kind, packed. */
static pod_cache pack(const int32_t *pages, const int32_t *kv_len, int32_t page_size, int32_t layer) {
    pod_cache c = pod_cache_init();
    size_t bytes = (size_t)NUM_REQUESTS * (size_t)page_size * TOKEN * 2;
    c.k = gpu_alloc(&the_gpu, bytes);
    c.v = gpu_alloc(&the_gpu, bytes);
    c.k_token_stride = c.v_token_stride = TOKEN;
    c.k_page_stride = c.v_page_stride = (int64_t)page_size * TOKEN;
    uint16_t token[TOKEN];
    for (int32_t i = 0; i < 2 * 3; i++) {
        for (int32_t position = 0; position < kv_len[i / 2]; position++) {
            make_token(token, i / 2, layer, i % 2, position);
            gpu_upload(&the_gpu, token_at(&c, i % 2, pages[i / 2], position), token, sizeof token);
        }
    }
    return c;
}

/** The first place of the range stays empty, so that the caches begin at addresses without memory; the second request
 * ends with the last token of a page. */
static void test_attention(pod_virtual_layout layout) {
    static uint16_t out[Q_BYTES / 2], expected[Q_BYTES / 2];
    pod_device *device;
    pod_virtual_cache *cache;
    pod_virtual_info info = pod_virtual_info_init();
    pod_virtual_config config = small_config(layout);
    int64_t requests[NUM_REQUESTS];
    require_ok(pod_device_open(device_name, &device), "opening");
    require_ok(pod_virtual_cache_create(device, &config, &cache), "creating");
    require_ok(pod_virtual_cache_get_info(cache, &info), "sizes");
    int32_t fits = (int32_t)(info.page_bytes / info.token_bytes), kv_len[] = {68, fits > 3900 ? 3900 : fits, 257};
    int32_t pages[3];
    for (int r = 0; r < NUM_REQUESTS; r++) expect_ok(pod_virtual_cache_open(cache, &requests[r]), "a request");
    int64_t *used = requests + 1;
    expect_ok(pod_virtual_cache_expect(cache, 3, used, kv_len), "expecting");
    expect_ok(pod_virtual_cache_ensure(cache, 0, 3, used, kv_len), "ensuring");
    for (int r = 0; r < 3; r++) {
        pages[r] = pod_virtual_page(used[r]);
        write_tokens(cache, used[r], r, 0, kv_len[r]);
        check(pages[r] > 0, "the first place is empty");
    }
    attention a = make_attention(device, info.page_size);
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        pod_cache c = pod_cache_init(), packed = pack(pages, kv_len, info.page_size, layer);
        expect_ok(pod_virtual_cache_get_layer(cache, layer, &c), "a layer");
        attend(&a, &c, pages, kv_len, out);
        attend(&a, &packed, pages, kv_len, expected);
        check(memcmp(out, expected, sizeof out) == 0, "attention over a virtual cache is that over a packed one");
        gpu_free(&the_gpu, packed.k);
        gpu_free(&the_gpu, packed.v);
    }
    free_attention(&a);
    pod_virtual_cache_destroy(cache);
    pod_device_close(device);
}

/* ---- a life, and what the driver may refuse ---- */

/** Whatever is refused is asked for again, once the driver works. Returns whether anything was refused. */
static int again(pod_status status, const char *word, const char *what) {
    if (status == POD_OK) return 0;
    check(word != NULL && strstr(pod_error_message(), word) != NULL, what);
    unsetenv("FAKE_CUDA_FAIL");
    return 1;
}

/** `fault`: as FAKE_CUDA_FAIL wants it, set after the cache was made, or NULL; `word`: of its message. Returns whether
 * it showed. */
static int live(pod_virtual_layout layout, const char *fault, const char *word) {
    static const int32_t kv_len[] = {100, 1500}, longer[] = {2100, 1501};
    pod_device *device;
    pod_virtual_cache *cache;
    pod_virtual_config config = small_config(layout);
    int64_t requests[2], forked, freed;
    int is_seen = 0, num_pages, num_mappings, num_ranges;
    require_ok(pod_device_open(device_name, &device), "opening");
    require_ok(pod_virtual_cache_create(device, &config, &cache), "creating");
    for (int r = 0; r < 2; r++) expect_ok(pod_virtual_cache_open(cache, &requests[r]), "a request");
    if (fault != NULL) setenv("FAKE_CUDA_FAIL", fault, 1);
#define AGAIN(call)                                                                                                    \
    if (again(call, word, #call)) {                                                                                    \
        is_seen = 1;                                                                                                   \
        expect_ok(call, #call);                                                                                        \
    }
    AGAIN(pod_virtual_cache_ensure(cache, 0, 2, requests, kv_len));
    for (int r = 0; r < 2; r++) write_tokens(cache, requests[r], r, kv_len[r] - 100, kv_len[r]);
    AGAIN(pod_virtual_cache_ensure(cache, 1, 2, requests, longer));
    AGAIN(pod_virtual_cache_fork(cache, requests[1], 1490, NULL, &forked));
    check_tokens(cache, forked, 1, 1400, 1490);
    write_tokens(cache, forked, 3, 1490, 1491);
    for (int r = 0; r < 2; r++) check_tokens(cache, requests[r], r, kv_len[r] - 100, kv_len[r]);
    expect_ok(pod_virtual_cache_close(cache, requests[1]), "closing");
    expect_ok(pod_virtual_cache_ensure(cache, 2, 0, NULL, NULL), "a step");
    expect_ok(pod_virtual_cache_finished(cache, 2), "its end");
    check_tokens(cache, forked, 1, 1400, 1490);
    AGAIN(pod_virtual_cache_trim(cache, INT64_MAX, &freed));
    check_tokens(cache, forked, 1, 1400, 1490);
    check_tokens(cache, forked, 3, 1490, 1491);
    unsetenv("FAKE_CUDA_FAIL");
    pod_virtual_cache_destroy(cache);
    pod_device_close(device);
    if (count_fakes == NULL) return is_seen;
    count_fakes(&num_pages, &num_mappings, &num_ranges);
    check(num_pages == 0 && num_mappings == 0 && num_ranges == 0, "all memory is given back");
    return is_seen;
}

static void refuses(pod_virtual_layout layout, const char *fault, const char *word) {
    if (live(layout, fault, word)) return;
    fprintf(stderr, "%s did not show\n", fault);
    failures++;
}

static void create_refuses(const char *variable, const char *value, pod_status expected, const char *word) {
    pod_device *device;
    pod_virtual_cache *cache = NULL;
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    require_ok(pod_device_open(device_name, &device), "opening");
    setenv(variable, value, 1);
    pod_status status = pod_virtual_cache_create(device, &config, &cache);
    unsetenv(variable);
    check(status == expected && strstr(pod_error_message(), word) != NULL && cache == NULL, value);
    require_ok(pod_virtual_cache_create(device, &config, &cache), "creating afterwards");
    pod_virtual_cache_destroy(cache);
    pod_device_close(device);
}

static void test_refusals(void) {
    static const struct {
        const char *fault, *word;
    } faults[] = {
        {"cuMemCreate=2", "taking a page of the GPU's memory"},
        {"cuMemMap=1", "mapping a page of the GPU"},
        {"cuMemSetAccess=1", "giving access to a page of the GPU"},
        {"cuMemcpyDtoDAsync=700", "copying the end of a prefix"},
        {"cuMemUnmap=1", "unmapping a page of the GPU"},
        {"cuMemRelease=1", "giving back a page of the GPU's memory"},
        {"cuCtxGetCurrent=4", "asking for the current context"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        refuses(POD_VIRTUAL_PER_LAYER, faults[i].fault, faults[i].word);
        refuses(POD_VIRTUAL_MEGA, faults[i].fault, faults[i].word);
    }
    create_refuses("FAKE_CUDA_NO_VMM", "1", POD_E_UNSUPPORTED, "has no virtual memory management");
    create_refuses("FAKE_CUDA_FAIL", "cuMemGetAllocationGranularity=1", POD_E_DEVICE, "size of the GPU's pages");
    create_refuses("FAKE_CUDA_FAIL", "cuMemAddressReserve=2", POD_E_NO_MEMORY, "reserving addresses of the GPU");
    create_refuses("FAKE_CUDA_FAIL", "cuCtxGetCurrent=4", POD_E_DEVICE, "current context");
}

/** test_cuda_virtual [PAGE_BYTES [GPU]] */
int main(int argc, char **argv) {
    int ordinal = argc > 2 ? atoi(argv[2]) : 0;
    if (argc > 1) page_bytes = strtoll(argv[1], NULL, 10);
    snprintf(device_name, sizeof device_name, "cuda:%d", ordinal);
    if (!gpu_open(&the_gpu, ordinal)) return GPU_EXIT_SKIPPED;
    pod__find_symbol(the_gpu.driver.library, "fake_memory_count", (void *)&count_fakes);
    test_attention(POD_VIRTUAL_PER_LAYER);
    test_attention(POD_VIRTUAL_MEGA);
    live(POD_VIRTUAL_PER_LAYER, NULL, NULL);
    live(POD_VIRTUAL_MEGA, NULL, NULL);
    if (count_fakes != NULL) test_refusals();
    gpu_close(&the_gpu);
    printf("%s\n", failures == 0 ? "passed" : "FAILED");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
