/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_case.h"

#include "base/dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POISON_BYTE = 0xff, POISON_ELEMENT = 0xffff /* a NaN in bf16 and in f16 */ };

static void *checked(void *memory) {
    if (memory != NULL) return memory;
    fprintf(stderr, "out of memory on the host\n");
    exit(EXIT_FAILURE);
}

static void require(pod_status status, const char *call) {
    if (status == POD_OK) return;
    fprintf(stderr, "%s: %s: %s\n", call, pod_status_name(status), pod_error_message());
    exit(EXIT_FAILURE);
}

/* ---- contents ---- */

enum { TABLE = 4096 };
static uint16_t tables[POD_BF16 + 1][TABLE];
static uint8_t table_of_codes[TABLE];

static void make_tables(void) {
    test_rng fixed = {1};
    if (tables[POD_F16][0] != 0) return;
    for (int i = 0; i < TABLE; i++) {
        float value = rng_normal(&fixed);
        pod__store(tables[POD_F16], POD_F16, i, value);
        pod__store(tables[POD_BF16], POD_BF16, i, value);
        pod__store(table_of_codes, POD_F8E4M3, i, value);
    }
}

/** Normal numbers, quickly: drawn from a small table. */
static void random_elements(test_rng *rng, pod_dtype dtype, void *elements, size_t count) {
    uint32_t state = (uint32_t)rng_next(rng) | 1;
    make_tables();
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        if (dtype == POD_F8E4M3)
            ((uint8_t *)elements)[i] = table_of_codes[state >> 20];
        else
            ((uint16_t *)elements)[i] = tables[dtype][state >> 20];
    }
}

/** Multiplies a row, so that its scores tower over those before. */
static void scale_row(pod_dtype dtype, void *row, int32_t head_dim, float factor) {
    for (int32_t i = 0; i < head_dim; i++) pod__store(row, dtype, i, pod__load(row, dtype, i) * factor);
}

/** Elements of a gap: whole pieces of 16 bytes. */
static int64_t pad(test_rng *rng, pod_dtype dtype) {
    return rng_chance(rng, 50) ? 0 : 16 / (int64_t)pod_dtype_size(dtype) * rng_range(rng, 1, 3);
}

static void make_q_and_out(gpu_case *c, test_rng *rng) {
    const pod_limits *l = &c->limits;
    int32_t total_q = c->batch.q_start[c->batch.batch.num_requests];
    pod_tensors *t = &c->host;
    int64_t *strides[2][2] = {{&t->q_token_stride, &t->q_head_stride}, {&t->out_token_stride, &t->out_head_stride}};
    const int32_t dims[2] = {l->head_dim, v_head_dim_of(l)};
    for (int i = 0; i < 2; i++) {
        *strides[i][1] = dims[i] + pad(rng, l->q_dtype);
        *strides[i][0] = *strides[i][1] * l->q_heads + pad(rng, l->q_dtype);
    }
    c->q_elements = (size_t)(total_q * t->q_token_stride);
    c->out_elements = (size_t)(total_q * t->out_token_stride);
    c->lse_elements = (size_t)total_q * (size_t)l->q_heads;
    uint16_t *q = checked(malloc((c->q_elements + 1) * sizeof *q));
    random_elements(rng, l->q_dtype, q, c->q_elements);
    t->q = q;
    t->out = checked(malloc((c->out_elements + 1) * sizeof(uint16_t)));
    t->lse_token_stride = l->q_heads;
    t->lse_head_stride = 1;
    if (rng_chance(rng, 50) && total_q > 0) { /* head-major */
        t->lse_token_stride = 1;
        t->lse_head_stride = total_q;
    }
    if (rng_chance(rng, 80)) t->lse = checked(malloc((c->lse_elements + 1) * sizeof(float)));
}

