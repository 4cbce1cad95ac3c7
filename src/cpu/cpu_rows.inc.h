/* SPDX-License-Identifier: Apache-2.0 */
/* What prefill and decode do to query rows alike: load them, turn a tile's scores into softmax weights, finish them. */

enum { TILE_VECS = CPU_TILE_TOKENS / LANES };

static const int32_t lane_numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static inline vec_int vec_lane_numbers(void) {
    vec_int lanes;
    memcpy(&lanes, lane_numbers, sizeof lanes);
    return lanes;
}

static inline vec vec_select(vec_int mask, vec if_set, vec if_clear) {
    return (vec)((mask & (vec_int)if_set) | (~mask & (vec_int)if_clear));
}

/** 2^x for x <= 0 within 2.1 ulp; 0 below 2^-126; a NaN stays one. */
static inline vec vec_exp2(vec x) {
    const vec round = vec_set1(0x1.8p23f); /* adding it leaves the nearest integer in the low bits */
    vec clamped = vec_max(vec_set1(-127.0f), x);
    vec shifted = clamped + round;
    vec f = clamped - (shifted - round);
    vec p = vec_fma(f, vec_set1(0.0013264727f), vec_set1(0.009671513f));
    p = vec_fma(p, f, vec_set1(0.055507336f));
    p = vec_fma(p, f, vec_set1(0.24022242f));
    p = vec_fma(p, f, vec_set1(0.693147f));
    p = vec_fma(p, f, vec_set1(1.0f));
    return p * (vec)(((vec_int)shifted + 127) << 23);
}

/** tanh(x) within 2.5 ulp: a polynomial near 0, where the exponential form would cancel. */
static inline vec vec_tanh(vec x) {
    const vec_int sign_bit = (vec_int)vec_set1(-0.0f);
    vec magnitude = (vec)((vec_int)x & ~sign_bit), square = x * x;
    vec p = vec_fma(square, vec_set1(0.015195373f), vec_set1(-0.051947903f));
    p = vec_fma(p, square, vec_set1(0.13308175f));
    p = vec_fma(p, square, vec_set1(-0.33332342f));
    vec near = vec_fma(magnitude * square, p, magnitude);
    vec e = vec_exp2(magnitude * vec_set1(-2.0f * POD_LOG2_E));
    vec far = (vec_set1(1.0f) - e) / (vec_set1(1.0f) + e);
    vec result = vec_select((vec_int)(magnitude < vec_set1(0.625f)), near, far);
    return (vec)((vec_int)result | ((vec_int)x & sign_bit));
}

/** acc + a * b, lane by lane; with `pairs` a lane is two bf16 and both products are added. */
static inline vec mma_step(vec acc, vec a, vec b, int pairs) {
#ifdef POD_CPU_PAIRS
    if (pairs) return vec_dot_pairs(acc, a, b);
#endif
    (void)pairs;
    return vec_fma(a, b, acc);
}

/** `count` words of a row of the cache: elements widened to float, or with `pairs` two neighbours as bf16. */
static inline vec load_words(const void *from, pod_dtype kv_dtype, int pairs, int32_t count) {
#ifdef POD_CPU_PAIRS
    if (pairs) return vec_load_pairs(from, kv_dtype, count);
#endif
    (void)pairs;
    return vec_load_as(from, kv_dtype, count);
}

/** What <q, k> is multiplied by: the score in log2 units, or the argument of the softcap's tanh. Finite, so that a
 * product of 0 stays 0. */
static inline float score_factor(const cpu_job *job, const cpu_item *item) {
    const pod_tensors *t = job->tensors;
    double factor = t->scale;
    const pod_cache *c = job->cache;
    if (c->k_scale != NULL) factor *= (double)c->k_scale[item->kv_head * c->scale_stride];
    factor = t->softcap > 0 ? factor / (double)t->softcap : factor * 1.4426950408889634;
    return (float)fmax(-FLT_MAX, fmin(factor, FLT_MAX));
}

