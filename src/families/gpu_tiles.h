/* SPDX-License-Identifier: Apache-2.0 */
/* A row of a GPU family's *_tiles.def as a pod_tiles. */
#ifndef POD_FAMILIES_GPU_TILES_H
#define POD_FAMILIES_GPU_TILES_H

#include "families/family.h"

/** The fields that every table has. */
#define POD_GPU_TILE_FIELDS(job_, dim, ctas, threads_, rows, keys, drows, dkeys, smem)                                 \
    .job = POD_JOB_##job_, .head_dim = dim, .ctas_per_sm = ctas, .threads = threads_, .prefill_tile_rows = rows,       \
    .prefill_tile_tokens = keys, .decode_rows = drows, .decode_tile_tokens = dkeys, .smem_bytes = smem

/** The two columns before the last differ between the tables: they are the kernels' alone. */
#define POD_GPU_TILES(job, dim, ctas, threads, rows, keys, drows, dkeys, own_a, own_b, smem)                           \
    {POD_GPU_TILE_FIELDS(job, dim, ctas, threads, rows, keys, drows, dkeys, smem)},

#endif