/** NHD, HND, or K and V interleaved per page; with or without padding. V has K's strides, or is in K. */
static void choose_kv_layout(gpu_case *c, test_rng *rng) {
    const pod_limits *l = &c->limits;
    pod_cache *t = &c->host_cache;
    int32_t v_dim = v_head_dim_of(l), wider = v_dim > l->head_dim ? v_dim : l->head_dim;
    int64_t piece = 16 / (int64_t)pod_dtype_size(l->kv_dtype), dim = (wider + piece - 1) / piece * piece, page;
    if (rng_chance(rng, 40)) {
        t->k_token_stride = dim + pad(rng, l->kv_dtype);
        t->k_head_stride = t->k_token_stride * l->page_size + pad(rng, l->kv_dtype);
        page = t->k_head_stride * l->kv_heads + pad(rng, l->kv_dtype);
    } else {
        t->k_head_stride = dim + pad(rng, l->kv_dtype);
        t->k_token_stride = t->k_head_stride * l->kv_heads + pad(rng, l->kv_dtype);
        page = t->k_token_stride * l->page_size + pad(rng, l->kv_dtype);
    }
    int interleaved = rng_chance(rng, 40);
    c->has_no_v = v_dim < l->head_dim && (has_values_in_keys(l) || (rng_chance(rng, 40) && !c->has_own_v));
    size_t page_bytes = (size_t)page * pod_dtype_size(l->kv_dtype), num_pages = (size_t)c->batch.batch.num_pages;
    t->k_page_stride = interleaved ? 2 * page : page;
    c->v_offset_bytes = interleaved ? page_bytes : page_bytes * num_pages;
    c->kv_bytes = 2 * page_bytes * num_pages;
    if (c->has_no_v) {
        t->k_page_stride = page;
        c->v_offset_bytes = 0;
        c->kv_bytes = page_bytes * num_pages;
    }
    if (c->kv_bytes == 0) c->v_offset_bytes = 0; /* no cache at all, but the pointers must be valid */
    t->v_head_stride = t->k_head_stride;
    t->v_token_stride = t->k_token_stride;
    t->v_page_stride = t->k_page_stride;
}

/** How a key's length depends on its place: kernels keep scores relative to a maximum, which has to rise at times. */
typedef struct key_lengths {
    int has_outliers;
    float growth; /**< per key */
} key_lengths;

static key_lengths choose_key_lengths(test_rng *rng) {
    key_lengths lengths = {0, 0.0f};
    int32_t kind = rng_range(rng, 1, 100);
    if (kind <= 20) lengths.has_outliers = 1;
    if (kind > 80) lengths.growth = 0.125f / (float)(1 << rng_range(rng, 0, 4));
    return lengths;
}

static float key_length(const key_lengths *lengths, test_rng *rng, int32_t key) {
    if (lengths->has_outliers && rng_chance(rng, 1)) return (float)(1 << rng_range(rng, 2, 5));
    return 1.0f + lengths->growth * (float)key;
}

/** What a cache may hold where nobody looks: NaN, quiet or not, infinities, and the largest number. */
static void poison_kv(gpu_case *c, test_rng *rng) {
    uint16_t infinity = c->limits.kv_dtype == POD_BF16 ? 0x7f80 : 0x7c00, sign = 0x8000;
    const uint16_t poison[] = {POISON_ELEMENT, (uint16_t)(infinity + 1), infinity, infinity | sign,
                               (uint16_t)(infinity - 1)};
    static const uint8_t poison_codes[] = {0x7f, 0xff, 0x7e, 0xfe, 0x7f};
    enum { RUN_BYTES = 128 };
    for (size_t i = 0; i < c->kv_bytes; i += RUN_BYTES) {
        size_t end = i + RUN_BYTES < c->kv_bytes ? i + RUN_BYTES : c->kv_bytes;
        int32_t kind = rng_range(rng, 0, 4);
        for (size_t j = i; j < end; j += sizeof *poison) {
            if (c->limits.kv_dtype == POD_F8E4M3)
                memset(c->kv + j, poison_codes[kind], sizeof *poison);
            else
                memcpy(c->kv + j, &poison[kind], sizeof *poison);
        }
    }
}

