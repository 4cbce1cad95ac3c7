/* SPDX-License-Identifier: Apache-2.0 */
/* What passes between the parts of the CPU backend: one call of pod_attention() (job), one piece of its plan (item),
 * and the memory that a thread works in while it computes one (scratch). */
#ifndef POD_CPU_JOB_H
#define POD_CPU_JOB_H

#include "backend/backend.h"
#include "base/bounds.h"
#include "families/family.h"

enum {
#define POD_CPU_TILES(rows, keys, drows, dkeys) CPU_TILE_ROWS = rows, CPU_TILE_TOKENS = keys
#include "families/cpu_tiles.def"
};

typedef struct cpu_job {
    const pod_plan *plan;
    const pod_shape *shape;
    const pod_schedule *schedule;
    const pod_tensors *tensors;
    const pod_cache *cache;
    int32_t head_dim, v_head_dim; /**< elements of a query or key, and of a value or result */
    int32_t q_stride, v_stride;   /**< floats from one row of them to the next in scratch: whole vectors */
} cpu_job;

/** Query rows of one request and KV head against a range of its keys. Row = token * group + head in the group. */
typedef struct cpu_item {
    pod_request request;
    int32_t request_idx;
    int32_t kv_head;
    int32_t row_begin, num_rows;
    int32_t tile_begin, num_tiles; /**< KV tiles of CPU_TILE_TOKENS keys */
    int32_t kv_begin, kv_end;      /**< of their keys, those that any of the rows sees */
} cpu_item;

/** A thread's working memory: calls from several host threads share nothing. Only what the two widths need is touched.
 * Rows are those of the item, counted from 0; `out`, `max` and `sum` are a partial as in merge_core.h. */
typedef struct cpu_scratch {
    _Alignas(64) float out[CPU_TILE_ROWS * POD_MAX_HEAD_DIM]; /**< [row][v_stride] */
    /** [row][q_stride]: a word is a float, or a pair of bf16 */
    _Alignas(64) float query[CPU_TILE_ROWS * POD_MAX_HEAD_DIM];
    _Alignas(64) float keys[CPU_TILE_TOKENS * POD_MAX_HEAD_DIM];   /**< [word][key]; of decode [key][q_stride] */
    _Alignas(64) float values[CPU_TILE_TOKENS * POD_MAX_HEAD_DIM]; /**< [key or pair of keys][v_stride] */
    _Alignas(64) float scores[CPU_TILE_ROWS * CPU_TILE_TOKENS];    /**< [row][key]; then the softmax's weights */
    _Alignas(64) float max[CPU_TILE_ROWS];
    float sum[CPU_TILE_ROWS];
    float factor[CPU_TILE_ROWS]; /**< what this tile's new maximum multiplies the row of `out` with */
} cpu_scratch;

#endif
