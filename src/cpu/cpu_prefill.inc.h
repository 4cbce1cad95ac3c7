/* SPDX-License-Identifier: Apache-2.0 */
/* Prefill: many rows, bound by arithmetic. Each KV tile is packed once for all rows of the item, keys transposed, so
 * that both products are the same register-blocked loop over columns of keys (scores) or of head_dim (out). With
 * `pairs` a word holds two bf16 and the loop has half the steps. */

enum { MMA_ROWS = 6 };

_Static_assert(CPU_TILE_ROWS % MMA_ROWS == 0, "whole blocks of rows fit the scratch");
_Static_assert(CPU_TILE_TOKENS % (MMA_VECS * LANES) == 0, "whole blocks of keys fit a tile");

/** acc[r][v] += a[r][0..depth) * b[0..depth)[v]; a by rows, b by words. */
static inline __attribute__((always_inline)) void mma(vec acc[MMA_ROWS][MMA_VECS], int num_vecs, int pairs,
                                                      const float *a, int64_t a_stride, const float *b,
                                                      int64_t b_stride, int32_t depth) {
    for (const float *a_end = a + depth; a < a_end; a++, b += b_stride) {
        vec column[MMA_VECS];
        CPU_UNROLL
        for (int v = 0; v < num_vecs; v++) column[v] = vec_load(b + v * LANES);
        CPU_UNROLL
        for (int r = 0; r < MMA_ROWS; r++) {
            vec x = vec_set1(a[r * a_stride]);
            CPU_UNROLL
            for (int v = 0; v < num_vecs; v++) acc[r][v] = mma_step(acc[r][v], x, column[v], pairs);
        }
    }
}

/** The tile's keys into scratch->keys, transposed: word by word, each a row of CPU_TILE_TOKENS keys. */
static inline void pack_keys(const cpu_job *job, const cpu_tile *tile, pod_dtype kv_dtype, int pairs,
                             cpu_scratch *scratch) {
    int32_t num_words = pairs ? job->head_dim / 2 : job->head_dim;
    int64_t word_bytes = (pairs ? 2 : 1) * (int64_t)pod_dtype_size(kv_dtype);
    for (int32_t key = 0; key < CPU_TILE_TOKENS; key += LANES) {
        for (int32_t word = 0; word < num_words; word += LANES) {
            int32_t count = pod_core_min(LANES, num_words - word);
            vec block[LANES];
            CPU_UNROLL
            for (int i = 0; i < LANES; i++) {
                block[i] = load_words(tile->key[key + i] + word * word_bytes, kv_dtype, pairs, count);
            }
            vec_transpose(block);
            for (int i = 0; i < count; i++) vec_store(scratch->keys + (word + i) * CPU_TILE_TOKENS + key, block[i]);
        }
    }
}

/** The tile's values into scratch->values, widened; with `pairs` two keys zipped. */
static inline void pack_values(const cpu_job *job, const cpu_tile *tile, pod_dtype kv_dtype, int pairs,
                               cpu_scratch *scratch) {
    int64_t element_bytes = (int64_t)pod_dtype_size(kv_dtype);
    (void)pairs;
#ifdef POD_CPU_PAIRS
    if (pairs) {
        for (int32_t key = 0; key < CPU_TILE_TOKENS; key += 2) {
            float *to = scratch->values + key / 2 * job->v_stride;
            for (int32_t i = 0; i < job->v_head_dim; i += LANES) {
                int32_t count = pod_core_min(LANES, job->v_head_dim - i);
                int64_t offset = i * element_bytes;
                vec_store(to + i,
                          vec_zip_pairs(tile->value[key] + offset, tile->value[key + 1] + offset, kv_dtype, count));
            }
        }
        return;
    }
#endif
    for (int32_t key = 0; key < CPU_TILE_TOKENS; key++) {
        float *to = scratch->values + key * job->v_stride;
        for (int32_t i = 0; i < job->v_head_dim; i += LANES) {
            int32_t count = pod_core_min(LANES, job->v_head_dim - i);
            vec_store(to + i, vec_load_as(tile->value[key] + i * element_bytes, kv_dtype, count));
        }
    }
}