void *gpu_case_key(const gpu_case *c, int32_t request, int32_t key, int32_t head) {
    const pod_batch *b = &c->batch.batch;
    const pod_cache *t = &c->host_cache;
    int32_t page_size = c->limits.page_size;
    int64_t page = request;
    if (b->page_table != NULL) page = b->page_table[request * b->page_table_stride + key / page_size];
    int64_t element = page * t->k_page_stride + key % page_size * t->k_token_stride + head * t->k_head_stride;
    return c->kv + (size_t)element * pod_dtype_size(c->limits.kv_dtype);
}

void *gpu_case_value(const gpu_case *c, int32_t request, int32_t key, int32_t head) {
    return (char *)gpu_case_key(c, request, key, head) + c->v_offset_bytes;
}

static void fill_kv(gpu_case *c, test_rng *rng) {
    const pod_limits *l = &c->limits;
    const pod_batch *b = &c->batch.batch;
    poison_kv(c, rng);
    key_lengths lengths = choose_key_lengths(rng);
    for (int32_t r = 0; r < b->num_requests; r++) {
        for (int32_t key = test_batch_first_key(&c->batch, r, -1); key < b->kv_len[r]; key++) {
            for (int32_t head = 0; head < l->kv_heads; head++) {
                void *row = gpu_case_key(c, r, key, head);
                random_elements(rng, l->kv_dtype, row, (size_t)l->head_dim);
                float length = key_length(&lengths, rng, key);
                if (length != 1.0f) scale_row(l->kv_dtype, row, l->head_dim, length);
                if (c->has_no_v) continue;
                random_elements(rng, l->kv_dtype, gpu_case_value(c, r, key, head), (size_t)v_head_dim_of(l));
            }
        }
    }
}

static void make_kv(gpu_case *c, test_rng *rng) {
    choose_kv_layout(c, rng);
    c->kv = checked(malloc(c->kv_bytes + 1));
    c->host_cache.k = c->kv;
    c->host_cache.v = c->has_no_v ? NULL : c->kv + c->v_offset_bytes;
    fill_kv(c, rng);
}

/** One for all heads, or one each, for K, V, both or none. */
static void make_scales(gpu_case *c, test_rng *rng) {
    size_t heads = (size_t)c->limits.kv_heads;
    if (c->limits.kv_dtype != POD_F8E4M3 || rng_chance(rng, 30)) return;
    float *scales = checked(malloc(2 * heads * sizeof *scales));
    for (size_t i = 0; i < 2 * heads; i++) scales[i] = 0.25f * (float)rng_range(rng, 1, 7);
    c->host_cache.scale_stride = rng_chance(rng, 50);
    int has_both = rng_chance(rng, 60), has_k = rng_chance(rng, 50);
    if (has_both || has_k) c->host_cache.k_scale = scales;
    if (!c->has_no_v && (has_both || !has_k)) c->host_cache.v_scale = scales + heads;
    c->host_scales = scales;
}

void gpu_case_refill(gpu_case *c, const gpu *gpu, test_rng *rng) {
    fill_kv(c, rng);
    if (c->device_kv != NULL) gpu_upload(gpu, c->device_kv, c->kv, c->kv_bytes);
}

