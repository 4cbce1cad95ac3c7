/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual caches: what each call promises, every refusal with its message, attention over both layouts. */
#include "unit.h"

#include "cache/virtual_cache.h"
#include "fault_provider.h"
#include "rng.h"
#include "sanitized.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 16384, MAX_OPEN = 4 };

/** 2 layers, 2 heads of 64 elements, f32: 512 bytes of a token in a tensor, 32 tokens on a page; mega: 8. */
static pod_virtual_config small_config(pod_virtual_layout layout) {
    pod_virtual_config config = pod_virtual_config_init();
    config.num_layers = 2;
    config.kv_heads = 2;
    config.head_dim = 64;
    config.kv_dtype = POD_F32;
    config.max_requests = MAX_OPEN;
    config.max_kv_len = 100;
    config.layout = layout;
    config.page_bytes = PAGE;
    return config;
}

typedef struct fixture {
    pod_device *device;
    pod_virtual_cache *cache;
    pod_virtual_info info;
} fixture;

static fixture make(const pod_virtual_config *config) {
    fixture f = {.info = pod_virtual_info_init()};
    assert_ok(pod_device_open("cpu:2", &f.device));
    assert_ok(pod_virtual_cache_create(f.device, config, &f.cache));
    assert_ok(pod_virtual_cache_get_info(f.cache, &f.info));
    return f;
}

static void drop(fixture *f) {
    pod_virtual_cache_destroy(f->cache);
    pod_device_close(f->device);
}

static int64_t open_with(const fixture *f, int64_t step, int32_t kv_len) {
    int64_t request;
    assert_ok(pod_virtual_cache_open(f->cache, &request));
    assert_ok(pod_virtual_cache_ensure(f->cache, step, 1, &request, &kv_len));
    return request;
}

static pod_virtual_stats stats_of(const fixture *f) {
    pod_virtual_stats stats = pod_virtual_stats_init();
    assert_ok(pod_virtual_cache_get_stats(f->cache, &stats));
    return stats;
}

/* ---- making one ---- */

static void assert_refuses(pod_virtual_config config, pod_status status, const char *message) {
    pod_device *device;
    pod_virtual_cache *cache = (void *)&device; /* anything but NULL */
    assert_ok(pod_device_open("cpu:1", &device));
    assert_fails(pod_virtual_cache_create(device, &config, &cache), status, message);
    assert_null(cache);
    pod_device_close(device);
}

#define REFUSES(field, value, message)                                                                                 \
    do {                                                                                                               \
        pod_virtual_config config_ = small_config(POD_VIRTUAL_PER_LAYER);                                              \
        config_.field = value;                                                                                         \
        assert_refuses(config_, POD_E_ARGUMENT, message);                                                              \
    } while (0)

static void a_config_is_refused_by_field(void **state) {
    (void)state;
    REFUSES(num_layers, 0, "num_layers = 0 is not in [1, 1024]");
    REFUSES(kv_heads, 1025, "kv_heads = 1025 is not in [1, 1024]");
    REFUSES(head_dim, 4, "head_dim = 4 is not in [8, 256]");
    REFUSES(head_dim, 68, "head_dim = 68 is not a multiple of 8");
    REFUSES(kv_dtype, (pod_dtype)77, "kv_dtype = 77 is no dtype");
    REFUSES(max_requests, 0, "max_requests = 0 is not in [1, 2147483647]");
    REFUSES(max_kv_len, -1, "max_kv_len = -1 is not in [1, 2147483647]");
    REFUSES(layout, (pod_virtual_layout)2, "layout = 2 is not in [0, 1]");
    REFUSES(has_no_thread, 2, "has_no_thread = 2 is not in [0, 1]");
    REFUSES(page_bytes, -4096, "page_bytes = -4096 is negative");
    REFUSES(max_bytes, -1, "max_bytes = -1 is negative");
    REFUSES(max_bytes, 4 * PAGE - 1,
            "max_bytes = 65535 is less than the 65536 bytes of a physical page in each tensor");
    char message[160];
    snprintf(message, sizeof message, "page_bytes = 5000 is no multiple of the device's %ld bytes, or too large",
             sysconf(_SC_PAGESIZE));
    REFUSES(page_bytes, 5000, message);
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    config.max_requests = config.max_kv_len = INT32_MAX - 7;
    assert_refuses(config, POD_E_LIMIT,
                   "max_requests = 2147483640 of max_kv_len = 2147483640 tokens take more addresses than the "
                   "70368744177664 bytes that there are");
}

