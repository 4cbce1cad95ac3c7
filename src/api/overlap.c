/* SPDX-License-Identifier: Apache-2.0 */
/* Outputs that overlap themselves, one another or what is read. Arrays with gaps may lie within each other's, as a
 * layer's q and out within one larger tensor; so only what overlaps for certain is refused. */
#include "api/overlap.h"

#include "api/take_append.h"
#include "base/status.h"

#include <stdio.h>

/** The bytes from an array's first element to its last. */
typedef struct span {
    const char *field;
    uintptr_t begin, end; /**< the same: there are none */
    int is_dense;         /**< every byte is an element's */
} span;

/** An array of rows: [tokens, heads, row_elements]. */
static span rows_span(const char *field, const void *memory, size_t element_bytes, int64_t tokens, int64_t token_stride,
                      int64_t heads, int64_t head_stride, int64_t row_elements) {
    span made = {field, (uintptr_t)memory, (uintptr_t)memory, 0};
    if (memory == NULL || tokens == 0) return made;
    int64_t reach = (tokens - 1) * token_stride + (heads - 1) * head_stride + row_elements;
    made.end += (uintptr_t)reach * element_bytes;
    made.is_dense = reach == tokens * heads * row_elements;
    return made;
}

static span dense_span(const char *field, const void *memory, size_t bytes) {
    span made = {field, (uintptr_t)memory, (uintptr_t)memory + (memory != NULL ? bytes : 0), 1};
    return made;
}

static span cache_span(const char *field, const void *memory, const pod_limits *limits, int64_t num_pages,
                       int64_t page_stride, int64_t token_stride, int64_t head_stride, int64_t dim) {
    int64_t heads = limits->kv_heads, tokens = limits->page_size;
    if (num_pages == 0) return dense_span(field, NULL, 0);
    int64_t reach = (num_pages - 1) * page_stride + (tokens - 1) * token_stride + (heads - 1) * head_stride + dim;
    span made = {field, (uintptr_t)memory, (uintptr_t)memory, 0};
    made.end += (uintptr_t)reach * pod_dtype_size(limits->kv_dtype);
    made.is_dense = reach == num_pages * tokens * heads * dim;
    return made;
}

/** Of the rows that a request has in a page table. */
static int64_t table_entries(const pod_batch *batch) {
    if (batch->num_requests == 0) return 0;
    return (batch->num_requests - 1) * batch->page_table_stride + batch->max_pages;
}

/** Whether both have an element at some byte, for certain. */
static int overlap(const span *a, const span *b) {
    if (a->begin == a->end || b->begin == b->end || a->begin >= b->end || b->begin >= a->end) return 0;
    if (a->begin == b->begin) return 1;
    /* An end of one is between the other's, which has no gap there. */
    int a_holds = b->begin >= a->begin || b->end <= a->end, b_holds = a->begin >= b->begin || a->end <= b->end;
    return (a->is_dense && a_holds) || (b->is_dense && b_holds);
}

static pod_status check_apart(const span *output, const span *other) {
    if (!overlap(output, other)) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s overlaps %s", output->field, other->field);
}

/** Rows lie apart if one of the two strides steps over all that the other reaches. */
static pod_status check_rows(const char *field, int64_t tokens, int64_t token_stride, int64_t heads,
                             int64_t head_stride, int64_t row_elements) {
    int64_t of_token = (heads - 1) * head_stride + row_elements;
    int64_t of_head = (tokens - 1) * token_stride + row_elements;
    int heads_apart = heads == 1 || head_stride >= row_elements, tokens_apart = tokens <= 1;
    if (tokens == 0) return POD_OK;
    if (heads_apart && (tokens_apart || token_stride >= of_token)) return POD_OK;
    if (!tokens_apart && token_stride >= row_elements && head_stride >= of_head) return POD_OK;
    return pod__fail(POD_E_ARGUMENT,
                     "%s overlaps itself: %s_token_stride = %lld and %s_head_stride = %lld with %lld tokens and %lld "
                     "heads",
                     field, field, (long long)token_stride, field, (long long)head_stride, (long long)tokens,
                     (long long)heads);
}

/** Tokens that an array has for certain. Where lengths are known to the GPU alone, a batch that does not tell its
 * num_q_tokens may have any number. */
