/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle of every test: attention in double precision, straight from its definition, one query row at a time over
 * all of its keys. Shares nothing with the planner or the fast kernels but the reading of single elements. */
#include "oracle/oracle.h"

#include "base/bounds.h"
#include "base/dtype.h"
#include "base/pool.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>

enum {
    TICKET_KEYS = 64, /* that a thread takes at a time */
    TICKET_ROWS = 4
};
#define MIN_WORK 2e6 /* multiply-adds of a request and KV head that are worth a second thread */

typedef struct reference_job {
    const pod_oracle_job *given;
    float *keys, *values; /* one request and KV head, gathered: [kv_len][head_dim], [kv_len][v_head_dim] */
    pod_pool *pool;       /* whose scratch is the scores of a row: [kv_len] */
    int32_t num_threads;
    int32_t request, kv_head;
    int32_t next_key, next_row;
} reference_job;

/** What the keys or values of the KV head at hand are multiplied by. */
static double scale_of(const reference_job *job, const float *scales) {
    return scales != NULL ? (double)scales[job->kv_head * job->given->cache.scale_stride] : 1;
}

/** First key that the query at `position` of its context sees. */
static int32_t window_begin(const pod_mask *mask, int32_t position) {
    return mask->window_tokens > 0 && position >= mask->window_tokens ? position - mask->window_tokens + 1 : 0;
}

/** Whether a token's word of the tree mask hides a key that its mask shows: one of the step's own tokens. */
static int tree_hides(const reference_job *job, int32_t token, int32_t key) {
    const uint64_t *words = job->given->tensors.tree_mask;
    const int32_t *q_start = job->given->batch.q_start;
    int32_t request = job->request, q_len = q_start[request + 1] - q_start[request];
    int32_t bit = key - (job->given->batch.kv_len[request] - q_len);
    if (words == NULL || q_len > POD_MAX_TREE_TOKENS || bit < 0) return 0;
    return (words[q_start[request] + token] & UINT64_C(1) << bit) == 0;
}

/** Copies a key and its value out of their page; every dtype widens to float exactly. */
static void gather_key(const reference_job *job, int32_t key) {
    const pod_limits *limits = &job->given->limits;
    const pod_batch *batch = &job->given->batch;
    const pod_cache *c = &job->given->cache;
    int32_t page_size = limits->page_size, request = job->request, kv_head = job->kv_head;
    int64_t head_dim = limits->head_dim, v_head_dim = limits->v_head_dim;
    int64_t page = request, slot = key % page_size;
    if (batch->page_table != NULL) page = batch->page_table[request * batch->page_table_stride + key / page_size];
    int64_t k_row = page * c->k_page_stride + slot * c->k_token_stride + kv_head * c->k_head_stride;
    int64_t v_row = page * c->v_page_stride + slot * c->v_token_stride + kv_head * c->v_head_stride;
    for (int32_t i = 0; i < head_dim; i++) {
        job->keys[key * head_dim + i] = pod__load(c->k, limits->kv_dtype, k_row + i);
    }
    for (int32_t i = 0; i < v_head_dim; i++) {
        job->values[key * v_head_dim + i] = pod__load(c->v, limits->kv_dtype, v_row + i);
    }
}

static void gather(void *context, int32_t thread, void *scratch) {
    reference_job *job = context;
    int32_t begin, kv_len = job->given->batch.kv_len[job->request];
    (void)thread;
    (void)scratch;
    while ((begin = __atomic_fetch_add(&job->next_key, TICKET_KEYS, __ATOMIC_RELAXED)) < kv_len) {
        for (int32_t key = begin; key < kv_len && key < begin + TICKET_KEYS; key++) gather_key(job, key);
    }
}

static double dot(const double *a, const float *b, int32_t count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < count; i++) sum += a[i] * (double)b[i];
    return sum;
}

/** A score of -inf weighs nothing, beside others of -inf too; NaN and +inf make the sum NaN. */
static double weight_of(double score, double max) {
    return score == -INFINITY ? 0 : exp(score - max);
}