static void null_and_simulated_devices_are_refused(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    pod_virtual_cache *cache;
    pod_device *device;
    assert_fails(pod_virtual_cache_create(NULL, &config, &cache), POD_E_ARGUMENT, "device is NULL");
    assert_ok(pod_device_open("sim:h100", &device));
    assert_fails(pod_virtual_cache_create(device, &config, NULL), POD_E_ARGUMENT, "cache is NULL");
    assert_fails(pod_virtual_cache_create(device, NULL, &cache), POD_E_ARGUMENT, "config is NULL");
    assert_fails(pod_virtual_cache_create(device, &config, &cache), POD_E_UNSUPPORTED,
                 "this device has no memory for a virtual cache");
    pod_device_close(device);
    pod_virtual_cache_destroy(NULL);
    assert_fails(pod_virtual_cache_open(NULL, NULL), POD_E_ARGUMENT, "cache is NULL");
}

static void sizes_and_strides(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_PER_LAYER);
    fixture f = make(&config);
    pod_cache layer = pod_cache_init();
    assert_int_equal(f.info.page_size, 104);
    assert_int_equal(f.info.num_pages, MAX_OPEN);
    assert_int_equal(f.info.num_tensors, 4);
    assert_int_equal(f.info.token_bytes, 512);
    assert_int_equal(f.info.row_bytes, 4 * PAGE);
    assert_int_equal(f.info.request_bytes, 4 * PAGE); /* 104 tokens are 52 KiB */
    assert_int_equal(f.info.reserved_bytes, 4 * MAX_OPEN * 4 * PAGE);
    assert_ok(pod_virtual_cache_get_layer(f.cache, 1, &layer));
    assert_ptr_equal(layer.k, (char *)f.info.base + 2 * MAX_OPEN * 4 * PAGE);
    assert_ptr_equal(layer.v, (char *)layer.k + MAX_OPEN * 4 * PAGE);
    assert_int_equal(layer.k_page_stride, 4 * PAGE / 4);
    assert_int_equal(layer.v_token_stride, 128);
    assert_int_equal(layer.v_head_stride, 64);
    assert_fails(pod_virtual_cache_get_layer(f.cache, 2, &layer), POD_E_ARGUMENT, "layer = 2 is not in [0, 1]");
    drop(&f);
    config.layout = POD_VIRTUAL_MEGA;
    f = make(&config);
    assert_int_equal(f.info.num_tensors, 1);
    assert_int_equal(f.info.token_bytes, 2048);
    assert_ok(pod_virtual_cache_get_layer(f.cache, 1, &layer));
    assert_ptr_equal(layer.k, (char *)f.info.base + 1024);
    assert_ptr_equal(layer.v, (char *)f.info.base + 1536);
    assert_int_equal(layer.k_token_stride, 512);
    drop(&f);
}

/* ---- requests ---- */