static void choose_options(gpu_case *c, test_rng *rng) {
    c->host.mask = rng_range(rng, 0, c->batch.batch.num_masks - 1);
    if (rng_chance(rng, 30)) c->host.scale = 0.01f * (float)rng_range(rng, 1, 20);
    if (rng_chance(rng, 25)) c->host.softcap = (float)rng_range(rng, 1, 50);
    if (c->limits.tree_masks && rng_chance(rng, 80)) c->host.tree_mask = checked(test_batch_make_tree(&c->batch, rng));
    if (c->limits.alibi && rng_chance(rng, 80)) {
        float *slopes = checked(malloc((size_t)c->limits.q_heads * sizeof *slopes));
        for (int32_t h = 0; h < c->limits.q_heads; h++) slopes[h] = 0.02f * rng_normal(rng);
        c->host.alibi_slopes = slopes;
    }
    if (!rng_chance(rng, 30)) return;
    float *sinks = checked(malloc((size_t)c->limits.q_heads * sizeof *sinks));
    for (int32_t h = 0; h < c->limits.q_heads; h++) sinks[h] = 3.0f * rng_normal(rng);
    c->host.sinks = sinks;
}

void gpu_case_fill(gpu_case *c, test_rng *rng) {
    c->host = pod_tensors_init();
    c->host_cache = pod_cache_init();
    make_q_and_out(c, rng);
    make_kv(c, rng);
    make_scales(c, rng);
    choose_options(c, rng);
}

/* ---- shapes ---- */

/** Sides that meet need more than small limits allow: those of MIX_BESIDE are never far below the bounds. */
static void random_case_limits(pod_limits *l, test_rng *rng, const gpu_case_bounds *bounds, batch_mix mix) {
    static const int32_t kv_heads[] = {1, 1, 2, 3, 4, 8}, groups[] = {1, 2, 3, 4, 4, 5, 7, 8, 8, 12, 16};
    static const int32_t page_sizes[] = {1, 2, 3, 7, 8, 16, 16, 17, 32, 64, 128, 256};
    *l = pod_limits_init();
    l->kv_heads = rng_pick(rng, kv_heads, 6);
    l->q_heads = l->kv_heads * rng_pick(rng, groups, 11);
    random_gpu_elements(rng, l);
    int32_t part = mix == MIX_BESIDE ? 4 : INT32_MAX;
    l->max_requests = rng_log_range(rng, 1 + bounds->max_requests / part, bounds->max_requests);
    l->max_q_tokens = rng_log_range(rng, 1 + bounds->max_q_tokens / part, bounds->max_q_tokens);
    l->max_kv_len = rng_log_range(rng, 1 + bounds->max_kv_len / part, bounds->max_kv_len);
    l->page_size = rng_chance(rng, 25) ? l->max_kv_len : rng_pick(rng, page_sizes, 12);
    l->max_masks = rng_chance(rng, 30) ? rng_range(rng, 2, 4) : 1;
    random_mask_limits(rng, l);
}

static double work(const gpu_case *c) {
    const pod_batch *b = &c->batch.batch;
    double pairs = 0;
    for (int32_t r = 0; r < b->num_requests; r++) {
        pairs += (double)(b->q_start[r + 1] - b->q_start[r]) * b->kv_len[r];
    }
    return pairs * c->limits.q_heads * c->limits.head_dim;
}

static double kv_elements(const gpu_case *c) {
    double keys = 0;
    for (int32_t r = 0; r < c->batch.batch.num_requests; r++) keys += c->batch.kv_len[r];
    if (c->limits.page_size == c->limits.max_kv_len) keys = (double)c->batch.batch.num_requests * c->limits.page_size;
    return keys * c->limits.kv_heads * c->limits.head_dim;
}

/** Not all kernels that a device's options ask for take every head_dim and cache. */
int gpu_case_is_taken(const gpu_case *c, const pod_device *device) {
    pod_workspace workspace = pod_workspace_init();
    return pod_workspace_size(device, &c->limits, &workspace) != POD_E_UNSUPPORTED;
}

