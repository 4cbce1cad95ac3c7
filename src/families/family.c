/* SPDX-License-Identifier: Apache-2.0 */
#include "families/family.h"

#include "schedule/schedule_core.h"

#include <stdio.h>

const pod_family *const pod__gpu_families[POD_NUM_GPU_FAMILIES] = {&pod__family_sm90, &pod__family_sm90mla,
                                                                   &pod__family_sm80};

pod_tiling pod__family_tiling(const pod_family *family, const pod_tiles *tiles, int32_t num_sms, int32_t ctas_per_sm) {
    const pod_sharing *sharing = tiles->decode_rows > 0 ? &family->sharing : &family->lone_sharing;
    int32_t takers = pod_core_max(1, num_sms * ctas_per_sm / sharing->cluster_ctas);
    int32_t num_ctas = takers * sharing->cluster_ctas, used_sms = num_ctas / ctas_per_sm;
    pod_tiling tiling = {
        .num_ctas = num_ctas,
        .num_prefill_ctas = sharing->binds_ctas ? (takers + 1) / 2 : takers,
        .num_lone_ctas = takers,
        .prefill_tile_rows = tiles->prefill_tile_rows,
        .narrow_rows = sharing->cluster_ctas == 2 ? tiles->prefill_tile_rows / 2 : 0,
        .prefill_tile_tokens = tiles->prefill_tile_tokens,
        .decode_rows = tiles->decode_rows,
        .decode_tile_tokens = tiles->decode_tile_tokens,
        .max_slices = sharing->slices_per_sm * used_sms,
        .max_steady_slices = sharing->steady_slices_per_sm * used_sms,
        .min_slice_tiles = sharing->min_slice_tiles,
        .part_cost_64ths = sharing->part_cost_64ths,
        .min_part_tiles = sharing->min_part_tiles,
        .keep_cost_16ths = sharing->keep_cost_16ths,
        .join_cost_16ths = sharing->join_cost_16ths,
        .max_parts = sharing->parts_per_cta * num_ctas,
        .partial_columns = tiles->v_head_dim != 0 ? tiles->v_head_dim : tiles->head_dim,
        .prefill_tile_cost = sharing->prefill_tile_cost,
        .decode_tile_cost = sharing->decode_tile_cost,
    };
    for (int32_t i = 0; i < POD_MAX_SHARES; i++) {
        tiling.shares_eighths[i] = sharing->shares_eighths[i];
        tiling.lone_shares_eighths[i] = sharing->lone_shares_eighths[i];
    }
    return tiling;
}

pod_kernel_info pod__family_kernel_info(const pod_family *family, int32_t ctas_per_sm) {
    const pod_drawing *drawing = &family->drawing;
    pod_kernel_info info = pod_kernel_info_init();
    snprintf(info.family, sizeof info.family, "%s", family->name);
    snprintf(info.row_name, sizeof info.row_name, "%s", drawing->row_name);
    info.ctas_per_row = drawing->sms_per_row * ctas_per_sm;
    info.has_fixed_lanes = drawing->has_fixed_lanes;
    info.num_lanes = drawing->has_fixed_lanes ? 2 : info.ctas_per_row;
    return info;
}

int pod__family_fits(const pod_family *family, const pod_limits *limits) {
    for (int32_t i = 0; i < family->num_tiles; i++) {
        if (pod__tiles_fit(&family->tiles[i], limits)) return 1;
    }
    return 0;
}

const char *pod__asks_for_all_masks(const pod_limits *limits) {
    if (limits->tree_masks) return "tree_masks";
    if (limits->alibi) return "alibi";
    return limits->right_windows ? "right_windows" : NULL;
}