static void requests_that_are_gone_are_refused(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    fixture f = make(&config);
    int64_t requests[MAX_OPEN + 1];
    int32_t kv_len = 1;
    char message[160];
    for (int i = 0; i < MAX_OPEN; i++) assert_ok(pod_virtual_cache_open(f.cache, &requests[i]));
    assert_fails(pod_virtual_cache_open(f.cache, &requests[MAX_OPEN]), POD_E_LIMIT,
                 "max_requests = 4 requests are open already");
    assert_ok(pod_virtual_cache_close(f.cache, requests[2]));
    snprintf(message, sizeof message, "request = %lld was closed", (long long)requests[2]);
    assert_fails(pod_virtual_cache_close(f.cache, requests[2]), POD_E_ARGUMENT, message);
    int64_t again;
    assert_ok(pod_virtual_cache_open(f.cache, &again));
    assert_int_equal(pod_virtual_page(again), pod_virtual_page(requests[2]));
    assert_fails(pod_virtual_cache_close(f.cache, requests[2]), POD_E_ARGUMENT, message);
    snprintf(message, sizeof message, "requests[0] = %lld was closed", (long long)requests[2]);
    assert_fails(pod_virtual_cache_ensure(f.cache, 0, 1, &requests[2], &kv_len), POD_E_ARGUMENT, message);
    assert_fails(pod_virtual_cache_expect(f.cache, 1, &requests[2], &kv_len), POD_E_ARGUMENT, message);
    snprintf(message, sizeof message, "parent = %lld was closed", (long long)requests[2]);
    assert_fails(pod_virtual_cache_fork(f.cache, requests[2], 0, NULL, &again), POD_E_ARGUMENT, message);
    static const int64_t never[] = {-1, 0, 3, INT64_C(1) << 32 | 4, INT64_C(9) << 32, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        snprintf(message, sizeof message, "request = %lld is no request of this cache", (long long)never[i]);
        assert_fails(pod_virtual_cache_close(f.cache, never[i]), POD_E_ARGUMENT, message);
    }
    drop(&f);
}

static void steps_are_refused_by_value(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    fixture f = make(&config);
    int64_t request = open_with(&f, 3, 10), twice[] = {request, request};
    int32_t kv_len[] = {101, 1};
    char message[160];
    assert_fails(pod_virtual_cache_ensure(f.cache, 4, 1, &request, kv_len), POD_E_LIMIT,
                 "kv_len[0] = 101 exceeds max_kv_len = 100");
    kv_len[0] = -1;
    assert_fails(pod_virtual_cache_ensure(f.cache, 4, 1, &request, kv_len), POD_E_ARGUMENT,
                 "kv_len[0] = -1 is negative");
    assert_fails(pod_virtual_cache_expect(f.cache, 1, &request, kv_len), POD_E_ARGUMENT, "kv_len[0] = -1 is negative");
    kv_len[0] = 1;
    assert_fails(pod_virtual_cache_ensure(f.cache, 2, 1, &request, kv_len), POD_E_ARGUMENT,
                 "step = 2 is smaller than 3");
    snprintf(message, sizeof message, "requests[1] = %lld is named twice", (long long)request);
    assert_fails(pod_virtual_cache_ensure(f.cache, 4, 2, twice, kv_len), POD_E_ARGUMENT, message);
    assert_fails(pod_virtual_cache_ensure(f.cache, 4, 5, twice, kv_len), POD_E_ARGUMENT,
                 "num_requests = 5 is not in [0, 4]");
    assert_fails(pod_virtual_cache_ensure(f.cache, 4, 1, NULL, kv_len), POD_E_ARGUMENT, "requests is NULL");
    assert_fails(pod_virtual_cache_ensure(f.cache, 4, 1, &request, NULL), POD_E_ARGUMENT, "kv_len is NULL");
    assert_fails(pod_virtual_cache_finished(f.cache, 4), POD_E_ARGUMENT,
                 "step = 4 cannot have finished: the last that was ensured is 3");
    assert_fails(pod_virtual_cache_trim(f.cache, -1, NULL), POD_E_ARGUMENT, "bytes = -1 is negative");
    assert_int_equal(stats_of(&f).used_bytes, 10 * 2048);
    drop(&f);
}

/* ---- memory ---- */

