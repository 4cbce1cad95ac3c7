/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of one KV tile: where they are in the cache, and which of them a query row sees. */

/** What stands for a value that is not there, in any dtype. */
static const char tile_no_value[POD_MAX_HEAD_DIM * sizeof(float)];

/** Keys [first, end) of the tile are seen by some row of the item; only these may be read for the result. The others
 * repeat key `first` and have values of 0, so that kernels may read whole blocks. */
typedef struct cpu_tile {
    int32_t key_begin; /**< position of the tile's first key in the context */
    int32_t first, end;
    const char *key[CPU_TILE_TOKENS], *value[CPU_TILE_TOKENS];
} cpu_tile;

/** Finds a tile's rows page by page. Returns 0 if no key of it is seen. */
static inline int tile_locate(const cpu_job *job, const cpu_item *item, int32_t tile_idx, cpu_tile *tile) {
    const pod_batch *batch = &job->plan->batch;
    const pod_cache *c = job->cache;
    int64_t element_bytes = (int64_t)pod_dtype_size(job->plan->limits.kv_dtype);
    int32_t page_size = job->plan->limits.page_size;
    tile->key_begin = tile_idx * CPU_TILE_TOKENS;
    tile->first = pod_core_max(item->kv_begin - tile->key_begin, 0);
    tile->end = pod_core_min(item->kv_end - tile->key_begin, CPU_TILE_TOKENS);
    if (tile->first >= tile->end) return 0;

    const pod_cache_strides k_strides = {c->k_page_stride, c->k_token_stride, c->k_head_stride};
    const pod_cache_strides v_strides = {c->v_page_stride, c->v_token_stride, c->v_head_stride};
    int64_t k_step = c->k_token_stride * element_bytes, v_step = c->v_token_stride * element_bytes;
    for (int32_t i = tile->first; i < tile->end;) {
        pod_key_slot at = pod_core_key_slot(page_size, -1, tile->key_begin + i);
        int32_t run_end = i + pod_core_min(page_size - at.slot, tile->end - i);
        int64_t page = item->request_idx;
        if (batch->page_table != NULL) page = batch->page_table[page * batch->page_table_stride + at.page_idx];
        const char *k =
            (const char *)c->k + pod_core_cache_offset(&k_strides, page, at.slot, item->kv_head) * element_bytes;
        const char *v =
            (const char *)c->v + pod_core_cache_offset(&v_strides, page, at.slot, item->kv_head) * element_bytes;
        for (; i < run_end; i++, k += k_step, v += v_step) {
            tile->key[i] = k;
            tile->value[i] = v;
        }
    }
    for (int32_t i = 0; i < CPU_TILE_TOKENS; i++) {
        if (i >= tile->first && i < tile->end) continue;
        tile->key[i] = tile->key[tile->first];
        tile->value[i] = tile_no_value;
    }
    return 1;
}

/** The keys of the tile that a token of the item's request sees, counted from the tile's first; maybe none. */
static inline pod_key_range tile_visible(const cpu_job *job, const cpu_item *item, const cpu_tile *tile,
                                         int32_t token) {
    pod_key_range keys = pod_core_visible(job->shape, &item->request, token, token + 1);
    keys.begin = pod_core_max(keys.begin - tile->key_begin, tile->first);
    keys.end = pod_core_min(keys.end - tile->key_begin, tile->end);
    return keys;
}

/** The first of the tile's keys that words of a tree mask tell of, counted from the tile's first; behind its keys if
 * they tell of none. */
static inline int32_t tile_tree_begin(const cpu_job *job, const cpu_item *item, const cpu_tile *tile) {
    if (job->tensors->tree_mask == NULL) return CPU_TILE_TOKENS;
    int32_t begin = pod_core_tree_begin(&item->request) - tile->key_begin;
    return pod_core_min(pod_core_max(begin, tile->first), CPU_TILE_TOKENS);
}

/** Whether a token's word of the tree mask shows a key of the tile from tile_tree_begin() on. */
static inline int tile_tree_shows(const cpu_job *job, const cpu_item *item, const cpu_tile *tile, int32_t token,
                                  int32_t key) {
    uint64_t word = job->tensors->tree_mask[item->request.q_begin + token];
    return pod_core_tree_shows(word, tile->key_begin + key - pod_core_tree_begin(&item->request));
}

/** Whether some row of the item does not see some key of the tile. */
static inline int tile_is_masked(const cpu_job *job, const cpu_item *item, const cpu_tile *tile) {
    int32_t group = job->shape->group; /* later tokens see further on both ends */
    return tile_tree_begin(job, item, tile) < tile->end ||
           tile_visible(job, item, tile, (item->row_begin + item->num_rows - 1) / group).begin > 0 ||
           tile_visible(job, item, tile, item->row_begin / group).end < CPU_TILE_TOKENS;
}

/** Asks for a row of the cache that will be read soon; as far as L2, whose prefetches wait for nothing in L1. */
static inline void prefetch_row(const char *row, int64_t row_bytes) {
    for (int64_t i = 0; i < row_bytes; i += 64) __builtin_prefetch(row + i, 0, 1);
}
