/* SPDX-License-Identifier: Apache-2.0 */
/* Appending by its definition, in double precision: a token's place and position, the angle of every pair by the
 * models' own formulas, the division by the cache's scale. */
#include "oracle/oracle_append.h"

#include "base/dtype.h"

#include <math.h>

#define PI 3.14159265358979323846

/* ---- rotary embedding ---- */

/** Llama 3, in wavelengths. */
static double llama3(const pod_rope *rope, double frequency) {
    double wavelength = 2 * PI / frequency, context = rope->original_context;
    if (wavelength > context / rope->low_freq_factor) return frequency / rope->factor;
    if (wavelength < context / rope->high_freq_factor) return frequency;
    double smooth = (context / wavelength - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * frequency / rope->factor + smooth * frequency;
}

/** YaRN: the pair at which a number of rotations fits in the original context bounds a ramp. */
static double yarn(const pod_rope *rope, double frequency, int32_t j) {
    double bounds[2], rotations[2] = {rope->beta_fast, rope->beta_slow};
    for (int i = 0; i < 2; i++) {
        bounds[i] = rope->rotary_dim * log(rope->original_context / (rotations[i] * 2 * PI)) / (2 * log(rope->base));
    }
    double low = rope->yarn_is_exact ? bounds[0] : floor(bounds[0]);
    double high = rope->yarn_is_exact ? bounds[1] : ceil(bounds[1]);
    if (low < 0) low = 0;
    if (high > rope->rotary_dim - 1) high = rope->rotary_dim - 1;
    if (low == high) high += 0.001;
    double ramp = (j - low) / (high - low);
    if (ramp < 0) ramp = 0;
    if (ramp > 1) ramp = 1;
    return frequency / rope->factor * ramp + frequency * (1 - ramp);
}

/** cos and sin of pair j at a position. */
static void angle_of(const pod_rope *rope, int64_t position, int32_t j, double *cosine, double *sine) {
    if (rope->cos != NULL) {
        *cosine = (double)pod__load(rope->cos, rope->table_dtype, position * rope->table_stride + j);
        *sine = (double)pod__load(rope->sin, rope->table_dtype, position * rope->table_stride + j);
        return;
    }
    double frequency = 1 / pow(rope->base, 2.0 * j / rope->rotary_dim);
    double amplitude = rope->scaling == POD_ROPE_YARN ? rope->attention_factor : 1;
    if (rope->scaling == POD_ROPE_LINEAR) frequency /= rope->factor;
    if (rope->scaling == POD_ROPE_LLAMA3) frequency = llama3(rope, frequency);
    if (rope->scaling == POD_ROPE_YARN) frequency = yarn(rope, frequency, j);
    *cosine = amplitude * cos((double)position * frequency);
    *sine = amplitude * sin((double)position * frequency);
}

/** Of all pairs at a position: the same for every head. */
typedef struct oracle_angles {
    double cos[128], sin[128];
} oracle_angles;

static void find_angles(const pod_rope *rope, int64_t position, oracle_angles *angles) {
    for (int32_t j = 0; j < rope->rotary_dim / 2; j++) angle_of(rope, position, j, &angles->cos[j], &angles->sin[j]);
}

static void rotate(const pod_rope *rope, const oracle_angles *angles, double *row) {
    for (int32_t j = 0; j < rope->rotary_dim / 2; j++) {
        int is_pair = rope->style == POD_ROPE_PAIRS;
        double *x = &row[is_pair ? 2 * j : j], *y = &row[is_pair ? 2 * j + 1 : j + rope->rotary_dim / 2];
        double before = *x;
        *x = before * angles->cos[j] - *y * angles->sin[j];
        *y = *y * angles->cos[j] + before * angles->sin[j];
    }
}

/* ---- places ---- */

typedef struct oracle_place {
    int64_t slot, position;
    int is_written; /**< q is, if asked for */
} oracle_place;

static int32_t find_request(const pod_batch *batch, int32_t token) {
    for (int32_t r = 0; r < batch->num_requests; r++) {
        if (token >= batch->q_start[r] && token < batch->q_start[r + 1]) return r;
    }
    return -1;
}

static oracle_place place_of(const pod_oracle_append_job *job, int32_t token) {
    const pod_append *a = &job->append;
    const pod_batch *batch = job->batch;
    const oracle_place nowhere = {-1, 0, 0};
    oracle_place place = {-1, 0, 1};
    int64_t page_size = job->limits.page_size, num_slots = job->num_pages * page_size;
    int has_places = a->k != NULL && a->slot_mapping == NULL;
    if (has_places || (a->rope != NULL && a->positions == NULL)) {
        int32_t r = find_request(batch, token);
        if (r < 0) return nowhere;
        int64_t in_context = batch->kv_len[r] - batch->q_start[r + 1] + token;
        int64_t pad = a->left_pad != NULL ? a->left_pad[r] : 0;
        if (in_context < 0 || pad < 0) return nowhere;
        place.position = in_context > pad ? in_context - pad : 0;
        if (has_places) {
            int64_t page = r;
            if (batch->page_table != NULL) {
                page = batch->page_table[r * batch->page_table_stride + in_context / page_size];
            }
            place.slot = page * page_size + in_context % page_size;
        }
    }
    if (a->slot_mapping != NULL) place.slot = a->slot_mapping[token] < 0 ? -1 : a->slot_mapping[token];
    if (place.slot >= 0 && place.slot >= num_slots) return nowhere;
    if (a->rope == NULL) return place;
    if (a->positions != NULL && a->position_bytes == 4) place.position = ((const int32_t *)a->positions)[token];
    if (a->positions != NULL && a->position_bytes == 8) place.position = ((const int64_t *)a->positions)[token];
    int64_t end = job->rope.cos != NULL ? job->rope.table_positions : INT64_C(1) << 31;
    return place.position < 0 || place.position >= end ? nowhere : place;
}

/* ---- rows ---- */

/** Rows of one kind, [num_tokens, heads, dim]: where they come from, and what happens to them. */
typedef struct oracle_rows {
    const void *from;
    int64_t token_stride, head_stride;
    int32_t heads, dim;
    int is_rotated;
    const float *scales; /**< NULL: 1 */
    double *to;
} oracle_rows;

static void reference_rows(const pod_oracle_append_job *job, const oracle_rows *rows, int64_t token,
                           const oracle_angles *angles, int is_written) {
    for (int32_t h = 0; h < rows->heads; h++) {
        double *row = rows->to + (token * rows->heads + h) * rows->dim;
        double scale = rows->scales != NULL ? (double)rows->scales[h * job->cache.scale_stride] : 1;
        int64_t at = token * rows->token_stride + h * rows->head_stride;
        for (int32_t i = 0; i < rows->dim; i++) {
            row[i] = is_written ? (double)pod__load(rows->from, job->append.dtype, at + i) : 0;
        }
        if (!is_written) continue;
        if (rows->is_rotated) rotate(&job->rope, angles, row);
        for (int32_t i = 0; i < rows->dim; i++) row[i] /= scale;
    }
}

void pod__oracle_append(const pod_oracle_append_job *job) {
    const pod_append *a = &job->append;
    const pod_limits *l = &job->limits;
    const pod_cache *c = &job->cache;
    int has_rope = a->rope != NULL;
    const oracle_rows k = {a->k,        a->k_token_stride, a->k_head_stride, l->kv_heads,
                           l->head_dim, has_rope,          c->k_scale,       job->k};
    const oracle_rows v = {a->v,  a->v_token_stride, a->v_head_stride, l->kv_heads, l->v_head_dim, 0, c->v_scale,
                           job->v};
    const oracle_rows q = {a->q, a->q_token_stride, a->q_head_stride, l->q_heads, l->head_dim, has_rope, NULL, job->q};
    oracle_angles angles;
    for (int32_t token = 0; token < a->num_tokens; token++) {
        oracle_place place = place_of(job, token);
        job->slots[token] = place.slot;
        if (has_rope && place.is_written) find_angles(&job->rope, place.position, &angles);
        if (a->k != NULL) reference_rows(job, &k, token, &angles, place.slot >= 0);
        if (a->v != NULL) reference_rows(job, &v, token, &angles, place.slot >= 0);
        if (job->q != NULL) reference_rows(job, &q, token, &angles, place.is_written);
    }
}