static void memory_that_is_missing_is_named(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    config.max_bytes = 5 * PAGE + 7;
    fixture f = make(&config);
    int64_t first = open_with(&f, 0, 8), second = open_with(&f, 0, 24), both[] = {first, second};
    static const int32_t longer[] = {16, 25}, shorter[] = {16, 24};
    assert_fails(pod_virtual_cache_ensure(f.cache, 1, 2, both, longer), POD_E_NO_MEMORY,
                 "kv_len[1] = 25 needs 16384 bytes more: of max_bytes = 81927 open requests have 81920, closed ones "
                 "that steps after -1 may read 0");
    assert_int_equal(stats_of(&f).used_bytes, 32 * 2048); /* no length changed */
    assert_ok(pod_virtual_cache_ensure(f.cache, 1, 2, both, shorter));
    /* What was closed is there for others only when its steps have finished. */
    assert_ok(pod_virtual_cache_close(f.cache, first));
    static const int32_t more = 40;
    assert_fails(pod_virtual_cache_ensure(f.cache, 2, 1, &second, &more), POD_E_NO_MEMORY,
                 "kv_len[0] = 40 needs 32768 bytes more: of max_bytes = 81927 open requests have 49152, closed ones "
                 "that steps after -1 may read 32768");
    assert_ok(pod_virtual_cache_finished(f.cache, 1));
    assert_ok(pod_virtual_cache_ensure(f.cache, 2, 1, &second, &more));
    pod_virtual_stats stats = stats_of(&f);
    assert_int_equal(stats.physical_bytes, 5 * PAGE);
    assert_int_equal(stats.peak_bytes, 5 * PAGE);
    assert_int_equal(stats.waste_bytes, 0);
    drop(&f);
}

static void pages_are_reused_and_given_back(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_PER_LAYER);
    fixture f = make(&config);
    int64_t first = open_with(&f, 0, 64), freed = -1; /* two rows */
    assert_ok(pod_virtual_cache_close(f.cache, first));
    assert_int_equal(stats_of(&f).idle_bytes, 2 * f.info.row_bytes);
    int64_t second = open_with(&f, 1, 40); /* takes the same place: nothing is mapped */
    pod_virtual_stats stats = stats_of(&f);
    assert_int_equal(pod_virtual_page(second), pod_virtual_page(first));
    assert_int_equal(stats.num_reused_rows, 2);
    assert_int_equal(stats.num_maps, 8);
    assert_int_equal(stats.waste_bytes, 2 * f.info.row_bytes - 40 * 4 * 512);
    assert_ok(pod_virtual_cache_close(f.cache, second));
    assert_ok(pod_virtual_cache_trim(f.cache, INT64_MAX, &freed));
    assert_int_equal(freed, 0); /* step 1 may read it */
    assert_ok(pod_virtual_cache_finished(f.cache, 1));
    assert_ok(pod_virtual_cache_trim(f.cache, 1, &freed));
    assert_int_equal(freed, f.info.row_bytes);
    assert_ok(pod_virtual_cache_trim(f.cache, INT64_MAX, &freed));
    assert_int_equal(freed, f.info.row_bytes);
    assert_int_equal(stats_of(&f).physical_bytes, 0);
    drop(&f);
}

static void what_is_expected_is_there(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_PER_LAYER);
    fixture f = make(&config);
    int64_t request;
    int32_t kv_len = 1000; /* counts as 100: four rows */
    assert_ok(pod_virtual_cache_open(f.cache, &request));
    assert_ok(pod_virtual_cache_expect(f.cache, 1, &request, &kv_len));
    while (stats_of(&f).num_maps < 16) usleep(100);
    kv_len = 100;
    assert_ok(pod_virtual_cache_trim(f.cache, 0, NULL)); /* the last operation is over */
    assert_int_equal(stats_of(&f).ahead_bytes, 4 * f.info.row_bytes);
    assert_ok(pod_virtual_cache_ensure(f.cache, 0, 1, &request, &kv_len));
    pod_virtual_stats stats = stats_of(&f);
    assert_int_equal(stats.num_waits, 0);
    assert_int_equal(stats.num_steps, 1);
    assert_int_equal(stats.ahead_bytes, 0);
    drop(&f);
    config.has_no_thread = 1;
    f = make(&config);
    assert_ok(pod_virtual_cache_open(f.cache, &request));
    assert_ok(pod_virtual_cache_expect(f.cache, 1, &request, &kv_len));
    assert_int_equal(stats_of(&f).physical_bytes, 0);
    assert_ok(pod_virtual_cache_ensure(f.cache, 0, 1, &request, &kv_len));
    assert_int_equal(stats_of(&f).num_waits, 1);
    drop(&f);
}

