/* SPDX-License-Identifier: Apache-2.0 */
#include "api/take_append.h"

#include "api/checks.h"
#include "api/structs.h"
#include "api/validate.h"
#include "cache/append_core.h"

#include <math.h>

enum { MAX_ROTARY_DIM = 2 * POD_ROPE_MAX_PAIRS };
#define MAX_NUMBER 1e9 /* of factors and the like: far beyond any model's */

/* ---- rope ---- */

static pod_status check_number(const char *field, double value, double low, double high) {
    if (value >= low && value <= high) return POD_OK; /* a NaN is not */
    return pod__fail(POD_E_ARGUMENT, "%s = %g is outside [%g, %g]", field, value, low, high);
}

static pod_status take_tables(pod_rope *rope) {
    size_t bytes = pod_dtype_size(rope->table_dtype);
    POD_TRY(check_computed_dtype("rope.table_dtype", rope->table_dtype));
    POD_TRY(check_pointer("rope.cos", rope->cos, bytes));
    POD_TRY(check_pointer("rope.sin", rope->sin, bytes));
    POD_TRY(check_range("rope.table_positions", rope->table_positions, 1, INT32_MAX));
    if (rope->base != 0) return pod__fail(POD_E_ARGUMENT, "rope.base = %g beside tables", rope->base);
    if (rope->scaling != POD_ROPE_UNSCALED) {
        return pod__fail(POD_E_ARGUMENT, "rope.scaling = %d beside tables", (int)rope->scaling);
    }
    return fill_stride("rope.table_stride", &rope->table_stride, rope->rotary_dim / 2, rope->table_positions, bytes);
}

static pod_status take_llama3(pod_rope *rope) {
    if (rope->low_freq_factor == 0) rope->low_freq_factor = 1;
    if (rope->high_freq_factor == 0) rope->high_freq_factor = 4;
    POD_TRY(check_number("rope.low_freq_factor", rope->low_freq_factor, 1e-9, MAX_NUMBER));
    POD_TRY(check_number("rope.high_freq_factor", rope->high_freq_factor, 1e-9, MAX_NUMBER));
    if (rope->high_freq_factor > rope->low_freq_factor) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "rope.high_freq_factor = %g is not larger than rope.low_freq_factor = %g",
                     rope->high_freq_factor, rope->low_freq_factor);
}

static pod_status take_yarn(pod_rope *rope) {
    if (rope->beta_fast == 0) rope->beta_fast = 32;
    if (rope->beta_slow == 0) rope->beta_slow = 1;
    if (rope->attention_factor == 0) rope->attention_factor = rope->factor > 1 ? 0.1 * log(rope->factor) + 1 : 1;
    POD_TRY(check_number("rope.beta_fast", rope->beta_fast, 1e-9, MAX_NUMBER));
    POD_TRY(check_number("rope.beta_slow", rope->beta_slow, 1e-9, MAX_NUMBER));
    POD_TRY(check_number("rope.attention_factor", rope->attention_factor, 1e-9, MAX_NUMBER));
    POD_TRY(check_range("rope.yarn_is_exact", rope->yarn_is_exact, 0, 1));
    if (rope->base == 1) return pod__fail(POD_E_ARGUMENT, "rope.base = 1 is not larger than 1, as yarn needs");
    if (rope->beta_fast >= rope->beta_slow) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "rope.beta_fast = %g is smaller than rope.beta_slow = %g", rope->beta_fast,
                     rope->beta_slow);
}

static pod_status take_frequencies(pod_rope *rope) {
    if (rope->base == 0) rope->base = 10000;
    POD_TRY(check_number("rope.base", rope->base, 1, 1e30));
    POD_TRY(check_range("rope.scaling", (int64_t)rope->scaling, POD_ROPE_UNSCALED, POD_ROPE_YARN));
    if (rope->scaling == POD_ROPE_UNSCALED) return POD_OK;
    POD_TRY(check_number("rope.factor", rope->factor, 1e-9, MAX_NUMBER));
    if (rope->scaling == POD_ROPE_LINEAR) return POD_OK;
    POD_TRY(check_range("rope.original_context", rope->original_context, 1, INT32_MAX));
    return rope->scaling == POD_ROPE_LLAMA3 ? take_llama3(rope) : take_yarn(rope);
}

