/* SPDX-License-Identifier: Apache-2.0 */
/* Values of keys that some rows of an item see and others do not. For the others their weight is 0, and 0 times a value
 * that is not finite would be NaN. So where a tile has such values they leave it, and are added to the rows that see
 * them one by one. Finite values, which is what caches hold, cost a look at the tile's keys that are not seen by all.
 */

/** Values taken out of a tile. */
typedef struct cpu_hidden {
    int32_t count;
    int32_t key[CPU_TILE_TOKENS]; /**< in the tile */
    const char *value[CPU_TILE_TOKENS];
} cpu_hidden;

/** Whether all elements are finite: the sum of their products with 0 is 0 then. */
static inline int values_are_finite(const cpu_job *job, const char *const *value, int32_t count, pod_dtype kv_dtype) {
    int64_t element_bytes = (int64_t)pod_dtype_size(kv_dtype);
    vec sum = vec_zero();
    for (int32_t key = 0; key < count; key++) {
        for (int32_t i = 0; i < job->v_head_dim; i += LANES) {
            int32_t lanes = pod_core_min(LANES, job->v_head_dim - i);
            sum = vec_fma(vec_load_as(value[key] + i * element_bytes, kv_dtype, lanes), vec_zero(), sum);
        }
    }
    return vec_reduce_add(sum) == 0;
}

static inline void hide_range(const cpu_job *job, cpu_tile *tile, int32_t begin, int32_t end, pod_dtype kv_dtype,
                              cpu_hidden *hidden) {
    if (begin >= end || values_are_finite(job, tile->value + begin, end - begin, kv_dtype)) return;
    for (int32_t key = begin; key < end; key++) {
        if (values_are_finite(job, tile->value + key, 1, kv_dtype)) continue;
        hidden->key[hidden->count] = key;
        hidden->value[hidden->count++] = tile->value[key];
        tile->value[key] = tile_no_value;
    }
}

/** Takes values that are not finite, and that some row of the item does not see, out of the tile. `is_masked` as
 * tile_is_masked(). */
static inline void hide_values(const cpu_job *job, const cpu_item *item, int is_masked, pod_dtype kv_dtype,
                               cpu_tile *tile, cpu_hidden *hidden) {
    hidden->count = 0;
    if (!is_masked) return;
    pod_key_range first = tile_visible(job, item, tile, item->row_begin / job->shape->group);
    pod_key_range last = tile_visible(job, item, tile, (item->row_begin + item->num_rows - 1) / job->shape->group);
    int32_t seen_end = pod_core_min(first.end, tile_tree_begin(job, item, tile));
    hide_range(job, tile, tile->first, pod_core_min(last.begin, tile->end), kv_dtype, hidden);
    hide_range(job, tile, pod_core_max(seen_end, pod_core_max(last.begin, tile->first)), tile->end, kv_dtype, hidden);
}

/** A weight of a row, as softmax_row() leaves it. */
static inline float weight_at(const float *weights, int32_t key, int pairs) {
    uint16_t bits;
    if (!pairs) return weights[key];
    memcpy(&bits, (const char *)weights + (size_t)key * sizeof bits, sizeof bits);
    return pod__bf16_to_float(bits);
}

/** Adds them to the rows that see them. */
static inline void add_hidden(const cpu_job *job, const cpu_item *item, const cpu_tile *tile, const cpu_hidden *hidden,
                              int pairs, cpu_scratch *scratch) {
    int32_t tree_begin = tile_tree_begin(job, item, tile);
    for (int32_t i = 0; i < hidden->count; i++) {
        for (int32_t row = 0; row < item->num_rows; row++) {
            int32_t token = (item->row_begin + row) / job->shape->group, key = hidden->key[i];
            pod_key_range keys = tile_visible(job, item, tile, token);
            if (key < keys.begin || key >= keys.end) continue;
            if (key >= tree_begin && !tile_tree_shows(job, item, tile, token, key)) continue;
            float weight = weight_at(scratch->scores + row * CPU_TILE_TOKENS, hidden->key[i], pairs);
            float *out = scratch->out + (int64_t)row * job->v_stride;
            for (int32_t d = 0; d < job->v_head_dim; d++) {
                out[d] += weight * pod__load(hidden->value[i], job->plan->limits.kv_dtype, d);
            }
        }
    }
}
