/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle of every test: attention in double precision, straight from its definition, one query row at a time over
 * all of its keys. Shares nothing with the planner or the fast kernels but the reading of single elements. */
#include "oracle/oracle.h"

#include "base/dtype.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

typedef struct reference_job {
    const pod_oracle_job *given;
    float *keys, *values; /* one request and KV head, gathered: [kv_len][head_dim] */
    double *scores;       /* [threads][kv_len] */
    int32_t max_kv_len;   /* of the batch */
} reference_job;

static int thread_index(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static int thread_count(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

/** First key that the query at `position` of its context sees. */
static int32_t window_begin(const pod_mask *mask, int32_t position) {
    return mask->window_tokens > 0 && position >= mask->window_tokens ? position - mask->window_tokens + 1 : 0;
}

/** Copies the keys and values of one request and KV head that its queries see out of their pages; every dtype widens to
 * float exactly. */
static void gather(const reference_job *job, int32_t request, int32_t kv_head) {
    const pod_limits *limits = &job->given->limits;
    const pod_batch *batch = &job->given->batch;
    const pod_cache *c = &job->given->cache;
    int32_t page_size = limits->page_size, head_dim = limits->head_dim;
    int32_t q_len = batch->q_start[request + 1] - batch->q_start[request];
    int32_t begin = window_begin(&job->given->mask, batch->kv_len[request] - q_len);
    float k_scale = c->k_scale != NULL ? c->k_scale[kv_head * c->scale_stride] : 1.0f;
    float v_scale = c->v_scale != NULL ? c->v_scale[kv_head * c->scale_stride] : 1.0f;
#pragma omp parallel for schedule(static)
    for (int32_t key = begin; key < batch->kv_len[request]; key++) {
        int64_t page = request, slot = key % page_size;
        if (batch->page_table != NULL) page = batch->page_table[request * batch->page_table_stride + key / page_size];
        int64_t k_row = page * c->k_page_stride + slot * c->k_token_stride + kv_head * c->k_head_stride;
        int64_t v_row = page * c->v_page_stride + slot * c->v_token_stride + kv_head * c->v_head_stride;
        for (int32_t i = 0; i < head_dim; i++) {
            job->keys[(int64_t)key * head_dim + i] = k_scale * pod__load(c->k, limits->kv_dtype, k_row + i);
            job->values[(int64_t)key * head_dim + i] = v_scale * pod__load(c->v, limits->kv_dtype, v_row + i);
        }
    }
}

static double dot(const double *a, const float *b, int32_t count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < count; i++) sum += a[i] * (double)b[i];
    return sum;
}

/** One query token and head against all keys that it sees. */
static void reference_row(const reference_job *job, int32_t request, int32_t token, int32_t head) {
    const pod_tensors *t = &job->given->tensors;
    const pod_mask *mask = &job->given->mask;
    const pod_limits *limits = &job->given->limits;
    int32_t head_dim = limits->head_dim;
    int32_t q_begin = job->given->batch.q_start[request], q_len = job->given->batch.q_start[request + 1] - q_begin;
    int32_t kv_len = job->given->batch.kv_len[request], position = kv_len - q_len + token;
    int is_causal = mask->causal_per_request != NULL ? mask->causal_per_request[request] : mask->causal;
    int32_t end = is_causal ? position + 1 : kv_len, begin = window_begin(mask, position);

    double q[256], out[256], *scores = job->scores + (int64_t)thread_index() * job->max_kv_len;
    for (int32_t i = 0; i < head_dim; i++) {
        q[i] = (double)pod__load(t->q, limits->q_dtype,
                                 (q_begin + token) * t->q_token_stride + head * t->q_head_stride + i);
        out[i] = 0;
    }
    double max = t->sinks != NULL ? (double)t->sinks[head] : -INFINITY;
    for (int32_t key = begin; key < end; key++) {
        double score = (double)t->scale * dot(q, job->keys + (int64_t)key * head_dim, head_dim);
        if (t->softcap > 0) score = (double)t->softcap * tanh(score / (double)t->softcap);
        if (t->alibi_slopes != NULL) score += (double)t->alibi_slopes[head] * (key - position);
        scores[key] = score;
        if (score > max) max = score;
    }
    double sum = t->sinks != NULL && max > -INFINITY ? exp((double)t->sinks[head] - max) : 0;
    for (int32_t key = begin; key < end; key++) {
        double weight = exp(scores[key] - max);
        const float *value = job->values + (int64_t)key * head_dim;
        sum += weight;
#pragma omp simd
        for (int32_t i = 0; i < head_dim; i++) out[i] += weight * (double)value[i];
    }
    int64_t row = (int64_t)(q_begin + token) * limits->q_heads + head;
    for (int32_t i = 0; i < head_dim; i++) job->given->out[row * head_dim + i] = sum > 0 ? out[i] / sum : 0;
    if (job->given->lse != NULL) job->given->lse[row] = sum > 0 ? max + log(sum) : -INFINITY;
}

static void reference_request(const reference_job *job, int32_t request) {
    const pod_limits *limits = &job->given->limits;
    int32_t q_len = job->given->batch.q_start[request + 1] - job->given->batch.q_start[request];
    int32_t group = limits->q_heads / limits->kv_heads;
    if (q_len == 0) return;
    for (int32_t kv_head = 0; kv_head < limits->kv_heads; kv_head++) {
        gather(job, request, kv_head);
#pragma omp parallel for schedule(dynamic, 4)
        for (int32_t row = 0; row < q_len * group; row++) {
            reference_row(job, request, row / group, kv_head * group + row % group);
        }
    }
}

pod_status pod__oracle(const pod_oracle_job *given, int32_t request) {
    const pod_batch *batch = &given->batch;
    int32_t begin = request < 0 ? 0 : request, end = request < 0 ? batch->num_requests : request + 1, longest = 1;
    for (int32_t r = begin; r < end; r++) longest = batch->kv_len[r] > longest ? batch->kv_len[r] : longest;
    size_t elements = (size_t)longest * (size_t)given->limits.head_dim;
    reference_job job = {.given = given, .max_kv_len = longest};
    job.keys = malloc(elements * sizeof(float));
    job.values = malloc(elements * sizeof(float));
    job.scores = malloc((size_t)thread_count() * (size_t)longest * sizeof(double));
    int has_memory = job.keys != NULL && job.values != NULL && job.scores != NULL;
    for (int32_t r = begin; has_memory && r < end; r++) reference_request(&job, r);
    free(job.keys);
    free(job.values);
    free(job.scores);
    if (!has_memory) return pod__fail(POD_E_NO_MEMORY, "no memory for the oracle's %d keys", longest);
    return POD_OK;
}
