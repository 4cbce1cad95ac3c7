/* SPDX-License-Identifier: Apache-2.0 */
#include "append_case.h"

#include "backend/backend.h"
#include "base/dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { GAP_BYTES = 256, MAX_TABLE = 300 };

/* ---- the arena ---- */

/** Room for `bytes`, 256-aligned, a gap behind it; memory comes when all of it is known. */
static size_t reserve(append_case *c, size_t bytes) {
    size_t at = c->arena_bytes;
    c->arena_bytes += (bytes + 255) / 256 * 256 + GAP_BYTES;
    return at;
}

static void move(const append_case *c, unsigned char *base, const void *field) {
    void *pointer;
    memcpy(&pointer, field, sizeof pointer);
    if (pointer == NULL) return;
    pointer = base + ((const unsigned char *)pointer - c->arena);
    memcpy((void *)(uintptr_t)field, &pointer, sizeof pointer);
}

void append_case_move(const append_case *c, unsigned char *base, append_call *moved) {
    *moved = c->host;
    append_call *m = moved;
    const void *fields[] = {
        &m->batch.q_start,
        &m->batch.kv_len,
        &m->batch.page_table,
        &m->mask.causal_per_request,
        &m->rope.cos,
        &m->rope.sin,
        &m->append.k,
        &m->append.v,
        &m->append.q,
        &m->append.q_out,
        &m->append.slot_mapping,
        &m->append.positions,
        &m->append.left_pad,
        &m->append.bad_token,
        &m->cache.k,
        &m->cache.v,
        &m->cache.k_scale,
        &m->cache.v_scale,
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) move(c, base, fields[i]);
    m->batch.masks = &m->mask;
    if (m->append.rope != NULL) m->append.rope = &m->rope;
}

/* ---- shapes ---- */

static void draw_limits(append_case *c, test_rng *rng, const append_bounds *bounds) {
    static const int32_t page_sizes[] = {1, 2, 3, 8, 16, 16, 64, 100};
    pod_limits *l = &c->limits;
    *l = random_limits(rng, bounds->max_requests, bounds->max_q_tokens, bounds->max_kv_len);
    while (l->q_heads > 16) *l = random_limits(rng, bounds->max_requests, bounds->max_q_tokens, bounds->max_kv_len);
    if (!rng_chance(rng, 25)) l->page_size = rng_pick(rng, page_sizes, 8);
    if (bounds->device != NULL) random_gpu_elements(rng, l);
    if (rng_chance(rng, 20)) l->kv_dtype = POD_F8E4M3;
}

static void choose_limits(append_case *c, test_rng *rng, const append_bounds *bounds) {
    pod_workspace workspace = pod_workspace_init();
    do draw_limits(c, rng, bounds);
    while (bounds->device != NULL && pod_workspace_size(bounds->device, &c->limits, &workspace) == POD_E_UNSUPPORTED);
}

static int make_batch(append_case *c, test_rng *rng, test_batch *batch) {
    if (!test_batch_alloc(batch, &c->limits)) return 0;
    test_batch_fill(batch, rng, &c->limits, (batch_mix)rng_range(rng, 0, MIX_COUNT - 1));
    for (int32_t r = 0; r < batch->batch.num_requests; r++) { /* every token has a place */
        int32_t q_len = batch->q_start[r + 1] - batch->q_start[r];
        if (batch->kv_len[r] < q_len) batch->kv_len[r] = q_len;
    }
    int is_contiguous = c->limits.page_size == c->limits.max_kv_len && rng_chance(rng, 80);
    if (is_contiguous && batch->batch.num_pages == 0) batch->batch.num_pages = 1; /* what nothing says otherwise */
    return is_contiguous || test_batch_add_pages(batch, rng, &c->limits);
}

static int64_t pad(test_rng *rng, int is_gpu) {
    if (rng_chance(rng, 50)) return 0;
    return is_gpu ? 16 * rng_range(rng, 1, 2) : rng_range(rng, 1, 9);
}

