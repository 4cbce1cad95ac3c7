/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU: every worker does one piece of work after the other. */
#include "families/family.h"

#include <stdio.h>

enum { NUM_WORKERS = 32 };

const pod_tiles pod__tiles_cpu[] = {
#define POD_CPU_TILES(rows, keys, drows, dkeys)                                                                        \
    {.ctas_per_sm = 1,                                                                                                 \
     .prefill_tile_rows = rows,                                                                                        \
     .prefill_tile_tokens = keys,                                                                                      \
     .decode_rows = drows,                                                                                             \
     .decode_tile_tokens = dkeys},
#include "families/cpu_tiles.def"
};

/** Of q or out; a cache may have any dtype. */
static int takes_dtype(const char *field, pod_dtype dtype, char *reason, size_t bytes) {
    if (dtype != POD_F8E4M3) return 1;
    snprintf(reason, bytes, "%s f8e4m3 is not supported by the cpu backend; f32, f16 and bf16 are", field);
    return 0;
}

static int cpu_takes(const pod_family *family, const pod_limits *limits, char *reason, size_t bytes) {
    (void)family;
    if (limits->batch_memory == POD_MEMORY_DEVICE) {
        snprintf(reason, bytes, "batch_memory = POD_MEMORY_DEVICE is not supported by the cpu backend");
        return 0;
    }
    return takes_dtype("q_dtype", limits->q_dtype, reason, bytes) &&
           takes_dtype("out_dtype", limits->out_dtype, reason, bytes);
}

const pod_family pod__family_cpu = {
    .name = "cpu",
    .tiles = pod__tiles_cpu,
    .num_tiles = sizeof pod__tiles_cpu / sizeof pod__tiles_cpu[0],
    .takes = cpu_takes,
    .sharing =
        {
            .cluster_ctas = 1,
            .binds_ctas = 0,
            .slices_per_sm = 2,
            .steady_slices_per_sm = 2,
            .min_slice_tiles = 8,
            .min_part_tiles = 8,
            .keep_cost_16ths = 16,
            .parts_per_cta = 2,
            .shares_eighths = {8, 16},
            .lone_shares_eighths = {8, 16},
            .prefill_tile_cost = 3, /* without effect: all workers take prefill, whichever lasts longer */
            .decode_tile_cost = 2,
        },
    .drawing = {.row_name = "worker", .sms_per_row = 1},
};

pod_tiling pod__cpu_tiling(void) {
    return pod__family_tiling(&pod__family_cpu, pod__tiles_cpu, NUM_WORKERS, 1);
}