/** Starts empty partials and copies the queries to scratch as float, or as they are for `pairs`. Rows up to a multiple
 * of `block_rows` and words up to whole vectors are zeros. */
static inline void rows_load(const cpu_job *job, const cpu_item *item, int32_t block_rows, int pairs,
                             cpu_scratch *scratch) {
    const pod_limits *limits = &job->plan->limits;
    const pod_tensors *t = job->tensors;
    int32_t group = job->shape->group, num_words = pairs ? job->head_dim / 2 : job->head_dim;
    int32_t padded_rows = (item->num_rows + block_rows - 1) / block_rows * block_rows;
    int64_t element_bytes = (int64_t)pod_dtype_size(limits->q_dtype);
    memset(scratch->out, 0, (size_t)padded_rows * (size_t)job->v_stride * sizeof(float));
    memset(scratch->query, 0, (size_t)padded_rows * (size_t)job->q_stride * sizeof(float));
    for (int32_t row = 0; row < padded_rows; row++) {
        scratch->max[row] = -INFINITY;
        scratch->sum[row] = 0;
        scratch->factor[row] = 0;
    }
    for (int32_t row = 0; row < item->num_rows; row++) {
        int32_t token = item->request.q_begin + (item->row_begin + row) / group;
        int32_t head = item->kv_head * group + (item->row_begin + row) % group;
        const char *q = (const char *)t->q + (token * t->q_token_stride + head * t->q_head_stride) * element_bytes;
        float *query = scratch->query + (int64_t)row * job->q_stride;
        if (pairs) {
            memcpy(query, q, (size_t)num_words * sizeof(float));
            continue;
        }
        for (int32_t i = 0; i < num_words; i += LANES) {
            int32_t count = pod_core_min(LANES, num_words - i);
            vec_store(query + i, vec_load_as(q + i * element_bytes, limits->q_dtype, count));
        }
    }
}

/** Softcap and ALiBi: from the tanh's argument, or the plain score, to the score in log2 units. */
static inline void bend_scores(const cpu_job *job, const cpu_item *item, const cpu_tile *tile, int32_t row,
                               float *scores) {
    const pod_tensors *t = job->tensors;
    int32_t group = job->shape->group, group_row = item->row_begin + row;
    int32_t position = item->request.kv_len - item->request.q_len + group_row / group;
    float slope = t->alibi_slopes != NULL ? t->alibi_slopes[item->kv_head * group + group_row % group] : 0;
    for (int32_t i = 0; i < CPU_TILE_TOKENS; i += LANES) {
        vec x = vec_load(scores + i);
        if (t->softcap > 0) x = vec_tanh(x) * vec_set1(t->softcap * POD_LOG2_E);
        if (t->alibi_slopes != NULL) {
            vec_int distance = vec_lane_numbers() + (tile->key_begin + i - position);
            x = vec_fma(__builtin_convertvector(distance, vec), vec_set1(slope * POD_LOG2_E), x);
        }
        vec_store(scores + i, x);
    }
}

/** One row's scores of a tile become weights exp2(score - max), in place; keys outside [begin, end) weigh 0. With
 * `pairs` they become bf16, packed into the first half of the row. Returns the factor for what the row holds already.
 */