void gpu_case_random(gpu_case *c, test_rng *rng, const pod_device *device, const gpu_case_bounds *bounds) {
    memset(c, 0, sizeof *c);
    for (;;) {
        batch_mix mix = rng_chance(rng, 25) ? MIX_BESIDE : (batch_mix)rng_range(rng, 0, MIX_COUNT - 1);
        random_case_limits(&c->limits, rng, bounds, mix);
        if (!gpu_case_is_taken(c, device)) continue;
        if (!test_batch_alloc(&c->batch, &c->limits)) checked(NULL);
        test_batch_fill(&c->batch, rng, &c->limits, mix);
        if (work(c) <= bounds->max_work && kv_elements(c) <= 0.1 * bounds->max_work) break;
        test_batch_free(&c->batch);
    }
    int contiguous = c->limits.page_size == c->limits.max_kv_len && rng_chance(rng, 80);
    if (!contiguous && !test_batch_add_pages(&c->batch, rng, &c->limits)) checked(NULL);
    gpu_case_fill(c, rng);
}

/* ---- on the GPU ---- */

void gpu_case_upload(gpu_case *c, const gpu *gpu, pod_device *device) {
    const pod_batch *b = &c->batch.batch;
    size_t n = (size_t)b->num_requests;
    c->device_batch = *b;
    c->device_batch.memory = POD_MEMORY_DEVICE;
    c->device_batch.q_start = gpu_copy(gpu, b->q_start, (n + 1) * sizeof(int32_t));
    c->device_batch.kv_len = gpu_copy(gpu, b->kv_len, n * sizeof(int32_t));
    c->device_batch.page_table = gpu_copy(gpu, b->page_table, n * (size_t)b->page_table_stride * sizeof(int32_t));
    c->device_batch.masks = c->device_masks;
    for (int32_t m = 0; m < b->num_masks; m++) {
        c->device_masks[m] = c->batch.masks[m];
        c->device_masks[m].causal_per_request =
            gpu_copy(gpu, c->batch.masks[m].causal_per_request, n * sizeof(int32_t));
    }
    c->device = c->host;
    c->device_cache = c->host_cache;
    c->device.q = gpu_copy(gpu, c->host.q, c->q_elements * sizeof(uint16_t));
    c->device_kv = gpu_copy(gpu, c->kv, c->kv_bytes);
    c->device_cache.k = c->device_kv;
    c->device_cache.v = c->has_no_v ? NULL : (char *)c->device_kv + c->v_offset_bytes;
    if (c->host_scales != NULL) {
        size_t heads = (size_t)c->limits.kv_heads;
        c->device_scales = gpu_copy(gpu, c->host_scales, 2 * heads * sizeof(float));
        if (c->host_cache.k_scale != NULL) c->device_cache.k_scale = c->device_scales;
        if (c->host_cache.v_scale != NULL) c->device_cache.v_scale = c->device_scales + heads;
    }
    c->device.sinks = gpu_copy(gpu, c->host.sinks, (size_t)c->limits.q_heads * sizeof(float));
    c->device.alibi_slopes = gpu_copy(gpu, c->host.alibi_slopes, (size_t)c->limits.q_heads * sizeof(float));
    c->device.tree_mask = gpu_copy(gpu, c->host.tree_mask, (size_t)b->q_start[n] * sizeof(uint64_t));
    c->device.out = gpu_alloc(gpu, c->out_elements * sizeof(uint16_t));
    if (c->host.lse != NULL) c->device.lse = gpu_alloc(gpu, c->lse_elements * sizeof(float));
    c->workspace = pod_workspace_init();
    require(pod_workspace_size(device, &c->limits, &c->workspace), "pod_workspace_size");
    c->workspace.plan = gpu_alloc(gpu, c->workspace.plan_bytes);
    c->workspace.scratch = gpu_alloc(gpu, c->workspace.scratch_bytes);
    c->workspace.bad_request = gpu_alloc(gpu, sizeof(int32_t));
    gpu_fill(gpu, c->workspace.bad_request, 0, sizeof(int32_t));
    require(pod_plan_create(device, &c->limits, &c->plan), "pod_plan_create");
    require(pod_plan_attach(c->plan, &c->workspace), "pod_plan_attach");
    gpu_case_poison(c, gpu, 1);
}