/** Strides of [tokens, heads, dim], token-major or head-major. Returns the elements that they reach over. */
static int64_t choose_strides(test_rng *rng, int is_gpu, int64_t tokens, int64_t heads, int64_t dim, int64_t *token,
                              int64_t *head) {
    if (rng_chance(rng, 75)) {
        *head = dim + pad(rng, is_gpu);
        *token = *head * heads + pad(rng, is_gpu);
        return *token * tokens;
    }
    *token = dim + pad(rng, is_gpu);
    *head = *token * tokens + pad(rng, is_gpu);
    return *head * heads;
}

/* ---- what it is made of; each piece is placed first, and filled in when the arena is there ---- */

typedef struct places {
    size_t q_start, kv_len, table, causal;
    size_t k, v, q, q_out, cache_k, cache_v;
    size_t slots, positions, pads, bad_token, cos, sin, k_scale, v_scale;
    int64_t k_elements, v_elements, q_elements;
} places;

static void place_inputs(append_case *c, test_rng *rng, int is_gpu, places *at) {
    static const pod_dtype dtypes[] = {POD_F32, POD_F16, POD_BF16};
    const pod_limits *l = &c->limits;
    pod_append *a = &c->host.append;
    int64_t tokens = a->num_tokens, dim = l->head_dim, v_dim = v_head_dim_of(l);
    a->dtype = rng_chance(rng, 60) ? l->q_dtype : dtypes[rng_range(rng, 0, 2)];
    size_t bytes = pod_dtype_size(a->dtype);
    if (rng_chance(rng, 50)) { /* one tensor: q, k, v of a token one after the other */
        int64_t token = (l->q_heads + l->kv_heads) * dim + l->kv_heads * v_dim + pad(rng, is_gpu);
        a->q_head_stride = a->k_head_stride = dim;
        a->v_head_stride = v_dim;
        a->q_token_stride = a->k_token_stride = a->v_token_stride = token;
        at->q = reserve(c, (size_t)(token * tokens) * bytes);
        at->k = at->q + (size_t)(l->q_heads * dim) * bytes;
        at->v = at->k + (size_t)(l->kv_heads * dim) * bytes;
        at->q_elements = token * tokens;
        at->k_elements = at->v_elements = 0;
    } else {
        at->q_elements = choose_strides(rng, is_gpu, tokens, l->q_heads, dim, &a->q_token_stride, &a->q_head_stride);
        at->k_elements = choose_strides(rng, is_gpu, tokens, l->kv_heads, dim, &a->k_token_stride, &a->k_head_stride);
        at->v_elements = choose_strides(rng, is_gpu, tokens, l->kv_heads, v_dim, &a->v_token_stride, &a->v_head_stride);
        at->q = reserve(c, (size_t)at->q_elements * bytes);
        at->k = reserve(c, (size_t)at->k_elements * bytes);
        at->v = reserve(c, (size_t)at->v_elements * bytes);
    }
    if (a->dtype == l->q_dtype && rng_chance(rng, 50)) { /* in place */
        a->q_out_token_stride = a->q_token_stride;
        a->q_out_head_stride = a->q_head_stride;
        at->q_out = at->q;
        return;
    }
    int64_t reach = choose_strides(rng, is_gpu, tokens, l->q_heads, dim, &a->q_out_token_stride, &a->q_out_head_stride);
    at->q_out = reserve(c, (size_t)reach * pod_dtype_size(l->q_dtype));
}

/** NHD, HND, or K and V interleaved per page; with or without gaps. */
static void place_cache(append_case *c, test_rng *rng, int is_gpu, places *at) {
    const pod_limits *l = &c->limits;
    pod_cache *t = &c->host.cache;
    int64_t pages = c->host.batch.num_pages;
    int64_t step = is_gpu ? 16 : 1; /* whole pieces of 16 bytes, also of f8e4m3 */
    int64_t dim = (l->head_dim + step - 1) / step * step, v_dim = (v_head_dim_of(l) + step - 1) / step * step;
    int64_t page = choose_strides(rng, is_gpu, l->page_size, l->kv_heads, dim, &t->k_token_stride, &t->k_head_stride);
    int64_t v_page =
        choose_strides(rng, is_gpu, l->page_size, l->kv_heads, v_dim, &t->v_token_stride, &t->v_head_stride);
    int is_interleaved = rng_chance(rng, 40);
    size_t bytes = pod_dtype_size(l->kv_dtype);
    page += pad(rng, is_gpu);
    t->k_page_stride = is_interleaved ? page + v_page : page;
    t->v_page_stride = is_interleaved ? page + v_page : v_page;
    at->cache_k = reserve(c, (size_t)((page + v_page) * pages) * bytes);
    at->cache_v = at->cache_k + (size_t)(is_interleaved ? page : page * pages) * bytes;
    if (!is_interleaved && is_gpu) at->cache_v = (at->cache_v + 15) / 16 * 16;
    reserve(c, 16);
}