static int64_t sure_tokens(const pod_limits *limits, const pod_batch *batch, int32_t told) {
    int is_known = batch->memory == POD_MEMORY_HOST || batch->num_q_tokens < limits->max_q_tokens;
    if (is_known) return batch->num_q_tokens;
    return told < batch->num_q_tokens ? told : batch->num_q_tokens;
}

pod_status pod__check_overlaps(const pod_plan *plan, const pod_tensors *t, const pod_cache *c) {
    const pod_limits *limits = &plan->limits;
    const pod_batch *batch = &plan->batch;
    int64_t heads = limits->q_heads, dim = limits->head_dim, v_dim = limits->v_head_dim;
    int64_t q_tokens = sure_tokens(limits, batch, t->q_tokens), tokens = sure_tokens(limits, batch, t->out_tokens);
    size_t head_bytes = (size_t)heads * sizeof(float);
    const span out = rows_span("out", t->out, pod_dtype_size(limits->out_dtype), tokens, t->out_token_stride, heads,
                               t->out_head_stride, v_dim);
    const span lse = rows_span("lse", t->lse, sizeof(float), tokens, t->lse_token_stride, heads, t->lse_head_stride, 1);
    const span read[] = {
        rows_span("q", t->q, pod_dtype_size(limits->q_dtype), q_tokens, t->q_token_stride, heads, t->q_head_stride,
                  dim),
        cache_span("k", c->k, limits, batch->num_pages, c->k_page_stride, c->k_token_stride, c->k_head_stride, dim),
        cache_span("v", c->v, limits, batch->num_pages, c->v_page_stride, c->v_token_stride, c->v_head_stride, v_dim),
        dense_span("sinks", t->sinks, head_bytes),
        dense_span("alibi_slopes", t->alibi_slopes, head_bytes),
        dense_span("tree_mask", t->tree_mask, (size_t)q_tokens * sizeof(uint64_t)),
        dense_span("workspace.plan", plan->workspace.plan, plan->layout.plan_bytes),
        dense_span("workspace.scratch", plan->workspace.scratch, plan->layout.scratch_bytes),
    };
    POD_TRY(check_rows("out", tokens, t->out_token_stride, heads, t->out_head_stride, v_dim));
    if (t->lse != NULL) POD_TRY(check_rows("lse", tokens, t->lse_token_stride, heads, t->lse_head_stride, 1));
    for (size_t i = 0; i < sizeof read / sizeof read[0]; i++) {
        POD_TRY(check_apart(&out, &read[i]));
        POD_TRY(check_apart(&lse, &read[i]));
    }
    return check_apart(&out, &lse);
}

/** The same rows at the same places: each is read before it is written. */
static int is_in_place(const pod_parts *p, int32_t part) {
    return p->out == p->part_outs[part] && p->out_dtype == p->part_dtype &&
           p->out_token_stride == p->part_token_stride && p->out_head_stride == p->part_head_stride;
}

static int is_lse_in_place(const pod_parts *p, int32_t part) {
    return p->lse == p->part_lses[part] && p->lse_token_stride == p->part_lse_token_stride &&
           p->lse_head_stride == p->part_lse_head_stride;
}

pod_status pod__check_merge_overlaps(const pod_parts *p) {
    int64_t tokens = p->num_tokens, heads = p->q_heads, dim = p->head_dim;
    size_t part_bytes = pod_dtype_size(p->part_dtype);
    const span out = rows_span("out", p->out, pod_dtype_size(p->out_dtype), tokens, p->out_token_stride, heads,
                               p->out_head_stride, dim);
    const span lse = rows_span("lse", p->lse, sizeof(float), tokens, p->lse_token_stride, heads, p->lse_head_stride, 1);
    POD_TRY(check_rows("out", tokens, p->out_token_stride, heads, p->out_head_stride, dim));
    if (p->lse != NULL) POD_TRY(check_rows("lse", tokens, p->lse_token_stride, heads, p->lse_head_stride, 1));
    for (int32_t i = 0; i < p->num_parts; i++) {
        char out_field[32], lse_field[32];
        snprintf(out_field, sizeof out_field, "part_outs[%d]", i);
        snprintf(lse_field, sizeof lse_field, "part_lses[%d]", i);
        const span part_out = rows_span(out_field, p->part_outs[i], part_bytes, tokens, p->part_token_stride, heads,
                                        p->part_head_stride, dim);
        const span part_lse = rows_span(lse_field, p->part_lses[i], sizeof(float), tokens, p->part_lse_token_stride,
                                        heads, p->part_lse_head_stride, 1);
        if (!is_in_place(p, i)) POD_TRY(check_apart(&out, &part_out));
        if (!is_lse_in_place(p, i)) POD_TRY(check_apart(&lse, &part_lse));
        POD_TRY(check_apart(&out, &part_lse));
        POD_TRY(check_apart(&lse, &part_out));
    }
    return check_apart(&out, &lse);
}