/* ---- forks ---- */

static float *token_at(const fixture *f, int64_t request, int32_t layer, int32_t token) {
    pod_cache c = pod_cache_init();
    assert_ok(pod_virtual_cache_get_layer(f->cache, layer, &c));
    return (float *)c.k + pod_virtual_page(request) * c.k_page_stride + token * c.k_token_stride;
}

static void a_fork_shares_whole_pages(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_PER_LAYER);
    fixture f = make(&config);
    int64_t parent = open_with(&f, 0, 80), child, other;
    for (int32_t t = 0; t < 80; t++) *token_at(&f, parent, 1, t) = (float)t;
    assert_fails(pod_virtual_cache_fork(f.cache, parent, 81, NULL, &child), POD_E_ARGUMENT,
                 "num_tokens = 81 is not within the parent's 80 tokens");
    assert_ok(pod_virtual_cache_fork(f.cache, parent, 70, NULL, &child)); /* two pages, and 6 tokens of a third */
    pod_virtual_stats stats = stats_of(&f);
    assert_int_equal(stats.shared_bytes, 2 * f.info.row_bytes);
    assert_int_equal(stats.physical_bytes, 4 * f.info.row_bytes);
    assert_int_equal(stats.used_bytes, (150 - 64) * 4 * 512);
    for (int32_t t = 0; t < 70; t++) assert_true(*token_at(&f, child, 1, t) == (float)t);
    *token_at(&f, child, 1, 65) = -1; /* its own copy */
    assert_true(*token_at(&f, parent, 1, 65) == 65);
    *token_at(&f, parent, 1, 3) = -3; /* the same memory */
    assert_true(*token_at(&f, child, 1, 3) == -3);
    static const int32_t kv_len = 63;
    assert_fails(pod_virtual_cache_ensure(f.cache, 1, 1, &child, &kv_len), POD_E_ARGUMENT,
                 "kv_len[0] = 63 is less than the 64 tokens on pages that the request shares");
    /* The parent ends first; the pages stay with the child. Until the next step has finished, the copy may read it. */
    int64_t freed;
    assert_ok(pod_virtual_cache_finished(f.cache, 0));
    assert_ok(pod_virtual_cache_close(f.cache, parent));
    assert_ok(pod_virtual_cache_trim(f.cache, INT64_MAX, &freed));
    assert_int_equal(freed, 0);
    assert_ok(pod_virtual_cache_open(f.cache, &other)); /* not in the parent's place: a step may read it */
    assert_int_not_equal(pod_virtual_page(other), pod_virtual_page(parent));
    assert_ok(pod_virtual_cache_ensure(f.cache, 1, 0, NULL, NULL));
    assert_ok(pod_virtual_cache_finished(f.cache, 1));
    assert_ok(pod_virtual_cache_trim(f.cache, 0, NULL));
    assert_int_equal(stats_of(&f).shared_bytes, 0);
    for (int32_t t = 4; t < 65; t++) assert_true(*token_at(&f, child, 1, t) == (float)t);
    assert_ok(pod_virtual_cache_ensure(f.cache, 2, 1, &child, &kv_len));
    drop(&f);
}

static void a_fork_without_room_opens_nothing(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    config.max_bytes = 2 * PAGE;
    fixture f = make(&config);
    int64_t parent = open_with(&f, 0, 12), child = -7;
    assert_fails(pod_virtual_cache_fork(f.cache, parent, 12, NULL, &child), POD_E_NO_MEMORY,
                 "the page at the end of a fork's prefix takes 16384 bytes more, and max_bytes = 32768 are in use");
    assert_int_equal(child, -7);
    assert_int_equal(stats_of(&f).num_open, 1);
    assert_ok(pod_virtual_cache_fork(f.cache, parent, 8, NULL, &child)); /* a whole page */
    drop(&f);
}