static void choose_rope(append_case *c, test_rng *rng, places *at) {
    static const pod_dtype dtypes[] = {POD_F32, POD_F16, POD_BF16};
    static const double bases[] = {0, 10000, 500000, 1e6, 3.5};
    pod_rope *rope = &c->host.rope;
    *rope = pod_rope_init();
    rope->style = rng_chance(rng, 50) ? POD_ROPE_HALVES : POD_ROPE_PAIRS;
    int32_t most = c->limits.head_dim < 256 ? c->limits.head_dim : 256;
    if (most < c->limits.head_dim || rng_chance(rng, 50)) rope->rotary_dim = 2 * rng_range(rng, 1, most / 2);
    int32_t pairs = (rope->rotary_dim != 0 ? rope->rotary_dim : c->limits.head_dim) / 2;
    if (rng_chance(rng, 40)) { /* tables, maybe cosines and sines side by side */
        rope->table_positions = c->limits.max_kv_len > MAX_TABLE ? c->limits.max_kv_len : MAX_TABLE;
        rope->table_dtype = dtypes[rng_range(rng, 0, 2)];
        rope->table_stride = rng_chance(rng, 50) ? 2 * pairs : pairs + rng_range(rng, 0, 3);
        size_t bytes = pod_dtype_size(rope->table_dtype);
        at->cos = reserve(c, (size_t)(rope->table_stride * rope->table_positions) * bytes);
        at->sin = rope->table_stride >= 2 * pairs
                      ? at->cos + (size_t)pairs * bytes
                      : reserve(c, (size_t)(rope->table_stride * rope->table_positions) * bytes);
        return;
    }
    rope->base = bases[rng_range(rng, 0, 4)];
    rope->scaling = (pod_rope_scaling)rng_range(rng, 0, 3);
    if (rope->scaling == POD_ROPE_UNSCALED) return;
    rope->factor = 0.5 * rng_range(rng, 1, 80);
    rope->original_context = 1 << rng_range(rng, 6, 15);
    if (rng_chance(rng, 50)) rope->low_freq_factor = 2, rope->high_freq_factor = 5;
    if (rng_chance(rng, 50)) rope->beta_fast = 20, rope->beta_slow = 2;
    if (rng_chance(rng, 50)) rope->attention_factor = 1.25;
    rope->yarn_is_exact = rng_chance(rng, 30);
}

static void place_batch(append_case *c, const test_batch *batch, places *at) {
    const pod_batch *b = &batch->batch;
    size_t requests = (size_t)b->num_requests, words = sizeof(int32_t);
    c->host.batch = *b;
    c->host.mask = b->masks[0];
    at->q_start = reserve(c, (requests + 1) * words);
    at->kv_len = reserve(c, requests * words);
    at->table = reserve(c, requests * (size_t)b->page_table_stride * words);
    at->causal = reserve(c, requests * words);
}

/* ---- contents ---- */

static void fill_numbers(const append_case *c, test_rng *rng, size_t at, int64_t elements) {
    pod_dtype dtype = c->host.append.dtype;
    int is_large = c->limits.kv_dtype == POD_F8E4M3 && rng_chance(rng, 30);
    for (int64_t i = 0; i < elements; i++) {
        float value = rng_normal(rng) * (is_large ? 300.0f : 1.0f);
        pod__store(c->arena + at, dtype, i, rng_range(rng, 0, 2000) == 0 ? NAN : value);
    }
}