/** scratch->scores = factor * query * keys for all rows. */
static inline void score_tile(const cpu_job *job, const cpu_item *item, float factor, int pairs, cpu_scratch *scratch) {
    int32_t num_words = pairs ? job->head_dim / 2 : job->head_dim;
    for (int32_t row = 0; row < item->num_rows; row += MMA_ROWS) {
        for (int32_t key = 0; key < CPU_TILE_TOKENS; key += MMA_VECS * LANES) {
            vec acc[MMA_ROWS][MMA_VECS];
            CPU_UNROLL
            for (int r = 0; r < MMA_ROWS; r++) {
                CPU_UNROLL
                for (int v = 0; v < MMA_VECS; v++) acc[r][v] = vec_zero();
            }
            mma(acc, MMA_VECS, pairs, scratch->query + row * job->q_stride, job->q_stride, scratch->keys + key,
                CPU_TILE_TOKENS, num_words);
            CPU_UNROLL
            for (int r = 0; r < MMA_ROWS; r++) {
                float *scores = scratch->scores + (row + r) * CPU_TILE_TOKENS + key;
                CPU_UNROLL
                for (int v = 0; v < MMA_VECS; v++) vec_store(scores + v * LANES, acc[r][v] * vec_set1(factor));
            }
        }
    }
}

/** MMA_ROWS rows of scratch->out, `num_vecs` columns from `dim`: rescaled to the new maximum, plus weights * values. */
static inline __attribute__((always_inline)) void accumulate_block(const cpu_job *job, int32_t row, int32_t dim,
                                                                   int num_vecs, int pairs, cpu_scratch *scratch) {
    float *out = scratch->out + row * job->v_stride + dim;
    vec acc[MMA_ROWS][MMA_VECS];
    CPU_UNROLL
    for (int r = 0; r < MMA_ROWS; r++) {
        vec factor = vec_set1(scratch->factor[row + r]);
        CPU_UNROLL
        for (int v = 0; v < num_vecs; v++) acc[r][v] = vec_load(out + r * job->v_stride + v * LANES) * factor;
    }
    mma(acc, num_vecs, pairs, scratch->scores + row * CPU_TILE_TOKENS, CPU_TILE_TOKENS, scratch->values + dim,
        job->v_stride, pairs ? CPU_TILE_TOKENS / 2 : CPU_TILE_TOKENS);
    CPU_UNROLL
    for (int r = 0; r < MMA_ROWS; r++) {
        CPU_UNROLL
        for (int v = 0; v < num_vecs; v++) vec_store(out + r * job->v_stride + v * LANES, acc[r][v]);
    }
}

static inline void accumulate_tile(const cpu_job *job, const cpu_item *item, int pairs, cpu_scratch *scratch) {
    for (int32_t row = 0; row < item->num_rows; row += MMA_ROWS) {
        int32_t dim = 0;
        for (; dim + (MMA_VECS - 1) * LANES < job->v_head_dim; dim += MMA_VECS * LANES) {
            accumulate_block(job, row, dim, MMA_VECS, pairs, scratch);
        }
        for (; dim < job->v_head_dim; dim += LANES) accumulate_block(job, row, dim, 1, pairs, scratch);
    }
}

static inline __attribute__((always_inline)) void prefill_item(const cpu_job *job, const cpu_item *item,
                                                               cpu_scratch *scratch, pod_dtype kv_dtype, int pairs) {
    float factor = score_factor(job, item);
    cpu_tile tile;
    cpu_hidden hidden;
    rows_load(job, item, MMA_ROWS, pairs, scratch);
    for (int32_t i = 0; i < item->num_tiles; i++) {
        if (!tile_locate(job, item, item->tile_begin + i, &tile)) continue;
        pack_keys(job, &tile, kv_dtype, pairs, scratch);
        score_tile(job, item, factor, pairs, scratch);
        int is_masked = tile_is_masked(job, item, &tile);
        softmax_tile(job, item, &tile, is_masked, pairs, scratch);
        hide_values(job, item, is_masked, kv_dtype, &tile, &hidden);
        pack_values(job, &tile, kv_dtype, pairs, scratch);
        accumulate_tile(job, item, pairs, scratch);
        add_hidden(job, item, &tile, &hidden, pairs, scratch);
    }
}