void gpu_case_poison(const gpu_case *c, const gpu *gpu, int with_workspace) {
    gpu_fill(gpu, c->device.out, POISON_BYTE, c->out_elements * sizeof(uint16_t));
    if (c->device.lse != NULL) gpu_fill(gpu, c->device.lse, POISON_BYTE, c->lse_elements * sizeof(float));
    if (with_workspace && getenv("PODATTN_RAW_WORKSPACE") == NULL) {
        gpu_fill(gpu, c->workspace.plan, POISON_BYTE, c->workspace.plan_bytes);
        gpu_fill(gpu, c->workspace.scratch, POISON_BYTE, c->workspace.scratch_bytes);
    }
    GPU_CHECK(gpu, ctx_synchronize()); /* the case may run on a stream that does not wait for the default one */
}

void gpu_case_plan(const gpu_case *c, pod_memory memory, CUstream stream) {
    const pod_batch *batch = memory == POD_MEMORY_HOST ? &c->batch.batch : &c->device_batch;
    require(pod_plan_build(c->plan, batch, stream), "pod_plan_build");
}

void gpu_case_run(const gpu_case *c, CUstream stream) {
    require(pod_attention(c->plan, &c->device, &c->device_cache, stream), "pod_attention");
}

int32_t gpu_case_bad_request(const gpu_case *c, const gpu *gpu) {
    int32_t word;
    gpu_download(gpu, &word, c->workspace.bad_request, sizeof word);
    return word;
}

void gpu_case_download(const gpu_case *c, const gpu *gpu) {
    gpu_download(gpu, c->host.out, c->device.out, c->out_elements * sizeof(uint16_t));
    if (c->host.lse != NULL) gpu_download(gpu, c->host.lse, c->device.lse, c->lse_elements * sizeof(float));
}

void gpu_case_free(gpu_case *c, const gpu *gpu) {
    pod_plan_destroy(c->plan);
    gpu_free(gpu, c->workspace.plan);
    gpu_free(gpu, c->workspace.scratch);
    gpu_free(gpu, c->workspace.bad_request);
    for (int32_t m = 0; m < c->batch.batch.num_masks; m++) {
        gpu_free(gpu, (void *)(uintptr_t)c->device_masks[m].causal_per_request);
    }
    gpu_free(gpu, (void *)(uintptr_t)c->device_batch.q_start);
    gpu_free(gpu, (void *)(uintptr_t)c->device_batch.kv_len);
    gpu_free(gpu, (void *)(uintptr_t)c->device_batch.page_table);
    gpu_free(gpu, (void *)(uintptr_t)c->device.q);
    gpu_free(gpu, c->device_kv);
    gpu_free(gpu, c->device_scales);
    gpu_free(gpu, (void *)(uintptr_t)c->device.sinks);
    gpu_free(gpu, (void *)(uintptr_t)c->device.alibi_slopes);
    gpu_free(gpu, (void *)(uintptr_t)c->device.tree_mask);
    gpu_free(gpu, c->device.out);
    gpu_free(gpu, c->device.lse);
    free((void *)(uintptr_t)c->host.q);
    free(c->kv);
    free(c->host_scales);
    free((void *)(uintptr_t)c->host.sinks);
    free((void *)(uintptr_t)c->host.alibi_slopes);
    free((void *)(uintptr_t)c->host.tree_mask);
    free(c->host.out);
    free(c->host.lse);
    test_batch_free(&c->batch);
}

/* ---- comparison ---- */

typedef struct comparison {
    const gpu_case *c;
    double *out, *lse; /* the oracle's */
    unsigned char *written;
    pod_distance all;
    pod_errors limit, seen;
} comparison;

/** Squares of what a row may be off where its numbers are as small as the smallest of its type: a sink can leave as
 * little as that. */