static void fill_tables(const append_case *c, const places *at) {
    const pod_rope *rope = &c->host.rope;
    int32_t pairs = (rope->rotary_dim != 0 ? rope->rotary_dim : c->limits.head_dim) / 2;
    for (int64_t p = 0; p < rope->table_positions; p++) {
        for (int32_t j = 0; j < pairs; j++) {
            double angle = (double)p / pow(10000, (double)j / pairs);
            pod__store(c->arena + at->cos, rope->table_dtype, p * rope->table_stride + j, (float)cos(angle));
            pod__store(c->arena + at->sin, rope->table_dtype, p * rope->table_stride + j, (float)sin(angle));
        }
    }
}

/** Different slots for the tokens, some of them without one. */
static void fill_slots(const append_case *c, test_rng *rng, const places *at) {
    int64_t *slots = (int64_t *)(void *)(c->arena + at->slots);
    int64_t num_slots = (int64_t)c->host.batch.num_pages * c->limits.page_size, tokens = c->host.append.num_tokens;
    int64_t step = num_slots / (tokens + 1) > 0 ? num_slots / (tokens + 1) : 1;
    for (int64_t t = 0; t < tokens; t++) {
        int64_t slot = step > 1 ? t * step + rng_range(rng, 0, (int32_t)step - 1) : t;
        slots[t] = slot >= num_slots || rng_chance(rng, 10) ? -1 - rng_range(rng, 0, 3) : slot;
    }
    for (int64_t t = tokens - 1; t > 0; t--) {
        int64_t other = rng_range(rng, 0, (int32_t)t), kept = slots[t];
        slots[t] = slots[other];
        slots[other] = kept;
    }
}

static void fill_positions(append_case *c, test_rng *rng, const places *at) {
    int32_t end = c->host.rope.table_positions > 0 ? c->host.rope.table_positions - 1 : 1 << 20;
    if (c->host.rope.table_positions == 0 && rng_chance(rng, 10)) {
        end = INT32_MAX;
        c->angle_error = 4e-6;
    }
    for (int32_t t = 0; t < c->host.append.num_tokens; t++) {
        int32_t position = rng_chance(rng, 5) ? end : rng_log_range(rng, 0, end);
        if (c->host.append.position_bytes == 4)
            ((int32_t *)(void *)(c->arena + at->positions))[t] = position;
        else
            ((int64_t *)(void *)(c->arena + at->positions))[t] = position;
    }
}

static void fill_scales(const append_case *c, test_rng *rng, size_t at) {
    float *scales = (float *)(void *)(c->arena + at);
    for (int32_t h = 0; h < c->limits.kv_heads; h++) scales[h] = 0.25f * (float)rng_range(rng, 1, 16);
}

/** Spoils one token's slot, position or pad. */
static void plant_fault(append_case *c, test_rng *rng) {
    const pod_append *a = &c->host.append;
    int32_t num_tokens = c->needs_build ? c->host.batch.q_start[c->host.batch.num_requests] : a->num_tokens;
    if (num_tokens == 0) return;
    int32_t t = rng_range(rng, 0, num_tokens - 1);
    int64_t num_slots = (int64_t)c->host.batch.num_pages * c->limits.page_size;
    int64_t *slots = (int64_t *)(uintptr_t)a->slot_mapping;
    if (slots != NULL && rng_chance(rng, 50)) {
        slots[t] = num_slots + (rng_chance(rng, 50) ? 0 : (int64_t)(rng_next(rng) % (UINT64_C(1) << 62)));
        c->bad_token = t;
    } else if (a->positions != NULL && (slots == NULL || slots[t] >= 0)) {
        int64_t wrong = c->host.rope.cos != NULL && rng_chance(rng, 50) ? c->host.rope.table_positions : -1;
        if (a->position_bytes == 4)
            ((int32_t *)(uintptr_t)a->positions)[t] = (int32_t)wrong;
        else
            ((int64_t *)(uintptr_t)a->positions)[t] = wrong;
        c->bad_token = t;
    }
}

#define AT(field, type) ((type *)(void *)(c->arena + at.field))

