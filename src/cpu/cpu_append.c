/* SPDX-License-Identifier: Apache-2.0 */
/* Appending on the CPU: a token at a time, all of its heads. */
#include "base/dtype.h"
#include "cache/append_core.h"
#include "cpu/cpu_kernels.h"

enum {
    TICKET_TOKENS = 16, /* that a thread takes at a time */
    MIN_TOKENS = 64     /* more of them are worth a second thread */
};

/** Rows [heads] of one token. */
typedef struct token_rows {
    const char *from;
    char *to;
    int64_t from_step, to_step; /**< bytes from one head to the next */
    const float *scale;         /**< NULL: none */
} token_rows;

/** Whether the rows of a token's heads stay as they are, and follow one another here and there. */
static int is_one_piece(const token_rows *rows, const cpu_append_row *row) {
    int64_t row_bytes = row->dim * (int64_t)pod_dtype_size(row->from_dtype);
    return row->rotation == NULL && row->from_dtype == row->to_dtype && rows->scale == NULL &&
           rows->from_step == row_bytes && rows->to_step == row_bytes;
}

static void append_rows(const cpu_kernels *kernels, const token_rows *rows, int32_t heads, int64_t scale_stride,
                        cpu_append_row row) {
    if (is_one_piece(rows, &row)) {
        row.dim *= heads;
        heads = 1;
    }
    for (int32_t head = 0; head < heads; head++) {
        row.from = rows->from + head * rows->from_step;
        row.to = rows->to + head * rows->to_step;
        row.scale = rows->scale != NULL ? rows->scale[head * scale_stride] : 1.0f;
        kernels->append_row(&row);
    }
}

static void store_keys(const cpu_kernels *kernels, const pod_append_job *job, const pod_append_place *place,
                       int64_t token, const cpu_rotation *rotation) {
    const pod_append *a = &job->given;
    const pod_cache *c = &job->cache;
    int64_t bytes = (int64_t)pod_dtype_size(a->dtype), kv_bytes = (int64_t)pod_dtype_size(job->kv_dtype);
    const pod_cache_strides k_strides = {c->k_page_stride, c->k_token_stride, c->k_head_stride};
    const pod_cache_strides v_strides = {c->v_page_stride, c->v_token_stride, c->v_head_stride};
    const token_rows k = {(const char *)a->k + token * a->k_token_stride * bytes,
                          (char *)c->k + pod_core_cache_offset(&k_strides, place->page, place->slot, 0) * kv_bytes,
                          a->k_head_stride * bytes, c->k_head_stride * kv_bytes, c->k_scale};
    cpu_append_row row = {.from_dtype = a->dtype, .to_dtype = job->kv_dtype, .dim = job->head_dim};
    row.rotation = rotation;
    append_rows(kernels, &k, job->kv_heads, c->scale_stride, row);
    if (a->v == NULL) return;
    const token_rows v = {(const char *)a->v + token * a->v_token_stride * bytes,
                          (char *)c->v + pod_core_cache_offset(&v_strides, place->page, place->slot, 0) * kv_bytes,
                          a->v_head_stride * bytes, c->v_head_stride * kv_bytes, c->v_scale};
    row.rotation = NULL;
    row.dim = job->v_head_dim;
    append_rows(kernels, &v, job->kv_heads, c->scale_stride, row);
}

static void write_queries(const cpu_kernels *kernels, const pod_append_job *job, int64_t token,
                          const cpu_rotation *rotation) {
    const pod_append *a = &job->given;
    int64_t bytes = (int64_t)pod_dtype_size(a->dtype), q_bytes = (int64_t)pod_dtype_size(job->q_dtype);
    const token_rows q = {(const char *)a->q + token * a->q_token_stride * bytes,
                          (char *)a->q_out + token * a->q_out_token_stride * q_bytes, a->q_head_stride * bytes,
                          a->q_out_head_stride * q_bytes, NULL};
    cpu_append_row row = {.from_dtype = a->dtype, .to_dtype = job->q_dtype, .dim = job->head_dim};
    row.rotation = rotation;
    append_rows(kernels, &q, job->q_heads, 0, row);
}

static void find_rotation(const cpu_kernels *kernels, const pod_append_job *job, int64_t position,
                          cpu_rotation *rotation) {
    const pod_rope *rope = &job->rope;
    rotation->style = rope->style;
    rotation->num_pairs = rope->rotary_dim / 2;
    if (rope->cos == NULL) {
        kernels->rotation(&job->turns, position, rotation);
        return;
    }
    for (int32_t j = 0; j < rotation->num_pairs; j++) {
        int64_t at = position * rope->table_stride + j;
        rotation->cos[j] = pod__load(rope->cos, rope->table_dtype, at);
        rotation->sin[j] = pod__load(rope->sin, rope->table_dtype, at);
    }
}

static void append_token(const cpu_kernels *kernels, const pod_append_job *job, int32_t r, int32_t token) {
    cpu_rotation rotation, *used = NULL;
    pod_append_place place = pod_append_core_place(job, r, token);
    int has_q = job->given.q != NULL && place.has_position;
    if (!place.is_stored && !has_q) return;
    if (job->given.rope != NULL) {
        find_rotation(kernels, job, place.position, &rotation);
        used = &rotation;
    }
    if (place.is_stored) store_keys(kernels, job, &place, token, used);
    if (has_q) write_queries(kernels, job, token, used);
}

/** The request that owns the token, -1 if none does; `guess` is the one before it. */
static int32_t find_request(const pod_append_job *job, int32_t token, int32_t guess) {
    for (int32_t i = 0; i < job->num_requests; i++) {
        int32_t r = guess + i < job->num_requests ? guess + i : guess + i - job->num_requests;
        if (pod_append_core_owns(job, r, token)) return r;
    }
    return -1;
}

typedef struct append_team {
    const cpu_kernels *kernels;
    const pod_append_job *job;
    int32_t next_token;
} append_team;

static void append_tokens(void *context, int32_t thread, void *scratch) {
    append_team *team = context;
    const pod_append_job *job = team->job;
    int32_t begin, num_tokens = job->given.num_tokens, request = 0;
    (void)thread;
    (void)scratch;
    while ((begin = __atomic_fetch_add(&team->next_token, TICKET_TOKENS, __ATOMIC_RELAXED)) < num_tokens) {
        int32_t end = num_tokens - begin < TICKET_TOKENS ? num_tokens : begin + TICKET_TOKENS;
        for (int32_t token = begin; token < end; token++) {
            int32_t r = job->requests != NULL ? find_request(job, token, request) : -1;
            if (r >= 0) request = r;
            append_token(team->kernels, job, r, token);
        }
    }
}

pod_status pod__cpu_append(const cpu_device *cpu, const pod_append_job *job) {
    append_team team = {cpu->kernels, job, 0};
    int32_t num_threads = job->given.num_tokens > MIN_TOKENS ? cpu->num_threads : 1;
    return pod__pool_run(cpu->pool, num_threads, append_tokens, &team);
}
