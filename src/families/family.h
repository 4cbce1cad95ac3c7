/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel family as a record: everything that the library knows of it outside its kernels. One file per family:
 * family_cpu.c, family_sm80.c, family_sm90.c, family_sm90mla.c. Their tile numbers are in *_tiles.def, which the
 * kernels read too. */
#ifndef POD_FAMILIES_FAMILY_H
#define POD_FAMILIES_FAMILY_H

#include "podattn.h"
#include "schedule/schedule.h"

/** What a CTA of a kernel does. */
typedef enum pod_job {
    POD_JOB_fused = 0, /**< the two kinds of work meet on an SM */
    POD_JOB_padded,    /**< the same for keys and values of up to head_dim elements, whose tiles are filled up with
                            zeros, and for all masks: trees, ALiBi, windows to the right */
    POD_JOB_hfuse      /**< both kinds of warps in one CTA, in fixed pairs of work: a baseline */
} pod_job;

/** The tiles of a family's kernels for one job, head_dim and number of CTAs per SM. */
typedef struct pod_tiles {
    int32_t job;         /**< a pod_job */
    int32_t head_dim;    /**< columns of a tile; 0: any */
    int32_t ctas_per_sm; /**< that the kernel is made for */
    int32_t threads;     /**< of a CTA */
    int32_t prefill_tile_rows;
    int32_t prefill_tile_tokens;
    int32_t decode_rows;
    int32_t decode_tile_tokens;
    int32_t smem_bytes;         /**< dynamic shared memory of a CTA */
    int32_t v_head_dim;         /**< columns of values; 0: as many as of keys */
    int32_t has_values_in_keys; /**< values are the first elements of keys, and have no memory of their own */
} pod_tiles;

/** Elements of a value, which limits that nobody took yet may leave at 0. */
static inline int32_t pod__v_head_dim(const pod_limits *limits) {
    return limits->v_head_dim != 0 ? limits->v_head_dim : limits->head_dim;
}

/** Whether the tiles are for rows of so many elements. */
static inline int pod__tiles_hold(const pod_tiles *tiles, int32_t dim) {
    return tiles->job == POD_JOB_padded ? dim <= tiles->head_dim : dim == tiles->head_dim;
}

/** Whether they are for such keys and values. */
static inline int pod__tiles_fit(const pod_tiles *tiles, const pod_limits *limits) {
    if (tiles->v_head_dim != 0)
        return limits->head_dim == tiles->head_dim && pod__v_head_dim(limits) == tiles->v_head_dim;
    return pod__tiles_hold(tiles, limits->head_dim) && pod__tiles_hold(tiles, pod__v_head_dim(limits));
}

/** How a family shares work among its CTAs: the numbers from which pod__family_tiling() makes what the planner reads.
 */
typedef struct pod_sharing {
    /** CTAs that take a prefill ticket together, 1 or 2: of two, each has half of the tile's rows, or a narrow tile of
     * its own. Workers that do not fill a cluster stay away. */
    int32_t cluster_ctas;
    /** Every CTA (or cluster) binds to one kind of work: while both last, half of them are left to decode. Otherwise
     * each does both at the same time, and all take prefill. */
    int32_t binds_ctas;
    /** Slices of the decode line, per SM, at most. Short ones are for decode that makes way for prefill again and
     * again; where there is so little prefill that it does not, there are only `steady_slices_per_sm`. */
    int32_t slices_per_sm, steady_slices_per_sm;
    int32_t min_slice_tiles; /**< a slice is not made shorter than this once every CTA has one */
    int32_t part_cost_64ths; /**< what joining a part of a decode takes, in 64ths of what one of its tiles takes */
    int32_t min_part_tiles;  /**< a part of a split prefill tile is not made shorter than this */
    int32_t keep_cost_16ths; /**< what splitting a prefill tile takes, in 16ths of what one takes */
    int32_t join_cost_16ths; /**< what joining one of its parts takes, in 16ths of what a prefill tile takes */
    int32_t parts_per_cta;   /**< room for parts of split prefill tiles; as pod_tiling.max_parts */
    /** Candidates for the number of shares that prefill is cut into, in eighths of the CTAs that take it; the planner
     * takes the one that ends first. Beside decode, and without any. Zeros at the end are none. */
    int32_t shares_eighths[POD_MAX_SHARES], lone_shares_eighths[POD_MAX_SHARES];
    /** What a tile of each kind costs, in any unit. Decode lasts longer, and keeps its CTAs, where its tiles cost more
     * than all of prefill. */
    int32_t prefill_tile_cost, decode_tile_cost;
} pod_sharing;