static int fill(append_case *c, test_rng *rng, const test_batch *batch, places at, int has_scales, int has_pads) {
    const pod_batch *b = &batch->batch;
    append_call *host = &c->host;
    pod_append *a = &host->append;
    size_t requests = (size_t)b->num_requests, words = sizeof(int32_t);
    c->arena = aligned_alloc(256, c->arena_bytes + 256);
    if (c->arena == NULL) return 0;
    memset(c->arena, rng_range(rng, 0xc0, 0xff), c->arena_bytes);
    memcpy(c->arena + at.q_start, b->q_start, (requests + 1) * words);
    memcpy(c->arena + at.kv_len, b->kv_len, requests * words);
    if (b->page_table != NULL) {
        memcpy(c->arena + at.table, b->page_table, requests * (size_t)b->page_table_stride * words);
        host->batch.page_table = AT(table, int32_t);
    }
    if (host->mask.causal_per_request != NULL) {
        memcpy(c->arena + at.causal, host->mask.causal_per_request, requests * words);
        host->mask.causal_per_request = AT(causal, int32_t);
    }
    host->batch.q_start = AT(q_start, int32_t);
    host->batch.kv_len = AT(kv_len, int32_t);
    host->batch.masks = &host->mask;
    fill_numbers(c, rng, at.q, at.q_elements);
    fill_numbers(c, rng, at.k, at.k_elements);
    fill_numbers(c, rng, at.v, at.v_elements);
    if (a->k != NULL) {
        a->k = AT(k, void);
        host->cache.k = AT(cache_k, void);
        if (a->v != NULL) a->v = AT(v, void), host->cache.v = AT(cache_v, void);
    }
    if (a->q != NULL) {
        a->q = AT(q, void);
        a->q_out = AT(q_out, void);
    }
    if (a->slot_mapping != NULL) {
        fill_slots(c, rng, &at);
        a->slot_mapping = AT(slots, int64_t);
    }
    if (a->positions != NULL) {
        fill_positions(c, rng, &at);
        a->positions = AT(positions, void);
    }
    if (has_pads) {
        for (size_t r = 0; r < requests; r++) AT(pads, int32_t)[r] = rng_range(rng, 0, b->kv_len[r]);
        a->left_pad = AT(pads, int32_t);
    }
    if (at.cos != 0) {
        fill_tables(c, &at);
        host->rope.cos = AT(cos, void);
        host->rope.sin = AT(sin, void);
    }
    if (has_scales) {
        fill_scales(c, rng, at.k_scale);
        fill_scales(c, rng, at.v_scale);
        host->cache.k_scale = AT(k_scale, float);
        if (a->v != NULL) host->cache.v_scale = AT(v_scale, float);
    }
    *AT(bad_token, int32_t) = 0;
    a->bad_token = AT(bad_token, int32_t);
    return 1;
}

/** Which way tokens find their places and positions. */
static void choose_way(append_case *c, test_rng *rng, int has_rope) {
    static const int64_t some = 0;
    pod_append *a = &c->host.append;
    int has_keys = rng_chance(rng, 90), has_q = !has_keys || rng_chance(rng, 60);
    int has_v = has_keys && (v_head_dim_of(&c->limits) > c->limits.head_dim || rng_chance(rng, 85));
    a->k = has_keys ? &some : NULL; /* until the arena is there */
    a->v = has_v ? &some : NULL;
    a->q = has_q ? &some : NULL;
    a->slot_mapping = has_keys && rng_chance(rng, 50) ? &some : NULL;
    a->positions = has_rope && rng_chance(rng, 50) ? &some : NULL;
    a->position_bytes = a->positions != NULL && rng_chance(rng, 50) ? 4 : 0;
    c->needs_build = (has_keys && a->slot_mapping == NULL) || (has_rope && a->positions == NULL);
}

