/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle of every test: attention in double precision, straight from its definition, one query row at a time over
 * all of its keys. Shares nothing with the planner or the fast kernels but the reading of single elements. */
#include "api/validate.h"
#include "base/dtype.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

typedef struct reference_job {
    const pod_limits *limits;
    const pod_batch *batch;
    const pod_tensors *tensors;
    float *keys, *values; /* one request and KV head, gathered: [kv_len][head_dim] */
    double *scores;       /* [threads][kv_len] */
    int32_t max_kv_len;   /* of the batch */
    double *out, *lse;
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

/** Copies the keys and values of one request and KV head out of their pages; every dtype widens to float exactly. */
static void gather(const reference_job *job, int32_t request, int32_t kv_head) {
    const pod_tensors *t = job->tensors;
    int32_t page_size = job->limits->page_size, head_dim = job->limits->head_dim;
    float k_scale = t->k_scale != NULL ? t->k_scale[kv_head] : 1.0f;
    float v_scale = t->v_scale != NULL ? t->v_scale[kv_head] : 1.0f;
#pragma omp parallel for schedule(static)
    for (int32_t key = 0; key < job->batch->kv_len[request]; key++) {
        int64_t page = request, slot = key % page_size;
        if (job->batch->page_table != NULL) {
            page = job->batch->page_table[request * job->batch->page_table_stride + key / page_size];
        }
        int64_t k_row = page * t->k_page_stride + slot * t->k_token_stride + kv_head * t->k_head_stride;
        int64_t v_row = page * t->v_page_stride + slot * t->v_token_stride + kv_head * t->v_head_stride;
        for (int32_t i = 0; i < head_dim; i++) {
            job->keys[(int64_t)key * head_dim + i] = k_scale * pod__load(t->k, job->limits->kv_dtype, k_row + i);
            job->values[(int64_t)key * head_dim + i] = v_scale * pod__load(t->v, job->limits->kv_dtype, v_row + i);
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
    const pod_tensors *t = job->tensors;
    int32_t head_dim = job->limits->head_dim;
    int32_t q_begin = job->batch->q_start[request], q_len = job->batch->q_start[request + 1] - q_begin;
    int32_t kv_len = job->batch->kv_len[request], position = kv_len - q_len + token;
    int32_t end = job->batch->causal ? position + 1 : kv_len, begin = 0, window = job->batch->window_tokens;
    if (window > 0 && position >= window) begin = position - window + 1;

    double q[256], out[256], *scores = job->scores + (int64_t)thread_index() * job->max_kv_len;
    for (int32_t i = 0; i < head_dim; i++) {
        q[i] = (double)pod__load(t->q, job->limits->q_dtype,
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
    int64_t row = (int64_t)(q_begin + token) * job->limits->q_heads + head;
    for (int32_t i = 0; i < head_dim; i++) job->out[row * head_dim + i] = sum > 0 ? out[i] / sum : 0;
    if (job->lse != NULL) job->lse[row] = sum > 0 ? max + log(sum) : -INFINITY;
}

static void reference_request(const reference_job *job, int32_t request) {
    int32_t q_len = job->batch->q_start[request + 1] - job->batch->q_start[request];
    int32_t group = job->limits->q_heads / job->limits->kv_heads;
    if (q_len == 0) return;
    for (int32_t kv_head = 0; kv_head < job->limits->kv_heads; kv_head++) {
        gather(job, request, kv_head);
#pragma omp parallel for schedule(dynamic, 4)
        for (int32_t row = 0; row < q_len * group; row++) {
            reference_row(job, request, row / group, kv_head * group + row % group);
        }
    }
}

pod_status pod_reference_attention(const pod_limits *limits, const pod_batch *batch, const pod_tensors *tensors,
                                   int32_t request, double *out, double *lse) {
    POD_TRY(pod__validate_limits(limits));
    POD_TRY(pod__validate_batch(limits, batch));
    pod_tensors filled;
    POD_TRY(pod__copy_tensors(tensors, &filled));
    if (out == NULL) return pod__fail(POD_E_ARGUMENT, "out is NULL");
    if (batch->memory != POD_MEMORY_HOST) {
        return pod__fail(POD_E_UNSUPPORTED, "memory = POD_MEMORY_DEVICE is not supported by the oracle");
    }
    if (limits->q_dtype == POD_F8E4M3 || limits->kv_dtype == POD_F8E4M3) {
        return pod__fail(POD_E_UNSUPPORTED, "dtype f8e4m3 is not supported by the oracle");
    }
    if (request < -1 || request >= batch->num_requests) {
        return pod__fail(POD_E_ARGUMENT, "request = %d is outside [-1, %d)", request, batch->num_requests);
    }
    filled.out = out;
    filled.lse = NULL;
    POD_TRY(pod__validate_tensors(limits, &filled));

    int32_t begin = request < 0 ? 0 : request, end = request < 0 ? batch->num_requests : request + 1, longest = 1;
    for (int32_t r = begin; r < end; r++) longest = batch->kv_len[r] > longest ? batch->kv_len[r] : longest;
    size_t elements = (size_t)longest * (size_t)limits->head_dim;
    reference_job job = {limits, batch, &filled, NULL, NULL, NULL, longest, out, lse};
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