/** The same rows at the same places. */
static int is_q_in_place(const pod_append_job *job) {
    const pod_append *a = &job->given;
    return a->q_out == a->q && a->dtype == job->q_dtype && a->q_token_stride == a->q_out_token_stride &&
           a->q_head_stride == a->q_out_head_stride;
}

pod_status pod__check_append_overlaps(const pod_plan *plan, const pod_append_job *job) {
    const pod_limits *limits = &plan->limits;
    const pod_append *a = &job->given;
    const pod_cache *c = &job->cache;
    int needs_batch = pod__append_needs_batch(a);
    const pod_batch none = {0}, *batch = needs_batch ? &plan->batch : &none;
    int64_t tokens = needs_batch ? sure_tokens(limits, batch, job->told_tokens) : a->num_tokens;
    int64_t heads = limits->kv_heads, dim = limits->head_dim, v_dim = limits->v_head_dim;
    size_t bytes = pod_dtype_size(a->dtype), words = sizeof(int32_t);
    int64_t pages = a->k != NULL ? job->num_pages : 0;
    const span written[] = {
        cache_span("k", c->k, limits, pages, c->k_page_stride, c->k_token_stride, c->k_head_stride, dim),
        cache_span("v", a->v != NULL ? c->v : NULL, limits, pages, c->v_page_stride, c->v_token_stride,
                   c->v_head_stride, v_dim),
        rows_span("append.q_out", a->q_out, pod_dtype_size(limits->q_dtype), tokens, a->q_out_token_stride,
                  limits->q_heads, a->q_out_head_stride, dim),
        dense_span("append.bad_token", a->bad_token, words),
    };
    const span read[] = {
        rows_span("append.k", a->k, bytes, tokens, a->k_token_stride, heads, a->k_head_stride, dim),
        rows_span("append.v", a->v, bytes, tokens, a->v_token_stride, heads, a->v_head_stride, v_dim),
        rows_span("append.q", is_q_in_place(job) ? NULL : a->q, bytes, tokens, a->q_token_stride, limits->q_heads,
                  a->q_head_stride, dim),
        dense_span("append.slot_mapping", a->slot_mapping, (size_t)tokens * sizeof(int64_t)),
        dense_span("append.positions", a->positions, (size_t)tokens * (size_t)a->position_bytes),
        dense_span("append.left_pad", a->left_pad, (size_t)batch->num_requests * words),
        rows_span("rope.cos", job->rope.cos, pod_dtype_size(job->rope.table_dtype), job->rope.table_positions,
                  job->rope.table_stride, 1, 0, job->rope.rotary_dim / 2),
        rows_span("rope.sin", job->rope.sin, pod_dtype_size(job->rope.table_dtype), job->rope.table_positions,
                  job->rope.table_stride, 1, 0, job->rope.rotary_dim / 2),
        rows_span("k_scale", c->k_scale, sizeof(float), heads, c->scale_stride, 1, 0, 1),
        rows_span("v_scale", c->v_scale, sizeof(float), heads, c->scale_stride, 1, 0, 1),
        dense_span("page_table", job->page_table, (size_t)table_entries(batch) * words),
        dense_span("workspace.plan", plan->workspace.plan, plan->is_attached ? plan->layout.plan_bytes : 0),
    };
    const size_t num_written = sizeof written / sizeof written[0];
    if (a->q_out != NULL) {
        POD_TRY(check_rows("append.q_out", tokens, a->q_out_token_stride, limits->q_heads, a->q_out_head_stride, dim));
    }
    for (size_t w = 0; w < num_written; w++) {
        for (size_t i = 0; i < sizeof read / sizeof read[0]; i++) POD_TRY(check_apart(&written[w], &read[i]));
        for (size_t other = 0; other < w; other++) POD_TRY(check_apart(&written[w], &written[other]));
    }
    return POD_OK;
}