static int make(append_case *c, test_rng *rng, const append_bounds *bounds, test_batch *batch) {
    append_call *host = &c->host;
    pod_append *a = &host->append;
    places at = {0};
    int is_gpu = bounds->device != NULL;
    choose_limits(c, rng, bounds);
    if (!make_batch(c, rng, batch)) return 0;
    reserve(c, 0);
    place_batch(c, batch, &at);
    *a = pod_append_init();
    host->cache = pod_cache_init();
    host->rope = pod_rope_init();
    int has_rope = rng_chance(rng, 75);
    choose_way(c, rng, has_rope);
    a->num_tokens = batch->q_start[batch->batch.num_requests] + rng_range(rng, is_gpu, 3);
    a->num_pages = c->needs_build && rng_chance(rng, 50) ? 0 : host->batch.num_pages;
    place_inputs(c, rng, is_gpu, &at);
    place_cache(c, rng, is_gpu, &at);
    if (has_rope) {
        choose_rope(c, rng, &at);
        a->rope = &host->rope;
    }
    size_t heads = (size_t)c->limits.kv_heads * sizeof(float), tokens = (size_t)a->num_tokens;
    int has_scales = a->k != NULL && rng_chance(rng, c->limits.kv_dtype == POD_F8E4M3 ? 80 : 15);
    int has_pads = has_rope && a->positions == NULL && rng_chance(rng, 30);
    at.k_scale = reserve(c, heads);
    at.v_scale = reserve(c, heads);
    host->cache.scale_stride = has_scales ? rng_range(rng, 0, 1) : 0;
    at.slots = reserve(c, tokens * sizeof(int64_t));
    at.positions = reserve(c, tokens * sizeof(int64_t));
    at.pads = reserve(c, (size_t)batch->batch.num_requests * sizeof(int32_t));
    at.bad_token = reserve(c, sizeof(int32_t));
    if (!fill(c, rng, batch, at, has_scales, has_pads)) return 0;
    if (rng_chance(rng, 10)) plant_fault(c, rng);
    return 1;
}

int append_case_make(append_case *c, test_rng *rng, const append_bounds *bounds) {
    test_batch batch = {0};
    memset(c, 0, sizeof *c);
    c->bad_token = -1;
    c->angle_error = 2e-7;
    int made = make(c, rng, bounds, &batch);
    test_batch_free(&batch);
    size_t tokens = (size_t)c->host.append.num_tokens + 1, dim = (size_t)c->limits.head_dim;
    size_t v_dim = (size_t)v_head_dim_of(&c->limits);
    c->slots = malloc(tokens * sizeof *c->slots);
    c->k = malloc(tokens * (size_t)c->limits.kv_heads * dim * sizeof *c->k);
    c->v = malloc(tokens * (size_t)c->limits.kv_heads * v_dim * sizeof *c->v);
    c->q = malloc(tokens * (size_t)c->limits.q_heads * dim * sizeof *c->q);
    if (!made || c->slots == NULL || c->k == NULL || c->v == NULL || c->q == NULL) return 0;
    const append_call *host = &c->host;
    pod_status status = pod_reference_append(&c->limits, c->needs_build ? &host->batch : NULL, &host->append,
                                             host->append.k != NULL ? &host->cache : NULL, c->slots,
                                             host->append.k != NULL ? c->k : NULL, host->append.v != NULL ? c->v : NULL,
                                             host->append.q != NULL ? c->q : NULL);
    if (status != POD_OK) fprintf(stderr, "pod_reference_append: %s\n", pod_error_message());
    return status == POD_OK;
}

void append_case_free(append_case *c) {
    free(c->arena);
    free(c->slots);
    free(c->k);
    free(c->v);
    free(c->q);
}

void append_case_drop_request(append_case *c, int32_t r) {
    int64_t row = (int64_t)c->limits.q_heads * c->limits.head_dim;
    for (int64_t t = c->host.batch.q_start[r]; t < c->host.batch.q_start[r + 1]; t++) {
        c->slots[t] = -1;
        for (int64_t i = 0; c->host.append.q != NULL && i < row; i++) c->q[t * row + i] = 0;
    }
}

/* ---- the check ---- */

typedef struct row_check {
    const char *what;
    int64_t token, head;
    const double *expected;
    const unsigned char *input; /**< first element of the row that was given */
    size_t after;               /**< offset of the row in the arena */
    pod_dtype dtype;
    int32_t dim;
    int is_rotated;
    double scale, amplitude;
} row_check;

/** Half a step of a number of 1, and of the smallest ones. */
static void rounding_of(pod_dtype dtype, double *relative, double *absolute) {
    *relative = dtype == POD_F32 ? 0x1p-24 : dtype == POD_F16 ? 0x1p-11 : dtype == POD_BF16 ? 0x1p-8 : 0x1p-4;
    *absolute = dtype == POD_F16 ? 0x1p-25 : dtype == POD_F8E4M3 ? 0x1p-10 : 1e-38;
}

