/* SPDX-License-Identifier: Apache-2.0 */
/* sm_90a, absorbed MLA: one persistent CTA per SM that takes both kinds of work, one piece after the other. */
#include "families/gpu_takes.h"
#include "families/gpu_tiles.h"

enum { HOPPER_CAPABILITY = 90 /* sm_90a is no other chip's */ };

const pod_tiles pod__tiles_sm90mla[] = {
#define POD_SM90MLA_TILES(job, dim, ctas, vdim, threads, rows, keys, drows, dkeys, smem)                               \
    {POD_GPU_TILE_FIELDS(job, dim, ctas, threads, rows, keys, drows, dkeys, smem), .v_head_dim = vdim,                 \
     .has_values_in_keys = 1},
#include "families/sm90mla_tiles.def"
};

const pod_family pod__family_sm90mla = {
    .name = "sm90mla",
    .min_capability = HOPPER_CAPABILITY,
    .max_capability = HOPPER_CAPABILITY,
    .is_special = 1,
    .tiles = pod__tiles_sm90mla,
    .num_tiles = sizeof pod__tiles_sm90mla / sizeof pod__tiles_sm90mla[0],
    .takes = pod__gpu_takes,
    .sharing =
        {
            .cluster_ctas = 1,
            .binds_ctas = 0,
            .slices_per_sm = 1,
            .steady_slices_per_sm = 1,
            .min_slice_tiles = 8,
            .part_cost_64ths = 16, /* many parts are joined in groups, at the same time */
            .min_part_tiles = 4,
            .keep_cost_16ths = 16,
            .parts_per_cta = 2,
            .shares_eighths = {8, 16},
            .lone_shares_eighths = {8, 16},
            .prefill_tile_cost = 1,
            .decode_tile_cost = 1,
        },
    .drawing = {.row_name = "SM", .sms_per_row = 1},
};