static double underflow(pod_dtype dtype, int32_t dim) {
    double smallest = dtype == POD_BF16 ? 0x1p-126 : 0x1p-24; /* the GPU knows no smaller float */
    return dim * smallest * smallest;
}

static int wrong(const comparison *m, int32_t request, int64_t token, int32_t head, const char *what, double value) {
    fprintf(stderr, "request %d, query token %lld, head %d: %s %g\n", request, (long long)token, head, what, value);
    gpu_case_print(m->c);
    return 0;
}

static int check_row(comparison *m, int32_t request, int64_t token, int32_t head, gpu_expect expect) {
    const gpu_case *c = m->c;
    const pod_limits *l = &c->limits;
    size_t offset = (size_t)(token * c->host.out_token_stride + head * c->host.out_head_stride);
    int64_t row = token * l->q_heads + head;
    pod_distance one = {0, 0};
    for (int32_t i = 0; i < v_head_dim_of(l); i++) {
        double want = expect == EXPECT_ORACLE ? m->out[row * v_head_dim_of(l) + i] : 0;
        double got = (double)pod__load(c->host.out, l->out_dtype, (int64_t)offset + i);
        m->written[offset + (size_t)i] = 1;
        if (expect == EXPECT_NAN) {
            if (!isnan(got)) return wrong(m, request, token, head, "NaN expected, an output is", got);
            continue;
        }
        if (!isfinite(want)) { /* NaN also for an infinity whose weight is too small for a float */
            if (!isnan(got) && got != want) return wrong(m, request, token, head, "not as lost:", got);
            continue;
        }
        if (!(fabs(got) < HUGE_VAL)) return wrong(m, request, token, head, "an output is", got);
        one.difference += (got - want) * (got - want);
        one.reference += want * want;
    }
    if (expect == EXPECT_NAN) return 1;
    pod__distance_add(&m->all, one);
    if (one.reference == 0 && one.difference != 0) {
        return wrong(m, request, token, head, "zeros expected, off by", sqrt(one.difference));
    }
    double error = one.difference > underflow(l->out_dtype, v_head_dim_of(l)) ? pod__relative_error(one, 0) : 0;
    m->seen.worst_row = pod__larger_error(m->seen.worst_row, error);
    if (!(error <= m->limit.worst_row)) return wrong(m, request, token, head, "relative error of the row", error);
    if (c->host.lse == NULL) return 1;
    double want = expect == EXPECT_ORACLE ? m->lse[row] : -HUGE_VAL;
    double got = (double)c->host.lse[token * c->host.lse_token_stride + head * c->host.lse_head_stride];
    double off = pod__lse_error(got, want);
    double rounding = want > 0 && want < HUGE_VAL ? want * 0x1p-19 : 0; /* of large scores, summed in float */
    if (!(off <= m->limit.lse + rounding)) return wrong(m, request, token, head, "LSE is off by", got - want);
    m->seen.lse = pod__larger_error(m->seen.lse, off);
    return 1;
}

static int check_requests(comparison *m, const gpu_expect *expect) {
    const pod_batch *b = &m->c->batch.batch;
    for (int32_t r = 0; r < b->num_requests; r++) {
        gpu_expect e = expect != NULL ? expect[r] : EXPECT_ORACLE;
        if (e == EXPECT_UNTOUCHED) continue;
        for (int64_t token = b->q_start[r]; token < b->q_start[r + 1]; token++) {
            for (int32_t head = 0; head < m->c->limits.q_heads; head++) {
                if (!check_row(m, r, token, head, e)) return 0;
            }
        }
    }
    return 1;
}

/** Nothing beside the rows was written. */
static int check_gaps(const comparison *m) {
    const uint16_t *out = m->c->host.out;
    for (size_t i = 0; i < m->c->out_elements; i++) {
        if (m->written[i] || out[i] == POISON_ELEMENT) continue;
        fprintf(stderr, "out element %zu belongs to no row but was written\n", i);
        gpu_case_print(m->c);
        return 0;
    }
    return 1;
}

