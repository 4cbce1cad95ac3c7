/* SPDX-License-Identifier: Apache-2.0 */
/* sm_90a: one persistent CTA per SM whose warpgroups do both kinds of work; prefill goes to pairs of CTAs. */
#include "families/gpu_takes.h"
#include "families/gpu_tiles.h"

#include <stdio.h>

enum { HOPPER_CAPABILITY = 90 /* sm_90a is no other chip's */ };

/** Tokens of the smallest box that the kernels copy; they cut pages into whole boxes. */
enum { MIN_BOX_TOKENS = 8 };

const pod_tiles pod__tiles_sm90[] = {
#define POD_SM90_TILES(job, dim, ctas, vdim, threads, rows, keys, drows, dkeys, pairs, dslots, smem)                   \
    {POD_GPU_TILE_FIELDS(job, dim, ctas, threads, rows, keys, drows, dkeys, smem),                                     \
     .v_head_dim = vdim != dim ? vdim : 0},
#include "families/sm90_tiles.def"
};

static int sm90_takes(const pod_family *family, const pod_limits *limits, char *reason, size_t bytes) {
    if (!pod__gpu_takes(family, limits, reason, bytes)) return 0;
    if (limits->page_size % MIN_BOX_TOKENS == 0 || pod__has_one_page(limits)) return 1;
    snprintf(reason, bytes, "page_size = %d is no multiple of %d and max_kv_len = %d is more than a page",
             limits->page_size, MIN_BOX_TOKENS, limits->max_kv_len);
    return 0;
}

const pod_family pod__family_sm90 = {
    .name = "sm90",
    .min_capability = HOPPER_CAPABILITY,
    .max_capability = HOPPER_CAPABILITY,
    .needs_tensor_maps = 1,
    .tiles = pod__tiles_sm90,
    .num_tiles = sizeof pod__tiles_sm90 / sizeof pod__tiles_sm90[0],
    .takes = sm90_takes,
    .sharing =
        {
            .cluster_ctas = 2,
            .binds_ctas = 0,
            .slices_per_sm = 1,
            .steady_slices_per_sm = 1,
            .min_slice_tiles = 32,
            .part_cost_64ths = 40, /* 0.3 us, while a tile of 64 keys takes 0.5 where nothing else is read */
            .min_part_tiles = 4,
            .keep_cost_16ths = 16,
            .join_cost_16ths = 20, /* 2.4 us, while a tile of 128 keys takes 1.9 */
            .parts_per_cta = 4,
            /* Few are for where joining takes longest; an eighth of the CTAs splits next to nothing, and a quarter more
             * than there are gives row tiles of nearly one length as many parts. */
            .shares_eighths = {1, 4, 8, 10, 16, 32},
            .lone_shares_eighths = {1, 4, 8, 10, 16, 32},
            /* Beside decode, a prefill tile takes 2.1 us of an SM, a decode tile 1.0 (H200) to 1.4 (H100). */
            .prefill_tile_cost = 3,
            .decode_tile_cost = 2,
        },
    /* There is no decode line, so that what is said of it does not matter. */
    .lone_sharing =
        {
            .cluster_ctas = 2,
            .binds_ctas = 0,
            .slices_per_sm = 1,
            .steady_slices_per_sm = 1,
            .min_slice_tiles = 8,
            .part_cost_64ths = 10,
            .min_part_tiles = 8,
            /* 64 rows of 256 columns come from memory in trips of a microsecond; of decodes, many parts in few trips.
             */
            .keep_cost_16ths = 192,
            .join_cost_16ths = 0,
            .parts_per_cta = 2,
            .shares_eighths = {4, 9, 16}, /* hardly split; in two, although lengths differ; in more */
            .lone_shares_eighths = {4, 9, 16},
            .prefill_tile_cost = 3,
            .decode_tile_cost = 2,
        },
    .drawing = {.row_name = "pair", .sms_per_row = 2, .has_fixed_lanes = 1},
};
