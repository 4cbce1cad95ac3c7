/* SPDX-License-Identifier: Apache-2.0 */
/* sm_80 and later: two or four CTAs per SM that bind to prefill or decode when they arrive. */
#include "families/gpu_takes.h"
#include "families/gpu_tiles.h"

enum { OLDEST_CAPABILITY = 80, ANY_CAPABILITY = INT32_MAX };

const pod_tiles pod__tiles_sm80[] = {
#define POD_SM80_TILES POD_GPU_TILES
#include "families/sm80_tiles.def"
};

const pod_family pod__family_sm80 = {
    .name = "sm80",
    .min_capability = OLDEST_CAPABILITY,
    .max_capability = ANY_CAPABILITY,
    .has_policies = 1,
    .has_all_masks = 1,
    .has_f8 = 1,
    .most_cache_bytes = INT64_C(16) << 32, /* chunks of 16 bytes, counted with 32 bits */
    .tiles = pod__tiles_sm80,
    .num_tiles = sizeof pod__tiles_sm80 / sizeof pod__tiles_sm80[0],
    .takes = pod__gpu_takes,
    .sharing =
        {
            .cluster_ctas = 1,
            .binds_ctas = 1,
            .slices_per_sm = 16,
            .steady_slices_per_sm = 8,
            .min_slice_tiles = 8,
            .part_cost_64ths = 10, /* that of sm90 */
            .min_part_tiles = 8,
            .keep_cost_16ths = 16,
            .parts_per_cta = 2,
            .shares_eighths = {8},
            .lone_shares_eighths = {8, 9}, /* an eighth more: row tiles of nearly one length get as many parts */
            .prefill_tile_cost = 3,        /* those of sm90, whose tiles have other sizes */
            .decode_tile_cost = 2,
        },
    .drawing = {.row_name = "SM", .sms_per_row = 1},
};
