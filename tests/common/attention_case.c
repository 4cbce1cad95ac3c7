/* SPDX-License-Identifier: Apache-2.0 */
#include "attention_case.h"

#include "base/dtype.h"
#include "test_workspace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAN_BYTE = 0xff, MAX_KV_ELEMENTS = 1 << 20 };

static int32_t min32(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/** Memory for `elements` whose first stands `shift` elements behind an aligned address; all NaN. */
static void *alloc_elements(guarded *memory, int64_t elements, int64_t shift, size_t element_bytes) {
    *memory = guarded_alloc((size_t)(elements + shift) * element_bytes, NAN_BYTE);
    return memory->data == NULL ? NULL : memory->data + (size_t)shift * element_bytes;
}

/** Strides of [tokens][heads][head_dim], token-major or head-major, packed or with gaps. Returns the elements spanned.
 */
static int64_t random_strides(test_rng *rng, int32_t tokens, int32_t heads, int32_t width, int64_t *token_stride,
                              int64_t *head_stride) {
    int32_t inner_gap = rng_chance(rng, 50) ? 0 : rng_range(rng, 0, 9);
    int32_t outer_gap = rng_chance(rng, 50) ? 0 : rng_range(rng, 0, 33);
    if (rng_chance(rng, 60)) {
        *head_stride = width + inner_gap;
        *token_stride = *head_stride * heads + outer_gap;
    } else {
        *token_stride = width + inner_gap;
        *head_stride = *token_stride * tokens + outer_gap;
    }
    return tokens == 0 ? 0 : (tokens - 1) * *token_stride + (heads - 1) * *head_stride + width;
}

/** As keys are; as in MLA's prefill, or its decode; or any. Few heads where they are wide, which others make up for. */
static void make_v_head_dim(pod_limits *limits, test_rng *rng) {
    limits->v_head_dim = 0;
    if (rng_chance(rng, 60)) return;
    limits->v_head_dim = 8 * rng_range(rng, 1, 32);
    if (rng_chance(rng, 70)) return;
    int is_decode = rng_chance(rng, 50);
    limits->head_dim = is_decode ? 576 : 192;
    limits->v_head_dim = is_decode ? 512 : 128;
    if (is_decode) limits->kv_heads = 1, limits->q_heads = 8 << rng_range(rng, 0, 4);
}

/** Heads and lengths: a few requests, many mixed ones, or a long context that has to be split. */
static void make_shape(attention_case *made, test_rng *rng, int64_t max_work) {
    pod_limits *limits = &made->limits;
    int32_t kind = rng_chance(rng, 60) ? 1 : rng_chance(rng, 50) ? 2 : 0;
    if (kind == 2) {
        limits->kv_heads = rng_range(rng, 1, 2);
        limits->q_heads = limits->kv_heads * rng_range(rng, 1, 3);
        limits->head_dim = 8 * rng_range(rng, 1, 4);
        if (limits->v_head_dim != 0) limits->v_head_dim = 8 * rng_range(rng, 1, 4);
    }
    int32_t v_head_dim = v_head_dim_of(limits), dim = limits->head_dim > v_head_dim ? limits->head_dim : v_head_dim;
    int32_t pairs = (int32_t)(max_work / ((int64_t)limits->q_heads * dim)) + 1; /* of tokens and keys */
    int32_t fewest = kind == 0 ? 1 : kind == 1 ? 50 : 20, most = kind == 2 ? 60 : 400;
    limits->max_q_tokens = fewest + rng_log_range(rng, 0, min32(most, pairs));
    int32_t longest = min32(pairs / limits->max_q_tokens + 1, 8000);
    int32_t token_elements = limits->kv_heads * dim;
    limits->max_kv_len = min32(rng_range(rng, 1 + longest / 2, longest), MAX_KV_ELEMENTS / token_elements);
    int32_t room = MAX_KV_ELEMENTS / token_elements / limits->max_kv_len;
    limits->max_requests = rng_range(rng, kind == 1 ? min32(room, 8) : 1, min32(room, 16));
}

static void make_limits(attention_case *made, test_rng *rng, int64_t max_work) {
    static const int32_t page_sizes[] = {1, 2, 3, 8, 16, 16, 32, 64, 100, 128, 256};
    pod_limits *limits = &made->limits;
    *limits = random_limits(rng, 1, 1, 1);
    if (rng_chance(rng, 60)) limits->head_dim = 8 << rng_range(rng, 0, 4);
    make_v_head_dim(limits, rng);
    if (rng_chance(rng, 50)) limits->kv_dtype = limits->out_dtype = limits->q_dtype;
    limits->max_masks = rng_chance(rng, 30) ? rng_range(rng, 2, POD_MAX_MASKS) : rng_range(rng, 0, 1);
    limits->right_windows = rng_chance(rng, 50); /* a CPU does not ask, but the masks do */
    make_shape(made, rng, max_work);
    limits->page_size = rng_chance(rng, 25) ? limits->max_kv_len : rng_pick(rng, page_sizes, 11);
}

/** A batch over a contiguous cache (page_size reaches every length) or a paged one. */
static int make_batch(attention_case *made, test_rng *rng) {
    if (!test_batch_alloc(&made->batch, &made->limits)) return 0;
    batch_mix mix = rng_chance(rng, 75) ? MIX_HYBRID : (batch_mix)rng_range(rng, 0, MIX_COUNT - 1);
    test_batch_fill(&made->batch, rng, &made->limits, mix);
    made->num_q_tokens = made->batch.q_start[made->batch.batch.num_requests];
    made->tensors.mask = rng_range(rng, 0, made->batch.batch.num_masks - 1);
    if (made->limits.page_size == made->limits.max_kv_len && rng_chance(rng, 80)) return 1;
    return test_batch_add_pages(&made->batch, rng, &made->limits);
}

static int make_q(attention_case *made, test_rng *rng) {
    pod_tensors *t = &made->tensors;
    int32_t heads = made->limits.q_heads, dim = made->limits.head_dim;
    int64_t span = random_strides(rng, made->num_q_tokens, heads, dim, &t->q_token_stride, &t->q_head_stride);
    void *q = alloc_elements(&made->q, span, rng_range(rng, 0, 3), pod_dtype_size(made->limits.q_dtype));
    if (q == NULL) return 0;
    for (int32_t token = 0; token < made->num_q_tokens; token++) {
        for (int32_t head = 0; head < heads; head++) {
            int64_t row = token * t->q_token_stride + head * t->q_head_stride;
            for (int32_t i = 0; i < dim; i++) pod__store(q, made->limits.q_dtype, row + i, rng_normal(rng));
        }
    }
    t->q = q;
    return 1;
}

/** Writes one key or value of `dim` elements of every KV head: numbers, or `poison` if it is not 0. */
static void fill_token(const attention_case *made, test_rng *rng, float poison, float spread, void *cache, int32_t dim,
                       int64_t row, int64_t head_stride) {
    for (int32_t head = 0; head < made->limits.kv_heads; head++) {
        for (int32_t i = 0; i < dim; i++) {
            float value = poison != 0 ? poison : spread * rng_normal(rng);
            pod__store(cache, made->limits.kv_dtype, row + head * head_stride + i, value);
        }
    }
}

void attention_case_set_key(const attention_case *made, test_rng *rng, int32_t request, int32_t key, float poison_k,
                            float poison_v) {
    const pod_batch *batch = &made->batch.batch;
    const pod_cache *t = &made->cache;
    int32_t page = request, slot = key % made->limits.page_size;
    if (batch->page_table != NULL) {
        page = batch->page_table[request * batch->page_table_stride + key / made->limits.page_size];
    }
    if (page < 0 || page >= batch->num_pages) return; /* a poisoned entry */
    fill_token(made, rng, poison_k, made->k_spread, t->k, made->limits.head_dim,
               page * t->k_page_stride + slot * t->k_token_stride, t->k_head_stride);
    if (t->v == NULL) return;
    fill_token(made, rng, poison_v, made->v_spread, t->v, v_head_dim_of(&made->limits),
               page * t->v_page_stride + slot * t->v_token_stride, t->v_head_stride);
}

/** Keys and values that some query sees under the case's mask. Those before are poisoned (e4m3 has no infinity); all
 * others stay NaN. */
static void fill_cache(attention_case *made, test_rng *rng) {
    static const float poison[] = {NAN, INFINITY, -INFINITY};
    int32_t last = made->limits.kv_dtype == POD_F8E4M3 ? 0 : 2;
    const pod_batch *batch = &made->batch.batch;
    for (int32_t r = 0; r < batch->num_requests; r++) {
        int32_t first = test_batch_first_key(&made->batch, r, made->tensors.mask);
        for (int32_t key = 0; key < batch->kv_len[r]; key++) {
            float k = key < first ? poison[rng_range(rng, 0, last)] : 0,
                  v = key < first ? poison[rng_range(rng, 0, last)] : 0;
            attention_case_set_key(made, rng, r, key, k, v);
        }
    }
}

/** Where scales are what makes small or large elements right: mostly subnormal e4m3, ordinary ones, some at the end. */
static float random_spread(test_rng *rng, pod_dtype dtype) {
    static const float spreads[] = {0x1p-7f, 1, 128};
    return dtype == POD_F8E4M3 ? spreads[rng_range(rng, 0, 2)] : 1;
}

static int make_cache(attention_case *made, test_rng *rng) {
    pod_cache *t = &made->cache;
    made->k_spread = random_spread(rng, made->limits.kv_dtype);
    made->v_spread = random_spread(rng, made->limits.kv_dtype);
    int32_t pages = made->batch.batch.num_pages, heads = made->limits.kv_heads, dim = made->limits.head_dim;
    int32_t v_dim = v_head_dim_of(&made->limits);
    size_t element_bytes = pod_dtype_size(made->limits.kv_dtype);
    int64_t k_page = random_strides(rng, made->limits.page_size, heads, dim, &t->k_token_stride, &t->k_head_stride);
    int32_t gap = rng_chance(rng, 50) ? 0 : rng_range(rng, 0, 50);
    void *k, *v = NULL;
    made->has_no_v = v_dim <= dim && rng_chance(rng, v_dim < dim ? 60 : 5);
    if (made->has_no_v) {
        t->k_page_stride = k_page + gap;
        k = alloc_elements(&made->k, pages * t->k_page_stride, rng_range(rng, 0, 3), element_bytes);
    } else if (v_dim <= dim && rng_chance(rng, 40)) { /* each page holds its keys, then its values */
        t->v_token_stride = t->k_token_stride;
        t->v_head_stride = t->k_head_stride;
        t->k_page_stride = t->v_page_stride = 2 * k_page + gap;
        k = alloc_elements(&made->k, pages * t->k_page_stride, rng_range(rng, 0, 3), element_bytes);
        v = k == NULL ? NULL : (char *)k + (size_t)k_page * element_bytes;
    } else {
        int64_t v_page =
            random_strides(rng, made->limits.page_size, heads, v_dim, &t->v_token_stride, &t->v_head_stride);
        t->k_page_stride = k_page + gap;
        t->v_page_stride = v_page + rng_range(rng, 0, gap);
        k = alloc_elements(&made->k, pages * t->k_page_stride, rng_range(rng, 0, 3), element_bytes);
        v = alloc_elements(&made->v, pages * t->v_page_stride, rng_range(rng, 0, 3), element_bytes);
    }
    if (k == NULL || (v == NULL && !made->has_no_v)) return 0;
    t->k = k;
    t->v = v;
    fill_cache(made, rng);
    return 1;
}

static int make_outputs(attention_case *made, test_rng *rng) {
    pod_tensors *t = &made->tensors;
    int32_t heads = made->limits.q_heads, dim = v_head_dim_of(&made->limits);
    int64_t span = random_strides(rng, made->num_q_tokens, heads, dim, &t->out_token_stride, &t->out_head_stride);
    t->out = alloc_elements(&made->out, span, rng_range(rng, 0, 3), pod_dtype_size(made->limits.out_dtype));
    span = random_strides(rng, made->num_q_tokens, heads, 1, &t->lse_token_stride, &t->lse_head_stride);
    float *lse = alloc_elements(&made->lse, span, rng_range(rng, 0, 3), sizeof(float));
    t->lse = rng_chance(rng, 80) ? lse : NULL;
    size_t rows = (size_t)made->num_q_tokens * (size_t)heads;
    made->expected_out = malloc((rows * (size_t)dim + 1) * sizeof(double));
    made->expected_lse = malloc((rows + 1) * sizeof(double));
    return t->out != NULL && lse != NULL && made->expected_out != NULL && made->expected_lse != NULL;
}

static int make_options(attention_case *made, test_rng *rng) {
    pod_tensors *t = &made->tensors;
    int32_t q_heads = made->limits.q_heads, kv_heads = made->limits.kv_heads;
    made->sinks = malloc(2 * (size_t)(q_heads + kv_heads) * sizeof(float));
    if (made->sinks == NULL) return 0;
    made->slopes = made->sinks + q_heads;
    made->k_scale = made->slopes + q_heads;
    made->v_scale = made->k_scale + kv_heads;
    for (int32_t h = 0; h < q_heads; h++) {
        made->sinks[h] = rng_chance(rng, 5) ? -INFINITY : 2 * rng_normal(rng);
        made->slopes[h] = 0.01f * rng_normal(rng);
    }
    for (int32_t h = 0; h < kv_heads; h++) {
        made->k_scale[h] = (0.25f + 0.125f * (float)rng_range(rng, 0, 12)) / made->k_spread;
        made->v_scale[h] = (0.25f + 0.125f * (float)rng_range(rng, 0, 12)) / made->v_spread;
    }
    if (rng_chance(rng, 30)) t->scale = 0.02f * (float)rng_range(rng, -20, 20);
    if (rng_chance(rng, 30)) t->softcap = (float)rng_range(rng, 1, 60);
    if (rng_chance(rng, 30)) t->sinks = made->sinks;
    if (rng_chance(rng, 20)) t->alibi_slopes = made->slopes;
    if (rng_chance(rng, 30)) {
        made->tree = test_batch_make_tree(&made->batch, rng);
        if (made->tree == NULL) return 0;
        t->tree_mask = made->tree;
    }
    if (rng_chance(rng, 20) || made->k_spread != 1) made->cache.k_scale = made->k_scale;
    if (!made->has_no_v && (rng_chance(rng, 20) || made->v_spread != 1)) made->cache.v_scale = made->v_scale;
    made->cache.scale_stride = rng_chance(rng, 70); /* otherwise one scale for all heads */
    return 1;
}

int attention_case_make(attention_case *made, test_rng *rng, int64_t max_work) {
    memset(made, 0, sizeof *made);
    made->tensors = pod_tensors_init();
    made->cache = pod_cache_init();
    make_limits(made, rng, max_work);
    return make_batch(made, rng) && make_q(made, rng) && make_cache(made, rng) && make_outputs(made, rng) &&
           make_options(made, rng);
}

void attention_case_free(attention_case *made) {
    test_batch_free(&made->batch);
    guarded_free(&made->q);
    guarded_free(&made->k);
    guarded_free(&made->v);
    guarded_free(&made->out);
    guarded_free(&made->lse);
    free(made->sinks);
    free(made->tree);
    free(made->expected_out);
    free(made->expected_lse);
}

void attention_case_poison(attention_case *made) {
    memset(made->out.data, NAN_BYTE, made->out.bytes);
    memset(made->lse.data, NAN_BYTE, made->lse.bytes);
}

static pod_status build_and_run(attention_case *made, pod_plan *plan) {
    pod_status status = pod_plan_build(plan, &made->batch.batch, NULL);
    if (status != POD_OK) return status;
    made->plan_info = pod_plan_info_init();
    status = pod_plan_get_info(plan, 0, &made->plan_info);
    if (status != POD_OK) return status;
    return pod_attention(plan, &made->tensors, &made->cache, NULL);
}

pod_status attention_case_run(attention_case *made, pod_device *device) {
    pod_plan *plan;
    test_workspace workspace;
    pod_status status = test_workspace_plan(device, &made->limits, NAN_BYTE, &workspace, &plan);
    if (status == POD_OK) status = build_and_run(made, plan);
    if (status == POD_OK && !test_workspace_intact(&workspace)) status = POD_E_WORKSPACE;
    test_workspace_free(&workspace);
    pod_plan_destroy(plan);
    return status;
}

pod_status attention_case_expect(attention_case *made) {
    return pod_reference_attention(&made->limits, &made->batch.batch, &made->tensors, &made->cache, -1,
                                   made->expected_out, made->expected_lse);
}

/** Squared distance of one row from the oracle's, and the row's own squared norm. */
static pod_distance compare_row(const attention_case *made, int32_t token, int32_t head) {
    const pod_tensors *t = &made->tensors;
    int32_t dim = v_head_dim_of(&made->limits);
    const double *expected = made->expected_out + ((int64_t)token * made->limits.q_heads + head) * dim;
    int64_t row = token * t->out_token_stride + head * t->out_head_stride;
    return pod__distance(t->out, made->limits.out_dtype, row, expected, dim);
}

/** Rows of elements that the dtype holds with fewer bits, or not at all, count as if they were its smallest normal. */
static double smallest_norm(const attention_case *made) {
    double element = made->limits.out_dtype == POD_F16 ? 0x1p-14 : 0x1p-126;
    return element * element * v_head_dim_of(&made->limits);
}

static double compare_lse(const attention_case *made, int32_t token, int32_t head) {
    const pod_tensors *t = &made->tensors;
    double expected = made->expected_lse[(int64_t)token * made->limits.q_heads + head];
    double value = (double)t->lse[token * t->lse_token_stride + head * t->lse_head_stride];
    return pod__lse_error(value, expected);
}

pod_errors attention_case_compare(const attention_case *made) {
    pod_errors errors = {0, 0, 0};
    pod_distance all = {0, 0};
    for (int32_t token = 0; token < made->num_q_tokens; token++) {
        for (int32_t head = 0; head < made->limits.q_heads; head++) {
            pod_distance row = compare_row(made, token, head);
            pod__distance_add(&all, row);
            errors.worst_row = pod__larger_error(errors.worst_row, pod__relative_error(row, smallest_norm(made)));
            if (made->tensors.lse == NULL) continue;
            errors.lse = pod__larger_error(errors.lse, compare_lse(made, token, head));
        }
    }
    errors.whole = pod__relative_error(all, smallest_norm(made));
    return errors;
}

pod_errors attention_case_bound(const attention_case *made) {
    pod_errors bound = pod__errors_allowed(made->limits.q_dtype);
    bound = pod__larger_errors(bound, pod__errors_allowed(made->limits.kv_dtype));
    return pod__larger_errors(bound, pod__errors_allowed(made->limits.out_dtype));
}

static int is_all_poison(const guarded *memory) {
    for (size_t i = 0; i < memory->bytes; i++) {
        if (memory->data[i] != NAN_BYTE) return 0;
    }
    return guarded_intact(memory);
}

int attention_case_gaps_intact(attention_case *made) {
    const pod_tensors *t = &made->tensors;
    size_t element_bytes = pod_dtype_size(made->limits.out_dtype);
    for (int32_t token = 0; token < made->num_q_tokens; token++) {
        for (int32_t head = 0; head < made->limits.q_heads; head++) {
            int64_t row = token * t->out_token_stride + head * t->out_head_stride;
            memset((char *)t->out + (size_t)row * element_bytes, NAN_BYTE,
                   (size_t)v_head_dim_of(&made->limits) * element_bytes);
            if (t->lse == NULL) continue;
            memset(&t->lse[token * t->lse_token_stride + head * t->lse_head_stride], NAN_BYTE, sizeof(float));
        }
    }
    return is_all_poison(&made->out) && is_all_poison(&made->lse);
}

void attention_case_describe(const attention_case *made, char *text, size_t size) {
    const pod_limits *l = &made->limits;
    const pod_batch *b = &made->batch.batch;
    const pod_mask *mask = &b->masks[made->tensors.mask];
    snprintf(text, size,
             "%d requests, %d tokens, %d/%d heads of %d and %d%s, %s/%s/%s, page %d%s, kv up to %d, mask %d of %d: "
             "causal %d%s, "
             "window %d, %d, "
             "scale %g, softcap %g%s%s%s%s%s",
             b->num_requests, made->num_q_tokens, l->q_heads, l->kv_heads, l->head_dim, v_head_dim_of(l),
             made->has_no_v ? " (values in k)" : "", pod_dtype_name(l->q_dtype), pod_dtype_name(l->kv_dtype),
             pod_dtype_name(l->out_dtype), l->page_size, b->page_table == NULL ? " contiguous" : "", l->max_kv_len,
             made->tensors.mask, b->num_masks, mask->causal, mask->causal_per_request ? " (per request)" : "",
             mask->window_tokens, mask->right_window_tokens, (double)made->tensors.scale, (double)made->tensors.softcap,
             made->tree ? ", tree" : "", made->tensors.sinks ? ", sinks" : "",
             made->tensors.alibi_slopes ? ", alibi" : "", made->cache.k_scale ? ", k_scale" : "",
             made->cache.v_scale ? ", v_scale" : "");
}
