/* SPDX-License-Identifier: Apache-2.0 */
/* Decode: few rows, bound by reading the cache. Keys and values go from the cache to registers, nothing is packed.
 * Scores are dot products along head_dim of a block of rows and keys whose accumulators are then summed together. */

enum { DECODE_KEYS = 4, DECODE_ROWS = LANES / DECODE_KEYS };

/** Rows [first, end) of the tile, its keys or its values of `dim` elements, widened to float into `to`, `stride` floats
 * each; they are there afterwards. What takes long to widen is widened once for all blocks of rows. Meanwhile the rows
 * `ahead` (or NULL) of `ahead_dim` elements are on their way. */
static inline __attribute__((always_inline)) void widen_rows(int32_t first, int32_t end, int32_t dim, int32_t stride,
                                                             const char **rows, const char *const *ahead,
                                                             int32_t ahead_dim, pod_dtype kv_dtype, float *to) {
    int64_t element_bytes = (int64_t)pod_dtype_size(kv_dtype);
    for (int32_t key = first; key < end; key++) {
        if (ahead != NULL) prefetch_row(ahead[key], ahead_dim * element_bytes);
        float *row = to + key * stride;
        for (int32_t i = 0; i < dim; i += LANES) {
            int32_t count = pod_core_min(LANES, dim - i);
            vec_store(row + i, vec_load_as(rows[key] + i * element_bytes, kv_dtype, count));
        }
        rows[key] = (const char *)row;
    }
}

/** The tile's keys, and what stands for those that nobody sees. */
static inline void widen_keys(const cpu_job *job, cpu_tile *tile, pod_dtype kv_dtype, cpu_scratch *scratch) {
    widen_rows(tile->first, tile->end, job->head_dim, job->q_stride, tile->key, tile->value, job->v_head_dim, kv_dtype,
               scratch->keys);
    for (int32_t key = 0; key < tile->first; key++) tile->key[key] = tile->key[tile->first];
    for (int32_t key = tile->end; key < CPU_TILE_TOKENS; key++) tile->key[key] = tile->key[tile->first];
}

/** scratch->scores = factor * query * keys. Meanwhile the values are on their way, if they are `awaited`. */
static inline __attribute__((always_inline)) void decode_scores(const cpu_job *job, const cpu_item *item,
                                                                const cpu_tile *tile, float factor, int awaited,
                                                                pod_dtype kv_dtype, int pairs, cpu_scratch *scratch) {
    int32_t num_words = pairs ? job->head_dim / 2 : job->head_dim;
    int64_t word_bytes = (pairs ? 2 : 1) * (int64_t)pod_dtype_size(kv_dtype),
            value_bytes = job->v_head_dim * (int64_t)pod_dtype_size(kv_dtype);
    for (int32_t key = tile->first / DECODE_KEYS * DECODE_KEYS; key < tile->end; key += DECODE_KEYS) {
        for (int i = 0; awaited && i < DECODE_KEYS; i++) prefetch_row(tile->value[key + i], value_bytes);
        for (int32_t row = 0; row < item->num_rows; row += DECODE_ROWS) {
            const float *query = scratch->query + row * job->q_stride;
            vec acc[LANES]; /* of row r and key k at r * DECODE_KEYS + k */
            CPU_UNROLL
            for (int i = 0; i < LANES; i++) acc[i] = vec_zero();
            for (int32_t word = 0; word < num_words; word += LANES) {
                int32_t count = pod_core_min(LANES, num_words - word);
                vec k[DECODE_KEYS];
                CPU_UNROLL
                for (int i = 0; i < DECODE_KEYS; i++) {
                    k[i] = load_words(tile->key[key + i] + word * word_bytes, kv_dtype, pairs, count);
                }
                CPU_UNROLL
                for (int i = 0; i < LANES; i++) {
                    vec q = vec_load(query + i / DECODE_KEYS * job->q_stride + word);
                    acc[i] = mma_step(acc[i], q, k[i % DECODE_KEYS], pairs);
                }
            }
            float sums[LANES];
            vec_store(sums, vec_sum_each(acc) * vec_set1(factor));
            for (int r = 0; r < DECODE_ROWS; r++) {
                memcpy(scratch->scores + (row + r) * CPU_TILE_TOKENS + key, sums + r * DECODE_KEYS,
                       DECODE_KEYS * sizeof(float));
            }
        }
    }
}

/** DECODE_ROWS rows of scratch->out, `num_vecs` columns from `dim`: rescaled, plus weights * values. Meanwhile the keys
 * of `next` (or NULL) are on their way. */