/** One query token and head against all keys that it sees. */
static void reference_row(const reference_job *job, int32_t token, int32_t head, double *scores) {
    const pod_tensors *t = &job->given->tensors;
    const pod_mask *mask = &job->given->mask;
    const pod_limits *limits = &job->given->limits;
    int32_t head_dim = limits->head_dim, v_head_dim = limits->v_head_dim, request = job->request;
    int32_t q_begin = job->given->batch.q_start[request], q_len = job->given->batch.q_start[request + 1] - q_begin;
    int32_t kv_len = job->given->batch.kv_len[request], position = kv_len - q_len + token;
    int is_causal = mask->causal_per_request != NULL ? mask->causal_per_request[request] : mask->causal;
    int32_t end = is_causal ? position + 1 : kv_len, begin = window_begin(mask, position);
    if (mask->right_window_tokens > 0 && end > position + mask->right_window_tokens) {
        end = position + mask->right_window_tokens;
    }

    double q[POD_MAX_HEAD_DIM], out[POD_MAX_HEAD_DIM] = {0};
    for (int32_t i = 0; i < head_dim; i++) {
        q[i] = (double)pod__load(t->q, limits->q_dtype,
                                 (q_begin + token) * t->q_token_stride + head * t->q_head_stride + i);
    }
    double k_scale = scale_of(job, job->given->cache.k_scale), v_scale = scale_of(job, job->given->cache.v_scale);
    double max = t->sinks != NULL ? (double)t->sinks[head] : -INFINITY;
    for (int32_t key = begin; key < end; key++) {
        if (tree_hides(job, token, key)) continue;
        double score = (double)t->scale * k_scale * dot(q, job->keys + (int64_t)key * head_dim, head_dim);
        if (t->softcap > 0) score = (double)t->softcap * tanh(score / (double)t->softcap);
        if (t->alibi_slopes != NULL) score += (double)t->alibi_slopes[head] * (key - position);
        scores[key] = score;
        if (score > max) max = score;
    }
    double sum = 0;
    if (t->sinks != NULL) sum = weight_of((double)t->sinks[head], max);
    if (t->sinks != NULL && t->sinks[head] == INFINITY) sum = 1; /* takes all */
    for (int32_t key = begin; key < end; key++) {
        if (tree_hides(job, token, key)) continue;
        double weight = weight_of(scores[key], max);
        const float *value = job->values + (int64_t)key * v_head_dim;
        sum += weight;
#pragma omp simd
        for (int32_t i = 0; i < v_head_dim; i++) out[i] += weight * (double)value[i];
    }
    int64_t row = (int64_t)(q_begin + token) * limits->q_heads + head;
    double factor = sum == 0 ? 0 : v_scale / sum;
    for (int32_t i = 0; i < v_head_dim; i++) job->given->out[row * v_head_dim + i] = out[i] * factor;
    if (job->given->lse != NULL) job->given->lse[row] = sum == 0 ? -INFINITY : max + log(sum);
}

static int32_t q_len_of(const reference_job *job, int32_t request) {
    return job->given->batch.q_start[request + 1] - job->given->batch.q_start[request];
}

static void reference_rows(void *context, int32_t thread, void *scratch) {
    reference_job *job = context;
    const pod_limits *limits = &job->given->limits;
    int32_t group = limits->q_heads / limits->kv_heads, begin, num_rows = q_len_of(job, job->request) * group;
    (void)thread;
    while ((begin = __atomic_fetch_add(&job->next_row, TICKET_ROWS, __ATOMIC_RELAXED)) < num_rows) {
        for (int32_t row = begin; row < num_rows && row < begin + TICKET_ROWS; row++) {
            reference_row(job, row / group, job->kv_head * group + row % group, scratch);
        }
    }
}

static pod_status reference_request(reference_job *job, int32_t request) {
    const pod_limits *limits = &job->given->limits;
    int32_t q_len = q_len_of(job, request), kv_len = job->given->batch.kv_len[request];
    int32_t group = limits->q_heads / limits->kv_heads;
    double work = 1.0 * q_len * group * kv_len * (limits->head_dim + limits->v_head_dim);
    int32_t num_threads = work > MIN_WORK ? job->num_threads : 1;
    if (q_len == 0) return POD_OK;
    job->request = request;
    for (job->kv_head = 0; job->kv_head < limits->kv_heads; job->kv_head++) {
        job->next_key = window_begin(&job->given->mask, kv_len - q_len);
        job->next_row = 0;
        POD_TRY(pod__pool_run(job->pool, num_threads, gather, job));
        POD_TRY(pod__pool_run(job->pool, num_threads, reference_rows, job));
    }
    return POD_OK;
}

pod_status pod__oracle(const pod_oracle_job *given, int32_t request) {
    const pod_batch *batch = &given->batch;
    int32_t begin = request < 0 ? 0 : request, end = request < 0 ? batch->num_requests : request + 1, longest = 1;
    for (int32_t r = begin; r < end; r++) longest = batch->kv_len[r] > longest ? batch->kv_len[r] : longest;
    size_t scratch_bytes = ((size_t)longest * sizeof(double) + 63) / 64 * 64;
    reference_job job = {.given = given, .num_threads = pod__pool_num_cores()};
    job.keys = malloc((size_t)longest * (size_t)given->limits.head_dim * sizeof(float));
    job.values = malloc((size_t)longest * (size_t)given->limits.v_head_dim * sizeof(float));
    pod_status status = pod__pool_create(job.num_threads, scratch_bytes, &job.pool);
    if (job.keys == NULL || job.values == NULL) {
        status = pod__fail(POD_E_NO_MEMORY, "no memory for the oracle's %d keys", longest);
    }
    for (int32_t r = begin; status == POD_OK && r < end; r++) status = reference_request(&job, r);
    pod__pool_destroy(job.pool);
    free(job.keys);
    free(job.values);
    return status;
}