static void closed_requests_that_share_wait_for_their_steps(void **state) {
    (void)state;
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    config.max_requests = 2;
    fixture f = make(&config);
    int64_t parent = open_with(&f, 0, 16), child, other;
    assert_ok(pod_virtual_cache_fork(f.cache, parent, 16, NULL, &child));
    assert_ok(pod_virtual_cache_close(f.cache, parent));
    assert_fails(pod_virtual_cache_open(f.cache, &other), POD_E_STATE,
                 "pages of all 1 closed requests are shared, or to be replaced, and may be read by steps after -1; "
                 "tell pod_virtual_cache_finished() when those have finished");
    assert_ok(pod_virtual_cache_ensure(f.cache, 1, 0, NULL, NULL));
    assert_ok(pod_virtual_cache_finished(f.cache, 1));
    assert_ok(pod_virtual_cache_open(f.cache, &other));
    drop(&f);
}

/* ---- attention ---- */

enum { Q_HEADS = 4, KV_HEADS = 2, HEAD_DIM = 64, Q_TOKENS = 22, OUT_ELEMENTS = Q_TOKENS * Q_HEADS * HEAD_DIM };

/** Three requests in an order of their own: pages 2, 0, 1; the second has no room behind its last token. */
static void attend(const fixture *f, const int32_t *pages, pod_cache cache, int64_t page_size, float *out) {
    static const int32_t q_start[] = {0, 20, 21, 22}, kv_len[] = {33, 32, 97};
    static float q[OUT_ELEMENTS];
    test_rng rng = {7};
    for (int i = 0; i < OUT_ELEMENTS; i++) q[i] = rng_normal(&rng);
    pod_limits limits = pod_limits_init();
    limits.q_heads = Q_HEADS;
    limits.kv_heads = KV_HEADS;
    limits.head_dim = HEAD_DIM;
    limits.page_size = (int32_t)page_size;
    limits.max_requests = 4;
    limits.max_q_tokens = Q_TOKENS;
    limits.max_kv_len = 100;
    pod_plan *plan;
    pod_workspace workspace = pod_workspace_init();
    assert_ok(pod_plan_create(f->device, &limits, &plan));
    assert_ok(pod_workspace_size(f->device, &limits, &workspace));
    workspace.plan = aligned_alloc(POD_WORKSPACE_ALIGN, workspace.plan_bytes);
    workspace.scratch = aligned_alloc(POD_WORKSPACE_ALIGN, workspace.scratch_bytes);
    assert_ok(pod_plan_attach(plan, &workspace));
    pod_batch batch = pod_batch_init();
    batch.num_requests = 3;
    batch.num_pages = MAX_OPEN;
    batch.q_start = q_start;
    batch.kv_len = kv_len;
    batch.page_table = pages;
    batch.page_table_stride = batch.max_pages = 1;
    assert_ok(pod_plan_build(plan, &batch, NULL));
    pod_tensors tensors = pod_tensors_init();
    tensors.q = q;
    tensors.out = out;
    assert_ok(pod_attention(plan, &tensors, &cache, NULL));
    pod_plan_destroy(plan);
    free(workspace.plan);
    free(workspace.scratch);
}

static void fill(const fixture *f, int32_t layer, const int64_t *requests, const int32_t *kv_len, float *k, float *v) {
    enum { PACKED = 104 * KV_HEADS * HEAD_DIM };
    test_rng rng = {(uint64_t)layer + 1};
    pod_cache c = pod_cache_init();
    assert_ok(pod_virtual_cache_get_layer(f->cache, layer, &c));
    for (int r = 0; r < 3; r++) {
        int32_t page = pod_virtual_page(requests[r]);
        for (int32_t i = 0; i < kv_len[r] * KV_HEADS * HEAD_DIM; i++) {
            int32_t token = i / (KV_HEADS * HEAD_DIM), rest = i % (KV_HEADS * HEAD_DIM);
            k[page * PACKED + i] = rng_normal(&rng), v[page * PACKED + i] = rng_normal(&rng);
            ((float *)c.k)[page * c.k_page_stride + token * c.k_token_stride + rest] = k[page * PACKED + i];
            ((float *)c.v)[page * c.v_page_stride + token * c.v_token_stride + rest] = v[page * PACKED + i];
        }
    }
}