static int check_row(const append_case *c, const unsigned char *after, const row_check *row) {
    double relative, absolute, largest = 0;
    pod_dtype given = c->host.append.dtype;
    rounding_of(row->dtype, &relative, &absolute);
    for (int32_t i = 0; i < row->dim; i++) {
        double input = (double)pod__load(row->input, given, i);
        if (fabs(input) > largest) largest = fabs(input);
    }
    double moved = row->is_rotated ? 2 * largest * row->amplitude * (c->angle_error + 2e-7) : largest * 1.2e-7;
    for (int32_t i = 0; i < row->dim; i++) {
        double got = (double)pod__load(after + row->after, row->dtype, i), want = row->expected[i];
        if (row->dtype == POD_F8E4M3 && fabs(want) > 448) want = copysign(448, want);
        if (isnan(want) && isnan(got)) continue;
        if (fabs(got - want) <= relative * fabs(want) * (1 + 1e-6) + absolute + moved / row->scale) continue;
        fprintf(stderr, "%s[%lld][%lld][%d] is %.9g, not %.9g\n", row->what, (long long)row->token,
                (long long)row->head, i, got, want);
        return 0;
    }
    size_t bytes = (size_t)row->dim * pod_dtype_size(row->dtype);
    int is_copied = !row->is_rotated && given == row->dtype && row->scale == 1 && row->after != 0;
    for (int32_t i = 0; is_copied && i < row->dim; i++) is_copied = !isnan(row->expected[i]);
    if (is_copied && memcmp(after + row->after, row->input, bytes) != 0) {
        fprintf(stderr, "%s[%lld][%lld] is not copied\n", row->what, (long long)row->token, (long long)row->head);
        return 0;
    }
    return 1;
}

static double scale_of(const append_case *c, const float *scales, int32_t head) {
    return scales != NULL ? (double)scales[head * c->host.cache.scale_stride] : 1;
}

static double amplitude_of(const pod_rope *rope) {
    if (rope->scaling != POD_ROPE_YARN || rope->attention_factor != 0) return fmax(rope->attention_factor, 1);
    return rope->factor > 1 ? 0.1 * log(rope->factor) + 1 : 1;
}

/** K's or V's row of a token, and its place in the expected arena. */
static row_check kv_row(const append_case *c, int is_k, int64_t token, int32_t head) {
    const pod_append *a = &c->host.append;
    const pod_cache *t = &c->host.cache;
    int32_t dim = is_k ? c->limits.head_dim : v_head_dim_of(&c->limits);
    int64_t page = c->slots[token] / c->limits.page_size, place = c->slots[token] % c->limits.page_size;
    int64_t at = is_k ? page * t->k_page_stride + place * t->k_token_stride + head * t->k_head_stride
                      : page * t->v_page_stride + place * t->v_token_stride + head * t->v_head_stride;
    int64_t from = is_k ? token * a->k_token_stride + head * a->k_head_stride
                        : token * a->v_token_stride + head * a->v_head_stride;
    const unsigned char *cache = is_k ? t->k : t->v, *given = is_k ? a->k : a->v;
    row_check row = {
        .what = is_k ? "k" : "v",
        .token = token,
        .head = head,
        .expected = (is_k ? c->k : c->v) + (token * c->limits.kv_heads + head) * dim,
        .input = given + from * (int64_t)pod_dtype_size(a->dtype),
        .after = (size_t)(cache - c->arena) + (size_t)at * pod_dtype_size(c->limits.kv_dtype),
        .dtype = c->limits.kv_dtype,
        .dim = dim,
        .is_rotated = is_k && a->rope != NULL,
        .scale = scale_of(c, is_k ? t->k_scale : t->v_scale, head),
        .amplitude = amplitude_of(&c->host.rope),
    };
    return row;
}