/** How a picture of a schedule shows the family. A row is what shares tensor cores and memory bandwidth. */
typedef struct pod_drawing {
    const char *row_name;    /**< "SM", "pair", "worker" */
    int32_t sms_per_row;     /**< workers on a CPU */
    int32_t has_fixed_lanes; /**< lane 0 is prefill's alone and lane 1 decode's; otherwise each CTA is a lane */
} pod_drawing;

typedef struct pod_family pod_family;
struct pod_family {
    const char *name;       /**< "sm80": of the device option kernel=, and in the kernels' names */
    int32_t min_capability; /**< chips that it runs on: 10 * major + minor; 0: a CPU */
    int32_t max_capability;
    int32_t needs_tensor_maps; /**< the driver has to encode them */
    int32_t has_policies;      /**< of how CTAs bind: the device option policy= asks for this family */
    int32_t has_all_masks;     /**< in its padded kernels: trees, ALiBi, windows to the right */
    int32_t has_f8;            /**< kernels for caches of f8e4m3, beside those for caches of q's dtype */
    int64_t most_cache_bytes;  /**< of K, and of V, that it can count; 0: no bound */
    int32_t is_special;        /**< for limits of some widths alone: where others are asked for, it does not count */
    const pod_tiles *tiles;
    int32_t num_tiles;
    /** Whether it serves the limits; otherwise `reason` names field and value. The one place that says so. */
    int (*takes)(const pod_family *family, const pod_limits *limits, char *reason, size_t bytes);
    pod_sharing sharing;
    pod_sharing lone_sharing; /**< of tiles without decode work; zeros where there are none */
    pod_drawing drawing;
};

/** Whether it has tiles for such keys and values. */
int pod__family_fits(const pod_family *family, const pod_limits *limits);

extern const pod_family pod__family_cpu, pod__family_sm80, pod__family_sm90, pod__family_sm90mla;
extern const pod_tiles pod__tiles_cpu[], pod__tiles_sm80[], pod__tiles_sm90[], pod__tiles_sm90mla[];

/** The GPU's families, the fastest first. */
enum { POD_NUM_GPU_FAMILIES = 3 };
extern const pod_family *const pod__gpu_families[POD_NUM_GPU_FAMILIES];

/** How work is cut for tiles of the family, on `num_sms` SMs that hold `ctas_per_sm` of its CTAs each. */
pod_tiling pod__family_tiling(const pod_family *family, const pod_tiles *tiles, int32_t num_sms, int32_t ctas_per_sm);

/** What is said of a kernel of the family with so many CTAs on an SM, apart from its name and shape. */
pod_kernel_info pod__family_kernel_info(const pod_family *family, int32_t ctas_per_sm);

/** On a CPU: as many workers on every machine, so that results do not depend on the number of threads. */
pod_tiling pod__cpu_tiling(void);

/** The first field that asks for a kernel which is made for all masks: "tree_masks", "alibi" or "right_windows"; NULL
 * if none does. */
const char *pod__asks_for_all_masks(const pod_limits *limits);

/** Whether no request of these limits has a second page. */
static inline int pod__has_one_page(const pod_limits *limits) {
    return limits->max_kv_len <= limits->page_size;
}

#endif
