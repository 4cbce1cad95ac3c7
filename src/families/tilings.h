/* SPDX-License-Identifier: Apache-2.0 */
/* How each kernel family cuts its work; the numbers that a device does not know before it is opened (CTAs and what
 * follows from them) are filled in by its backend. */
#ifndef POD_CORE_TILINGS_H
#define POD_CORE_TILINGS_H

#include "schedule/schedule.h"

enum {
    POD_CPU_PREFILL_ROWS = 192, /**< a multiple of the kernels' 6 rows */
    POD_CPU_TILE_TOKENS = 64
};

/** CPU: as many workers on every machine, so that results do not depend on the number of threads. */
static inline pod_tiling pod__tiling_cpu(void) {
    pod_tiling tiling = {.num_ctas = 32,
                         .num_prefill_ctas = 32,
                         .num_lone_ctas = 32,
                         .prefill_tile_rows = POD_CPU_PREFILL_ROWS,
                         .prefill_tile_tokens = POD_CPU_TILE_TOKENS,
                         .decode_rows = 16,
                         .decode_tile_tokens = POD_CPU_TILE_TOKENS,
                         .max_slices = 64,
                         .min_slice_tiles = 8,
                         .min_part_tiles = 8,
                         .max_prefill_waves = 2};
    return tiling;
}

/** sm_80 and later: two CTAs per SM that bind to prefill or decode when they arrive. */
static inline pod_tiling pod__tiling_sm80(int32_t num_sms) {
    pod_tiling tiling = {.num_ctas = 2 * num_sms,
                         .num_prefill_ctas = num_sms,
                         .num_lone_ctas = 2 * num_sms,
                         .prefill_tile_rows = 128,
                         .prefill_tile_tokens = 64,
                         .decode_rows = 16,
                         .decode_tile_tokens = 64,
                         .max_slices = 16 * num_sms,
                         .min_slice_tiles = 8,
                         .min_part_tiles = 8,
                         .max_prefill_waves = 2};
    return tiling;
}

/** sm_90a: one persistent CTA per SM that does both; prefill goes to pairs of CTAs. */
static inline pod_tiling pod__tiling_sm90(int32_t num_sms) {
    int32_t num_pairs = num_sms > 1 ? num_sms / 2 : 1;
    pod_tiling tiling = {.num_ctas = 2 * num_pairs,
                         .num_prefill_ctas = num_pairs,
                         .num_lone_ctas = num_pairs,
                         .prefill_tile_rows = 256,
                         .prefill_tile_tokens = 128,
                         .decode_rows = 32,
                         .decode_tile_tokens = 64,
                         .max_slices = 2 * num_pairs,
                         .min_slice_tiles = 8,
                         .min_part_tiles = 8,
                         .max_prefill_waves = 4};
    return tiling;
}

#endif