static void check_attention(pod_virtual_layout layout) {
    enum { PACKED = 104 * KV_HEADS * HEAD_DIM };
    static const int32_t kv_len[] = {33, 32, 97};
    static float k[MAX_OPEN * PACKED], v[MAX_OPEN * PACKED], out[OUT_ELEMENTS], expected[OUT_ELEMENTS];
    pod_virtual_config config = small_config(layout);
    fixture f = make(&config);
    int64_t requests[3], order[3];
    for (int r = 0; r < 3; r++) assert_ok(pod_virtual_cache_open(f.cache, &requests[r]));
    order[0] = requests[2], order[1] = requests[0], order[2] = requests[1];
    assert_ok(pod_virtual_cache_ensure(f.cache, 0, 3, order, kv_len));
    int32_t pages[3];
    for (int r = 0; r < 3; r++) pages[r] = pod_virtual_page(order[r]);
    for (int32_t layer = 0; layer < 2; layer++) {
        pod_cache packed = pod_cache_init(), c = pod_cache_init();
        packed.k = k;
        packed.v = v;
        fill(&f, layer, order, kv_len, k, v);
        assert_ok(pod_virtual_cache_get_layer(f.cache, layer, &c));
        memset(out, 0xff, sizeof out);
        attend(&f, pages, c, f.info.page_size, out);
        attend(&f, pages, packed, 104, expected);
        assert_memory_equal(out, expected, sizeof out);
    }
    drop(&f);
}

static void attention_reads_both_layouts(void **state) {
    (void)state;
    check_attention(POD_VIRTUAL_PER_LAYER);
    check_attention(POD_VIRTUAL_MEGA);
}

/* ---- failures, forks of the process ---- */

/** A life of a cache; whatever is refused is asked for again. Returns the calls that a driver could refuse. */
static int64_t live(int64_t fails_at, int32_t has_no_thread) {
    static const int32_t kv_len[] = {40, 64, 70}, longer[] = {41, 90, 71};
    fault_provider faults = {.fails_at = fails_at};
    pod_memory_provider provider;
    pod_virtual_config config = small_config(POD_VIRTUAL_PER_LAYER);
    pod_virtual_cache *cache = NULL;
    int64_t requests[3], forked, freed = -1;
    config.max_requests = 3;
    config.has_no_thread = has_no_thread;
    assert_ok(fault_provider_open(&faults, &provider));
    if (pod__virtual_create(&provider, &config, &cache) != POD_OK) {
        assert_string_equal(pod_error_message(), FAULT_MESSAGE);
        assert_int_equal(faults.num_closed, 1);
        return faults.num_calls;
    }
#define AGAIN(call)                                                                                                    \
    if ((call) != POD_OK) {                                                                                            \
        assert_non_null(strstr(pod_error_message(), FAULT_MESSAGE));                                                   \
        assert_ok(call);                                                                                               \
    }
    for (int i = 0; i < 3; i++) assert_ok(pod_virtual_cache_open(cache, &requests[i]));
    AGAIN(pod_virtual_cache_ensure(cache, 0, 3, requests, kv_len));
    AGAIN(pod_virtual_cache_ensure(cache, 1, 3, requests, longer));
    assert_ok(pod_virtual_cache_close(cache, requests[0]));
    assert_ok(pod_virtual_cache_finished(cache, 1));
    if (pod_virtual_cache_fork(cache, requests[1], 90, NULL, &forked) != POD_OK) {
        /* What was shared until it failed is unmapped when no step can read it. */
        assert_ok(pod_virtual_cache_ensure(cache, 2, 0, NULL, NULL));
        assert_ok(pod_virtual_cache_finished(cache, 2));
        assert_ok(pod_virtual_cache_fork(cache, requests[1], 90, NULL, &forked));
    }
    assert_ok(pod_virtual_cache_close(cache, requests[1]));
    assert_ok(pod_virtual_cache_close(cache, forked));
    assert_ok(pod_virtual_cache_ensure(cache, 3, 0, NULL, NULL));
    assert_ok(pod_virtual_cache_finished(cache, 3));
    AGAIN(pod_virtual_cache_trim(cache, INT64_MAX, &freed));
    assert_ok(pod_virtual_cache_finished(cache, 3)); /* goes on with what was refused */
    AGAIN(pod_virtual_cache_trim(cache, INT64_MAX, &freed));
    pod_virtual_stats stats = pod_virtual_stats_init();
    assert_ok(pod_virtual_cache_get_stats(cache, &stats));
    assert_int_equal(stats.physical_bytes, 3 * 65536); /* of the request that is open */
    int64_t num_calls = faults.num_calls;
    if (faults.num_refused > 0 || fails_at == 0) {
        pod_virtual_cache_destroy(cache);
        assert_int_equal(faults.num_pages, 0);
        assert_int_equal(faults.num_mapped, 0);
        assert_int_equal(faults.num_reserved, 0);
    } else {
        pod_virtual_cache_destroy(cache); /* refused while it ends: what the driver keeps is lost, the rest is not */
        assert_true(faults.num_pages + faults.num_mapped + (faults.num_reserved > 0) <= 2);
    }
    assert_int_equal(faults.num_closed, 1);
    return num_calls;
}