static row_check q_row(const append_case *c, int64_t token, int32_t head) {
    const pod_append *a = &c->host.append;
    int64_t from = token * a->q_token_stride + head * a->q_head_stride;
    int64_t at = token * a->q_out_token_stride + head * a->q_out_head_stride;
    row_check row = {
        .what = "q_out",
        .token = token,
        .head = head,
        .expected = c->q + (token * c->limits.q_heads + head) * c->limits.head_dim,
        .input = (const unsigned char *)a->q + from * (int64_t)pod_dtype_size(a->dtype),
        .after = (size_t)((const unsigned char *)a->q_out - c->arena) + (size_t)at * pod_dtype_size(c->limits.q_dtype),
        .dtype = c->limits.q_dtype,
        .dim = c->limits.head_dim,
        .is_rotated = a->rope != NULL,
        .scale = 1,
        .amplitude = amplitude_of(&c->host.rope),
    };
    return row;
}

/** Whether the token's q_out is written: the oracle has zeros where it is not, which no random row has. */
static int has_query(const append_case *c, int64_t token) {
    const double *row = c->q + token * c->limits.q_heads * c->limits.head_dim;
    for (int32_t i = 0; i < c->limits.q_heads * c->limits.head_dim; i++) {
        if (row[i] != 0) return 1;
    }
    return 0;
}

static int check_token(const append_case *c, const unsigned char *after, unsigned char *expected, int64_t token) {
    const pod_append *a = &c->host.append;
    for (int32_t head = 0; a->k != NULL && c->slots[token] >= 0 && head < c->limits.kv_heads; head++) {
        for (int is_k = a->v == NULL; is_k < 2; is_k++) {
            row_check row = kv_row(c, is_k, token, head);
            if (!check_row(c, after, &row)) return 0;
            memcpy(expected + row.after, after + row.after, (size_t)row.dim * pod_dtype_size(row.dtype));
        }
    }
    for (int32_t head = 0; a->q != NULL && has_query(c, token) && head < c->limits.q_heads; head++) {
        row_check row = q_row(c, token, head);
        if (!check_row(c, after, &row)) return 0;
        memcpy(expected + row.after, after + row.after, (size_t)row.dim * pod_dtype_size(row.dtype));
    }
    return 1;
}

int append_case_check(const append_case *c, const unsigned char *after) {
    unsigned char *expected = malloc(c->arena_bytes);
    if (expected == NULL) return 0;
    memcpy(expected, c->arena, c->arena_bytes);
    int good = 1;
    for (int64_t token = 0; good && token < c->host.append.num_tokens; token++) {
        good = check_token(c, after, expected, token);
    }
    /* The word that a bad token is told in. */
    size_t word = (size_t)((const unsigned char *)c->host.append.bad_token - c->arena);
    memcpy(expected + word, after + word, sizeof(int32_t));
    if (good && memcmp(expected, after, c->arena_bytes) != 0) {
        size_t at = 0;
        while (expected[at] == after[at]) at++;
        fprintf(stderr, "byte %zu of %zu was changed from %02x to %02x\n", at, c->arena_bytes, expected[at], after[at]);
        good = 0;
    }
    free(expected);
    return good;
}

void append_case_print(const append_case *c) {
    const pod_append *a = &c->host.append;
    const pod_rope *rope = &c->host.rope;
    fprintf(stderr,
            "heads %d/%d of %d and %d, %s -> q %s, kv %s, page_size %d, %d tokens of %d requests;%s%s%s%s%s rope %d: "
            "style %d, "
            "rotary_dim %d, scaling %d%s\n",
            c->limits.q_heads, c->limits.kv_heads, c->limits.head_dim, v_head_dim_of(&c->limits),
            pod_dtype_name(a->dtype), pod_dtype_name(c->limits.q_dtype), pod_dtype_name(c->limits.kv_dtype),
            c->limits.page_size, a->num_tokens, c->host.batch.num_requests,
            a->v != NULL   ? " k v"
            : a->k != NULL ? " k"
                           : "",
            a->q != NULL ? " q" : "", a->slot_mapping != NULL ? " slots" : "", a->positions != NULL ? " positions" : "",
            a->left_pad != NULL ? " pads" : "", a->rope != NULL, (int)rope->style, rope->rotary_dim, (int)rope->scaling,
            rope->cos != NULL ? ", tables" : "");
}
