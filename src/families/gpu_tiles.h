/* SPDX-License-Identifier: Apache-2.0 */
/* A row of sm80_tiles.def or sm90_tiles.def as a pod_tiles. */
#ifndef POD_FAMILIES_GPU_TILES_H
#define POD_FAMILIES_GPU_TILES_H

#include "families/family.h"

/** The two columns before the last differ between the tables: they are the kernels' alone. */
#define POD_GPU_TILES(job_, dim, ctas, threads_, rows, keys, drows, dkeys, own_a, own_b, smem)                         \
    {.job = POD_JOB_##job_,                                                                                            \
     .head_dim = dim,                                                                                                  \
     .ctas_per_sm = ctas,                                                                                              \
     .threads = threads_,                                                                                              \
     .prefill_tile_rows = rows,                                                                                        \
     .prefill_tile_tokens = keys,                                                                                      \
     .decode_rows = drows,                                                                                             \
     .decode_tile_tokens = dkeys,                                                                                      \
     .smem_bytes = smem},

#endif