static void every_call_of_the_driver_may_fail(void **state) {
    (void)state;
    for (int32_t has_no_thread = 0; has_no_thread < 2; has_no_thread++) {
        int64_t num_calls = live(0, has_no_thread);
        assert_in_range(num_calls, 100, 1000);
        for (int64_t n = 1; n <= num_calls + 20; n++) live(n, has_no_thread);
    }
}

static void a_forked_child_can_destroy_it(void **state) {
    (void)state;
    if (POD_TEST_SANITIZED) skip();
    pod_virtual_config config = small_config(POD_VIRTUAL_MEGA);
    fixture f = make(&config);
    int64_t request = open_with(&f, 0, 30);
    *token_at(&f, request, 1, 29) = 29;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static const int32_t kv_len = 31;
        int is_refused = pod_virtual_cache_ensure(f.cache, 1, 1, &request, &kv_len) == POD_E_STATE &&
                         strcmp(pod_error_message(), "the cache was made before this process was forked: here it can "
                                                     "only be destroyed") == 0;
        pod_virtual_cache_destroy(f.cache);
        _exit(!is_refused);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    static const int32_t kv_len = 100;
    assert_true(*token_at(&f, request, 1, 29) == 29);
    assert_ok(pod_virtual_cache_ensure(f.cache, 1, 1, &request, &kv_len));
    assert_true(*token_at(&f, request, 1, 29) == 29);
    drop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_is_refused_by_field),
        cmocka_unit_test(null_and_simulated_devices_are_refused),
        cmocka_unit_test(sizes_and_strides),
        cmocka_unit_test(requests_that_are_gone_are_refused),
        cmocka_unit_test(steps_are_refused_by_value),
        cmocka_unit_test(memory_that_is_missing_is_named),
        cmocka_unit_test(pages_are_reused_and_given_back),
        cmocka_unit_test(what_is_expected_is_there),
        cmocka_unit_test(a_fork_shares_whole_pages),
        cmocka_unit_test(a_fork_without_room_opens_nothing),
        cmocka_unit_test(closed_requests_that_share_wait_for_their_steps),
        cmocka_unit_test(attention_reads_both_layouts),
        cmocka_unit_test(every_call_of_the_driver_may_fail),
        cmocka_unit_test(a_forked_child_can_destroy_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
