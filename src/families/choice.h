/* SPDX-License-Identifier: Apache-2.0 */
/* The one choice of a kernel, for GPUs and for what plays them: from a chip, the options of a device's name and limits
 * to a row of variants.def, or to the reason why there is none. */
#ifndef POD_FAMILIES_CHOICE_H
#define POD_FAMILIES_CHOICE_H

#include "families/gpu_options.h"

/** A row of variants.def. */
typedef struct pod_variant {
    const char *kernel; /**< "pod_sm80_fused_bf16_d128_c2" */
    const char *image;  /**< that holds it: "sm80_fused" */
    const pod_family *family;
    const pod_tiles *tiles;
    pod_dtype dtype;    /**< of q and out */
    pod_dtype kv_dtype; /**< of k and v */
} pod_variant;

enum {
#define POD_VARIANT(family, job, dtype, dim, ctas) +1
    POD_NUM_VARIANTS = 0
#include "families/variants.def"
};
extern const pod_variant pod__variants[POD_NUM_VARIANTS];

/** What the choice depends on besides the options and the limits. */
typedef struct pod_chip {
    int32_t capability; /**< 10 * major + minor */
    int32_t num_sms;
    int32_t has_tensor_maps;                 /**< the driver encodes them */
    int32_t resident_ctas[POD_NUM_VARIANTS]; /**< of a row's kernel that an SM holds; 0: it does not run here */
} pod_chip;

/** What a backend decided for limits; a plan keeps it. */
typedef struct pod_choice {
    int32_t kernel; /**< row of variants.def: a GPU's; -1 on a CPU, whose kernels take all limits alike */
    pod_tiling tiling;
    char kernel_name[64];
    char note[256]; /**< why that is none of the fastest family; or "" */
} pod_choice;

/** Whether machine code of the family runs on the chip and its driver; otherwise `reason` says why not. */
int pod__family_runs(const pod_family *family, const pod_chip *chip, char *reason, size_t bytes);

/** Fills in `resident_ctas` from what an SM and a CTA may have of shared memory: on a chip that is not there to ask. */
void pod__chip_estimate(pod_chip *chip, int32_t sm_smem_bytes, int32_t cta_smem_bytes);

/** POD_E_NO_DEVICE if the chip runs no kernel that the options allow. */
pod_status pod__check_chip(const pod_chip *chip, const pod_gpu_options *options, const char *chip_name);

/**
 * The kernel that serves the limits: of the fastest family that takes them, and of its kernels the first whose CTAs all
 * fit on an SM at the same time, since the two kinds of work overlap only between CTAs that do; otherwise the one with
 * the most there. POD_E_UNSUPPORTED, naming field and value, if there is none.
 */
pod_status pod__choose_kernel(const pod_chip *chip, const pod_gpu_options *options, const pod_limits *limits,
                              pod_choice *choice);

/** POD_E_UNSUPPORTED, naming the field of a call, if the chosen kernel is not made for all masks. `limit`: the field of
 * limits that would have chosen one. */
pod_status pod__choice_check_mask(const pod_choice *choice, const char *field, const char *limit);

/** The same for what the masks of a batch ask for. */
pod_status pod__choice_check_masks(const pod_choice *choice, const pod_mask *masks, int32_t num_masks);

/** The same of the CPU's kernels of that name. */
pod_status pod__choose_cpu(const char *kernel_name, const pod_limits *limits, pod_choice *choice);

/** The family and the number of CTAs that describe the device, whatever the limits; after pod__check_chip(). */
const pod_family *pod__chip_family(const pod_chip *chip, const pod_gpu_options *options, int32_t *num_ctas);

/** Calls `visit` for every kernel that runs on the chip, in the table's order, until it returns non-zero. */
void pod__chip_visit(const pod_chip *chip, int (*visit)(void *context, const pod_kernel_info *info), void *context);

#endif