static inline __attribute__((always_inline)) void decode_accumulate_block(const cpu_job *job, const cpu_tile *tile,
                                                                          const cpu_tile *next, int32_t row,
                                                                          int32_t dim, int num_vecs, pod_dtype kv_dtype,
                                                                          cpu_scratch *scratch) {
    const float *weights = scratch->scores + row * CPU_TILE_TOKENS;
    float *out = scratch->out + row * job->v_stride + dim;
    int64_t element_bytes = (int64_t)pod_dtype_size(kv_dtype);
    int32_t last_count = pod_core_min(LANES, job->v_head_dim - dim - (num_vecs - 1) * LANES);
    vec acc[DECODE_ROWS][MMA_VECS];
    CPU_UNROLL
    for (int r = 0; r < DECODE_ROWS; r++) {
        vec factor = vec_set1(scratch->factor[row + r]);
        CPU_UNROLL
        for (int v = 0; v < num_vecs; v++) acc[r][v] = vec_load(out + r * job->v_stride + v * LANES) * factor;
    }
    for (int32_t key = tile->first; key < tile->end; key++) {
        vec value[MMA_VECS];
        if (next != NULL) prefetch_row(next->key[key], job->head_dim * element_bytes);
        CPU_UNROLL
        for (int v = 0; v < num_vecs; v++) {
            const char *from = tile->value[key] + (dim + v * LANES) * element_bytes;
            value[v] = vec_load_as(from, kv_dtype, v < num_vecs - 1 ? LANES : last_count);
        }
        CPU_UNROLL
        for (int r = 0; r < DECODE_ROWS; r++) {
            vec weight = vec_set1(weights[r * CPU_TILE_TOKENS + key]);
            CPU_UNROLL
            for (int v = 0; v < num_vecs; v++) acc[r][v] = vec_fma(weight, value[v], acc[r][v]);
        }
    }
    CPU_UNROLL
    for (int r = 0; r < DECODE_ROWS; r++) {
        CPU_UNROLL
        for (int v = 0; v < num_vecs; v++) vec_store(out + r * job->v_stride + v * LANES, acc[r][v]);
    }
}

static inline __attribute__((always_inline)) void decode_accumulate(const cpu_job *job, const cpu_item *item,
                                                                    const cpu_tile *tile, const cpu_tile *next,
                                                                    pod_dtype kv_dtype, cpu_scratch *scratch) {
    for (int32_t row = 0; row < item->num_rows; row += DECODE_ROWS) {
        for (int32_t dim = 0; dim < job->v_head_dim;) {
            if (dim + (MMA_VECS - 1) * LANES < job->v_head_dim) {
                decode_accumulate_block(job, tile, next, row, dim, MMA_VECS, kv_dtype, scratch);
                dim += MMA_VECS * LANES;
            } else {
                decode_accumulate_block(job, tile, next, row, dim, 1, kv_dtype, scratch);
                dim += LANES;
            }
            next = NULL; /* asked for once */
        }
    }
}

static inline __attribute__((always_inline)) void decode_item(const cpu_job *job, const cpu_item *item,
                                                              cpu_scratch *scratch, pod_dtype kv_dtype, int pairs) {
    float factor = score_factor(job, item);
    int is_widened = kv_dtype == POD_F8E4M3 && item->num_rows > DECODE_ROWS;
    cpu_tile tiles[2];
    cpu_hidden hidden;
    rows_load(job, item, DECODE_ROWS, pairs, scratch);
    int is_seen = tile_locate(job, item, item->tile_begin, &tiles[0]);
    for (int32_t i = 0; is_seen; i++) {
        cpu_tile *tile = &tiles[i % 2], *next = &tiles[(i + 1) % 2];
        is_seen = i + 1 < item->num_tiles && tile_locate(job, item, item->tile_begin + i + 1, next);
        if (is_widened) {
            widen_keys(job, tile, kv_dtype, scratch);
            decode_scores(job, item, tile, factor, 0, POD_F32, 0, scratch);
        } else {
            decode_scores(job, item, tile, factor, 1, kv_dtype, pairs, scratch);
        }
        int is_masked = tile_is_masked(job, item, tile);
        softmax_tile(job, item, tile, is_masked, 0, scratch);
        hide_values(job, item, is_masked, kv_dtype, tile, &hidden);
        if (is_widened) {
            widen_rows(tile->first, tile->end, job->v_head_dim, job->v_stride, tile->value, is_seen ? next->key : NULL,
                       job->head_dim, kv_dtype, scratch->values);
            decode_accumulate(job, item, tile, NULL, POD_F32, scratch);
        } else {
            decode_accumulate(job, item, tile, is_seen ? next : NULL, kv_dtype, scratch);
        }
        add_hidden(job, item, tile, &hidden, 0, scratch);
    }
}
