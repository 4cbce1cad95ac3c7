/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/cuda_variants.h"

#include "families/families.h"
#include "families/tilings.h"

enum { POD_DTYPE_f16 = POD_F16, POD_DTYPE_bf16 = POD_BF16 };

#define POD_VARIANT(arch_, job_, dtype_, dim, ctas, threads_, rows, keys, drows, smem)                                 \
    {.kernel = "pod_" #arch_ "_" #job_ "_" #dtype_ "_d" #dim "_c" #ctas,                                               \
     .family = #arch_,                                                                                                 \
     .image = "attention_" #arch_,                                                                                     \
     .arch = POD_ARCH_##arch_,                                                                                         \
     .job = POD_JOB_##job_,                                                                                            \
     .dtype = (pod_dtype)POD_DTYPE_##dtype_,                                                                           \
     .head_dim = dim,                                                                                                  \
     .ctas_per_sm = ctas,                                                                                              \
     .threads = threads_,                                                                                              \
     .prefill_tile_rows = rows,                                                                                        \
     .prefill_tile_tokens = keys,                                                                                      \
     .decode_rows = drows,                                                                                             \
     .smem_bytes = smem},
const pod_cuda_variant pod__cuda_variants[POD_CUDA_NUM_VARIANTS] = {
#include "cuda/kernels/variants.def"
};

int pod__cuda_arch_runs(int32_t arch, const pod_cuda_chip *chip) {
    if (arch != POD_ARCH_sm90) return 1;
    return chip->capability == 90 && chip->has_tensor_maps; /* sm_90a is no other chip's */
}

int pod__cuda_fits_options(int32_t row, const pod_cuda_options *options) {
    const pod_cuda_variant *variant = &pod__cuda_variants[row];
    if (options->arch != POD_ARCH_ANY && options->arch != variant->arch) return 0;
    if (options->ctas_per_sm != 0 && options->ctas_per_sm != variant->ctas_per_sm) return 0;
    if (options->policy != POD_POLICY_ANY && variant->arch != POD_ARCH_sm80) return 0;
    return options->fusion == variant->job;
}

static int fits_shape(const pod_cuda_variant *variant, const pod_limits *limits) {
    return variant->dtype == limits->q_dtype && variant->head_dim == limits->head_dim;
}

static int fits(int32_t row, const pod_cuda_options *options, const pod_cuda_chip *chip, const pod_limits *limits) {
    const pod_cuda_variant *variant = &pod__cuda_variants[row];
    if (chip->resident_ctas[row] == 0 || !pod__cuda_fits_options(row, options)) return 0;
    if (limits == NULL) return 1;
    return fits_shape(variant, limits) && (variant->arch != POD_ARCH_sm90 || pod__sm90_takes(limits));
}

/** Whether two rows differ only in how many CTAs share an SM. */
static int are_alike(const pod_cuda_variant *a, const pod_cuda_variant *b) {
    return a->arch == b->arch && a->job == b->job && a->dtype == b->dtype && a->head_dim == b->head_dim;
}

int32_t pod__cuda_find_variant(const pod_cuda_options *options, const pod_cuda_chip *chip, const pod_limits *limits) {
    int32_t best = -1;
    for (int32_t i = 0; i < POD_CUDA_NUM_VARIANTS; i++) {
        if (!fits(i, options, chip, limits)) continue;
        if (best >= 0 && !are_alike(&pod__cuda_variants[best], &pod__cuda_variants[i])) continue;
        if (best >= 0 && chip->resident_ctas[i] <= chip->resident_ctas[best]) continue;
        best = i;
        if (chip->resident_ctas[i] >= pod__cuda_variants[i].ctas_per_sm) return i;
    }
    return best;
}

int32_t pod__cuda_ctas_per_sm(int32_t row, const pod_cuda_chip *chip) {
    return pod_core_min(pod__cuda_variants[row].ctas_per_sm, chip->resident_ctas[row]);
}

/** Whether some sm90 row has the shape and passes the options. */
static int has_sm90(const pod_cuda_options *options, const pod_limits *limits) {
    for (int32_t i = 0; i < POD_CUDA_NUM_VARIANTS; i++) {
        const pod_cuda_variant *variant = &pod__cuda_variants[i];
        if (variant->arch != POD_ARCH_sm90 || !fits_shape(variant, limits)) continue;
        if (options == NULL || pod__cuda_fits_options(i, options)) return 1;
    }
    return 0;
}

void pod__cuda_explain_variant(const pod_cuda_options *options, const pod_cuda_chip *chip, const pod_limits *limits,
                               char *note, size_t bytes) {
    int32_t row = pod__cuda_find_variant(options, chip, limits);
    *note = '\0';
    if (row >= 0 && pod__cuda_variants[row].arch == POD_ARCH_sm90) return;
    if (chip->capability != 90) {
        snprintf(note, bytes, "sm90: the chip's compute capability is %d.%d, not 9.0", chip->capability / 10,
                 chip->capability % 10);
    } else if (!chip->has_tensor_maps) {
        snprintf(note, bytes, "sm90: the driver is too old: it has no cuTensorMapEncodeTiled");
    } else if (!has_sm90(NULL, limits)) {
        snprintf(note, bytes, "sm90: no kernel for %s, head_dim = %d", pod_dtype_name(limits->q_dtype),
                 limits->head_dim);
    } else if (!has_sm90(options, limits)) {
        snprintf(note, bytes, "sm90: the options of the device's name ask for another kernel");
    } else if (!pod__sm90_takes(limits)) {
        pod__sm90_note(limits, note, bytes);
    } else {
        snprintf(note, bytes, "sm90: its kernel does not load on this chip");
    }
}

pod_tiling pod__cuda_tiling(int32_t row, const pod_cuda_chip *chip) {
    const pod_cuda_variant *variant = &pod__cuda_variants[row];
    int is_sm90 = variant->arch == POD_ARCH_sm90;
    pod_tiling tiling = is_sm90 ? pod__tiling_sm90(chip->num_sms) : pod__tiling_sm80(chip->num_sms);
    if (!is_sm90) {
        tiling.num_ctas = pod__cuda_ctas_per_sm(row, chip) * chip->num_sms;
        tiling.num_prefill_ctas = (tiling.num_ctas + 1) / 2;
        tiling.num_lone_ctas = tiling.num_ctas;
    }
    tiling.prefill_tile_rows = variant->prefill_tile_rows;
    tiling.prefill_tile_tokens = variant->prefill_tile_tokens;
    tiling.decode_rows = variant->decode_rows;
    return tiling;
}