static inline float softmax_row(float *scores, int is_masked, int32_t begin, int32_t end, int pairs, float *max,
                                float *sum) {
    vec s[TILE_VECS], highest = vec_set1(-INFINITY), total = vec_zero();
    for (int v = 0; v < TILE_VECS; v++) {
        s[v] = vec_load(scores + v * LANES);
        if (is_masked) {
            vec_int key = vec_lane_numbers() + v * LANES;
            s[v] = vec_select((key >= begin) & (key < end), s[v], vec_set1(-INFINITY));
        }
        highest = vec_max(highest, s[v]);
    }
    float old_max = *max, new_max = vec_reduce_max(highest), factor = 1.0f;
    if (new_max > old_max)
        factor = vec_first(vec_exp2(vec_set1(old_max - new_max)));
    else
        new_max = old_max;
    vec base = vec_set1(new_max == -INFINITY ? 0.0f : new_max);
    for (int v = 0; v < TILE_VECS; v++) {
        s[v] = vec_exp2(s[v] - base);
        total = total + s[v];
    }
    for (int v = 0; v < TILE_VECS; v++) {
#ifdef POD_CPU_PAIRS
        if (pairs) {
            if (v % 2 == 0) vec_store(scores + v / 2 * LANES, vec_make_pairs(s[v], s[v + 1]));
            continue;
        }
#endif
        vec_store(scores + v * LANES, s[v]);
    }
    (void)pairs;
    *max = new_max;
    *sum = *sum * factor + vec_reduce_add(total);
    return factor;
}

/** Takes what a row's word of the tree mask hides out of its scores. */
static inline void hide_branches(const cpu_job *job, const cpu_item *item, const cpu_tile *tile, int32_t token,
                                 float *scores) {
    for (int32_t key = tile_tree_begin(job, item, tile); key < tile->end; key++) {
        if (!tile_tree_shows(job, item, tile, token, key)) scores[key] = -INFINITY;
    }
}

/** All rows' scores of a tile become weights; scratch->factor, max and sum follow. `is_masked` as tile_is_masked(). */
static inline void softmax_tile(const cpu_job *job, const cpu_item *item, const cpu_tile *tile, int is_masked,
                                int pairs, cpu_scratch *scratch) {
    int is_bent = job->tensors->softcap > 0 || job->tensors->alibi_slopes != NULL;
    for (int32_t row = 0; row < item->num_rows; row++) {
        float *scores = scratch->scores + row * CPU_TILE_TOKENS;
        pod_key_range keys = {0, CPU_TILE_TOKENS};
        if (is_bent) bend_scores(job, item, tile, row, scores);
        int32_t token = (item->row_begin + row) / job->shape->group;
        if (is_masked) keys = tile_visible(job, item, tile, token);
        if (job->tensors->tree_mask != NULL) hide_branches(job, item, tile, token, scores);
        scratch->factor[row] =
            softmax_row(scores, is_masked, keys.begin, keys.end, pairs, &scratch->max[row], &scratch->sum[row]);
    }
}

/** Joins the sinks, divides, converts and writes out and lse. */
static void rows_finish(const cpu_job *job, const cpu_item *item, cpu_scratch *scratch) {
    const pod_limits *limits = &job->plan->limits;
    const pod_tensors *t = job->tensors;
    int32_t group = job->shape->group;
    int64_t element_bytes = (int64_t)pod_dtype_size(limits->out_dtype);
    for (int32_t row = 0; row < item->num_rows; row++) {
        int32_t head = item->kv_head * group + (item->row_begin + row) % group;
        int64_t token = item->request.q_begin + (item->row_begin + row) / group;
        float max = scratch->max[row], sum = scratch->sum[row], factor = 1.0f;
        if (t->sinks != NULL) factor = pod_merge_sink(&max, &sum, t->sinks[head]);
        factor *= pod_merge_normaliser(sum);
        if (job->cache->v_scale != NULL) factor *= job->cache->v_scale[item->kv_head * job->cache->scale_stride];
        const float *from = scratch->out + (int64_t)row * job->v_stride;
        char *to = (char *)t->out + (token * t->out_token_stride + head * t->out_head_stride) * element_bytes;
        for (int32_t i = 0; i < job->v_head_dim; i += LANES) {
            int32_t count = pod_core_min(LANES, job->v_head_dim - i);
            vec_store_as(to + i * element_bytes, limits->out_dtype, count, vec_load(from + i) * vec_set1(factor));
        }
        if (t->lse != NULL) t->lse[token * t->lse_token_stride + head * t->lse_head_stride] = pod_merge_lse(max, sum);
    }
}
