/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of kernels/variants.def as data, and the choice among them. */
#ifndef POD_CUDA_VARIANTS_H
#define POD_CUDA_VARIANTS_H

#include "cuda/cuda_options.h"
#include "schedule/schedule_core.h"

typedef struct pod_cuda_variant {
    const char *kernel; /**< "pod_sm80_fused_bf16_d128_c2" */
    const char *family; /**< "sm80" */
    const char *image;  /**< that holds it: "attention_sm80" */
    int32_t arch;       /**< a pod_cuda_arch */
    int32_t job;        /**< a pod_cuda_job */
    pod_dtype dtype;    /**< of q, k, v and out */
    int32_t head_dim;
    int32_t ctas_per_sm;
    int32_t threads;
    int32_t prefill_tile_rows;
    int32_t prefill_tile_tokens;
    int32_t decode_rows;
    int32_t smem_bytes; /**< dynamic */
} pod_cuda_variant;

enum {
#define POD_VARIANT(arch, job, dtype, dim, ctas, threads, rows, keys, drows, smem) +1
    POD_CUDA_NUM_VARIANTS = 0
#include "cuda/kernels/variants.def"
};
extern const pod_cuda_variant pod__cuda_variants[POD_CUDA_NUM_VARIANTS];

/** What the choice depends on besides the options and the limits. */
typedef struct pod_cuda_chip {
    int32_t capability; /**< 10 * major + minor */
    int32_t num_sms;
    int32_t has_tensor_maps;                      /**< the driver encodes them */
    int32_t resident_ctas[POD_CUDA_NUM_VARIANTS]; /**< of a row's kernel on an SM at once; 0: it does not run here */
} pod_cuda_chip;

/** Whether machine code of the family runs on the chip and its driver. */
int pod__cuda_arch_runs(int32_t arch, const pod_cuda_chip *chip);

/** Whether the options of a device's name allow the row. */
int pod__cuda_fits_options(int32_t row, const pod_cuda_options *options);

/**
 * The row that serves the limits on this chip and with these options; -1 if none does. Of several the first whose CTAs
 * all fit on an SM at once, since the two kinds of work overlap only between CTAs that do; else the one with the most
 * there. `limits` NULL: whatever they are, to describe the device.
 */
int32_t pod__cuda_find_variant(const pod_cuda_options *options, const pod_cuda_chip *chip, const pod_limits *limits);

/** CTAs of a row on an SM: as many as it is made for, or as fit. */
int32_t pod__cuda_ctas_per_sm(int32_t row, const pod_cuda_chip *chip);

/** Why that is no sm90 row: "sm90: page_size = 1 is ..."; "" if it is one. */
void pod__cuda_explain_variant(const pod_cuda_options *options, const pod_cuda_chip *chip, const pod_limits *limits,
                               char *note, size_t bytes);

/** How work is cut for a row. */
pod_tiling pod__cuda_tiling(int32_t row, const pod_cuda_chip *chip);

#endif