/** Rows of `lse` behind the last request keep what was there. */
static int check_lse_behind(const comparison *m) {
    const gpu_case *c = m->c;
    const pod_tensors *t = &c->host;
    int64_t q_heads = c->limits.q_heads, num_tokens = (int64_t)c->lse_elements / q_heads;
    for (int64_t token = c->batch.q_start[c->batch.batch.num_requests]; t->lse != NULL && token < num_tokens; token++) {
        for (int64_t head = 0; head < q_heads; head++) {
            uint32_t bits;
            memcpy(&bits, &t->lse[token * t->lse_token_stride + head * t->lse_head_stride], sizeof bits);
            if (bits == UINT32_MAX) continue; /* the poison, which is one NaN of many */
            fprintf(stderr, "the LSE of token %lld, head %lld belongs to no request but was written\n",
                    (long long)token, (long long)head);
            gpu_case_print(c);
            return 0;
        }
    }
    return 1;
}

static int compare(comparison *m, const gpu_expect *expect) {
    require(
        pod_reference_attention(&m->c->limits, &m->c->batch.batch, &m->c->host, &m->c->host_cache, -1, m->out, m->lse),
        "pod_reference_attention");
    if (!check_requests(m, expect) || !check_gaps(m) || !check_lse_behind(m)) return 0;
    m->seen.whole = m->all.reference > 0 ? pod__relative_error(m->all, 0) : 0;
    if (m->seen.whole <= m->limit.whole) return 1;
    fprintf(stderr, "relative error of the batch %g\n", m->seen.whole);
    gpu_case_print(m->c);
    return 0;
}

int gpu_case_check(const gpu_case *c, const gpu_expect *expect, pod_errors *errors) {
    size_t rows = c->lse_elements;
    comparison m = {.c = c, .limit = pod__errors_allowed_on_gpu(c->limits.q_dtype)};
    m.out = checked(malloc((rows * (size_t)v_head_dim_of(&c->limits) + 1) * sizeof(double)));
    m.lse = checked(malloc((rows + 1) * sizeof(double)));
    m.written = checked(calloc(c->out_elements + 1, 1));
    int good = compare(&m, expect);
    free(m.out);
    free(m.lse);
    free(m.written);
    if (errors != NULL) *errors = pod__larger_errors(*errors, m.seen);
    return good;
}

void gpu_case_print(const gpu_case *c) {
    const pod_limits *l = &c->limits;
    const pod_batch *b = &c->batch.batch;
    const pod_mask *mask = &b->masks[c->host.mask];
    fprintf(stderr,
            "  heads %d,%d dims %d,%d%s %s kv %s page_size %d %s mask %d of %d (causal %d%s window %d, %d) softcap %g "
            "sinks %d "
            "alibi %d tree %d lse %d; ",
            l->q_heads, l->kv_heads, l->head_dim, v_head_dim_of(l), c->has_no_v ? " values in k" : "",
            pod_dtype_name(l->q_dtype), pod_dtype_name(l->kv_dtype), l->page_size,
            b->page_table != NULL ? "paged" : "contiguous", c->host.mask, b->num_masks, mask->causal,
            mask->causal_per_request != NULL ? " per request" : "", mask->window_tokens, mask->right_window_tokens,
            (double)c->host.softcap, c->host.sinks != NULL, c->host.alibi_slopes != NULL, c->host.tree_mask != NULL,
            c->host.lse != NULL);
    fprintf(stderr, "limits %d requests, %d q_tokens, %d kv_len; q@kv:", l->max_requests, l->max_q_tokens,
            l->max_kv_len);
    for (int32_t r = 0; r < b->num_requests && r < 64; r++) {
        fprintf(stderr, " %d@%d", b->q_start[r + 1] - b->q_start[r], b->kv_len[r]);
    }
    fprintf(stderr, "%s\n", b->num_requests > 64 ? " ..." : "");
}