static pod_status take_rope(const pod_rope *given, int32_t head_dim, pod_append_job *job) {
    pod_rope *rope = &job->rope;
    POD_TRY(pod__take_struct(&pod__rope_layouts, given, rope));
    POD_TRY(check_range("rope.style", (int64_t)rope->style, POD_ROPE_HALVES, POD_ROPE_PAIRS));
    if (rope->rotary_dim == 0) rope->rotary_dim = head_dim;
    int32_t most = head_dim < MAX_ROTARY_DIM ? head_dim : MAX_ROTARY_DIM;
    POD_TRY(check_range("rope.rotary_dim", rope->rotary_dim, 2, most));
    if (rope->rotary_dim % 2 != 0) {
        return pod__fail(POD_E_ARGUMENT, "rope.rotary_dim = %d is not even", rope->rotary_dim);
    }
    if (rope->cos != NULL || rope->sin != NULL) return take_tables(rope);
    POD_TRY(take_frequencies(rope));
    job->turns = pod__rope_turns(rope);
    return POD_OK;
}

/* ---- tensors ---- */

int pod__append_needs_batch(const pod_append *append) {
    int needs_places = append->k != NULL && append->slot_mapping == NULL;
    return needs_places || (append->rope != NULL && append->positions == NULL);
}

static pod_status take_keys(const pod_limits *limits, pod_append *a) {
    int64_t heads = limits->kv_heads, tokens = a->num_tokens;
    size_t bytes = pod_dtype_size(a->dtype);
    if (a->k == NULL && a->v == NULL && a->q != NULL) {
        if (a->slot_mapping == NULL) return POD_OK;
        return pod__fail(POD_E_ARGUMENT, "append.slot_mapping places nothing: append.k is NULL");
    }
    POD_TRY(check_pointer("append.k", a->k, bytes));
    POD_TRY(check_optional("append.v", a->v, bytes));
    POD_TRY(fill_stride("append.k_head_stride", &a->k_head_stride, limits->head_dim, heads, bytes));
    POD_TRY(fill_stride("append.k_token_stride", &a->k_token_stride, heads * limits->head_dim, tokens, bytes));
    POD_TRY(fill_stride("append.v_head_stride", &a->v_head_stride, limits->v_head_dim, heads, bytes));
    return fill_stride("append.v_token_stride", &a->v_token_stride, heads * limits->v_head_dim, tokens, bytes);
}

static pod_status take_queries(const pod_limits *limits, pod_append *a) {
    int64_t heads = limits->q_heads, dim = limits->head_dim, tokens = a->num_tokens;
    size_t bytes = pod_dtype_size(a->dtype), out_bytes = pod_dtype_size(limits->q_dtype);
    if (a->q == NULL) {
        return a->q_out == NULL ? POD_OK : pod__fail(POD_E_ARGUMENT, "append.q is NULL, but append.q_out is not");
    }
    if (limits->q_dtype == POD_F8E4M3) {
        return pod__fail(POD_E_UNSUPPORTED, "append.q_out of q_dtype f8e4m3 is not supported");
    }
    POD_TRY(check_pointer("append.q", a->q, bytes));
    POD_TRY(check_pointer("append.q_out", a->q_out, out_bytes));
    POD_TRY(fill_stride("append.q_head_stride", &a->q_head_stride, dim, heads, bytes));
    POD_TRY(fill_stride("append.q_token_stride", &a->q_token_stride, heads * dim, tokens, bytes));
    POD_TRY(fill_stride("append.q_out_head_stride", &a->q_out_head_stride, dim, heads, out_bytes));
    return fill_stride("append.q_out_token_stride", &a->q_out_token_stride, heads * dim, tokens, out_bytes);
}

/** A cache without V is given no values, and any other needs them. */
static pod_status take_cache(const pod_limits *limits, const pod_cache *given, pod_append_job *job) {
    const pod_append *a = &job->given;
    POD_TRY(pod__take_cache(limits, job->num_pages, given, &job->cache));
    if ((given->v != NULL) == (a->v != NULL)) return POD_OK;
    return a->v == NULL ? pod__fail(POD_E_ARGUMENT, "append.v is NULL, but the cache has a v")
                        : pod__fail(POD_E_ARGUMENT, "append.v is given, but the cache's v is NULL: it has keys alone");
}

/** How many tokens there are, with the planned batch's in view. */
static pod_status take_tokens(const pod_batch *batch, pod_append *a) {
    POD_TRY(check_range("append.num_tokens", a->num_tokens, 0, 1 << 30));
    if (!pod__append_needs_batch(a)) return POD_OK;
    if (batch == NULL) return pod__fail(POD_E_STATE, "pod_plan_build() has not succeeded on this plan yet");
    if (a->num_tokens == 0) a->num_tokens = batch->num_q_tokens;
    if (a->num_tokens >= batch->num_q_tokens) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "append.num_tokens = %d is smaller than the %d query tokens of the batch",
                     a->num_tokens, batch->num_q_tokens);
}

static pod_status take_pages(const pod_batch *batch, const pod_append *a, int32_t *num_pages) {
    *num_pages = a->num_pages;
    if (a->num_pages < 0) return pod__fail(POD_E_ARGUMENT, "append.num_pages = %d is negative", a->num_pages);
    if (a->k == NULL) return POD_OK;
    if (a->slot_mapping == NULL && a->num_pages != 0 && a->num_pages != batch->num_pages) {
        return pod__fail(POD_E_ARGUMENT, "append.num_pages = %d is not the planned batch's, %d", a->num_pages,
                         batch->num_pages);
    }
    if (a->num_pages != 0) return POD_OK;
    if (batch == NULL) return pod__fail(POD_E_ARGUMENT, "append.num_pages = 0 without a planned batch");
    *num_pages = batch->num_pages;
    return POD_OK;
}

static pod_status take_positions(pod_append *a) {
    if (a->position_bytes == 0) a->position_bytes = 8;
    if (a->position_bytes != 4 && a->position_bytes != 8) {
        return pod__fail(POD_E_ARGUMENT, "append.position_bytes = %d is neither 4 nor 8", a->position_bytes);
    }
    POD_TRY(check_optional("append.positions", a->positions, (size_t)a->position_bytes));
    POD_TRY(check_optional("append.left_pad", a->left_pad, sizeof(int32_t)));
    POD_TRY(check_optional("append.bad_token", a->bad_token, sizeof(int32_t)));
    if (a->left_pad == NULL || (a->positions == NULL && a->rope != NULL)) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "append.left_pad shifts nothing %s",
                     a->rope == NULL ? "without append.rope" : "beside append.positions");
}

pod_status pod__take_append(const pod_limits *limits, const pod_batch *batch, const pod_append *append,
                            const pod_cache *cache, pod_append_job *job) {
    pod_append *a = &job->given;
    POD_TRY(pod__take_struct(&pod__append_layouts, append, a));
    POD_TRY(check_computed_dtype("append.dtype", a->dtype));
    POD_TRY(check_optional("append.slot_mapping", a->slot_mapping, sizeof(int64_t)));
    POD_TRY(take_positions(a));
    job->told_tokens = a->num_tokens;
    POD_TRY(take_tokens(batch, a));
    POD_TRY(take_keys(limits, a));
    POD_TRY(take_pages(batch, a, &job->num_pages));
    POD_TRY(take_queries(limits, a));
    if (a->rope != NULL) POD_TRY(take_rope(a->rope, limits->head_dim, job));
    if (a->k != NULL) POD_TRY(take_cache(limits, cache, job));
    job->q_dtype = limits->q_dtype;
    job->kv_dtype = limits->kv_dtype;
    job->q_heads = limits->q_heads;
    job->kv_heads = limits->kv_heads;
    job->head_dim = limits->head_dim;
    job->v_head_dim = limits->v_head_dim;
    job->page_size = limits->page_size;
    job->page_shift = pod_core_page_shift(limits->page_size);
    if (!pod__append_needs_batch(a)) return POD_OK;
    job->num_requests = batch->num_requests;
    job->page_table = batch->page_table;
    job->page_table_stride = batch->page_table_stride;
    return POD_OK;
}

/* ---- tokens ---- */

/** Says what is wrong with a token that has no place. */
static pod_status refuse_token(const pod_append_job *job, int32_t r, int32_t token) {
    const pod_append *a = &job->given;
    if (r >= 0 && a->left_pad != NULL && a->left_pad[r] < 0) {
        return pod__fail(POD_E_ARGUMENT, "append.left_pad[%d] = %d is negative", r, a->left_pad[r]);
    }
    if (r >= 0 && job->requests[r].kv_len < job->requests[r].q_len) {
        return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is smaller than q_len[%d] = %d: its tokens have no place", r,
                         job->requests[r].kv_len, r, job->requests[r].q_len);
    }
    if (a->slot_mapping != NULL && a->slot_mapping[token] >= (int64_t)job->num_pages * job->page_size) {
        return pod__fail(POD_E_ARGUMENT, "append.slot_mapping[%d] = %lld is outside the %d pages of %d tokens", token,
                         (long long)a->slot_mapping[token], job->num_pages, job->page_size);
    }
    int64_t end = job->rope.cos != NULL ? job->rope.table_positions : INT64_C(1) << 31;
    if (a->rope != NULL && a->positions != NULL) {
        return pod__fail(POD_E_ARGUMENT, "append.positions[%d] = %lld is outside [0, %lld)", token,
                         (long long)pod_append_core_position(a, token), (long long)end);
    }
    if (job->requests == NULL) return pod__fail(POD_E_ARGUMENT, "token %d has no place", token); /* there is no other */
    int32_t in_context = job->requests[r].kv_len - job->requests[r].q_len + token - job->requests[r].q_begin;
    int32_t page_idx = in_context / job->page_size, page = r;
    if (job->page_table != NULL) page = job->page_table[r * job->page_table_stride + page_idx];
    if (a->k != NULL && a->slot_mapping == NULL && !pod_core_is_page(page, job->num_pages)) {
        return pod__fail(POD_E_ARGUMENT, "page_table[%d][%d] = %d is outside [0, %d)", r, page_idx, page,
                         job->num_pages);
    }
    return pod__fail(POD_E_ARGUMENT, "rope.table_positions = %d is too few for token %d, at position %d of request %d",
                     job->rope.table_positions, token, in_context - (a->left_pad != NULL ? a->left_pad[r] : 0), r);
}

static pod_status check_token(const pod_append_job *job, int32_t r, int32_t token) {
    return pod_append_core_place(job, r, token).is_bad ? refuse_token(job, r, token) : POD_OK;
}

pod_status pod__check_append_tokens(const pod_append_job *job) {
    if (job->requests == NULL) {
        for (int32_t t = 0; t < job->given.num_tokens; t++) POD_TRY(check_token(job, -1, t));
        return POD_OK;
    }
    for (int32_t r = 0; r < job->num_requests; r++) {
        pod_request request = job->requests[r];
        for (int32_t t = 0; t < request.q_len; t++) POD_TRY(check_token(job, r, request.q_begin + t));
    }
    return POD_OK;
}
