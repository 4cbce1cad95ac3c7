/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_variants.h"

#include "tilings.h"

enum { POD_DTYPE_f16 = POD_F16, POD_DTYPE_bf16 = POD_BF16 };

#define POD_VARIANT(arch_, job_, dtype_, dim, ctas, threads_, rows, keys, drows, smem)                                 \
    {.kernel = "pod_" #arch_ "_" #job_ "_" #dtype_ "_d" #dim "_c" #ctas,                                               \
     .family = #arch_,                                                                                                 \
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
#include "kernels/variants.def"
};

int pod__cuda_fits_options(int32_t row, const pod_cuda_options *options) {
    const pod_cuda_variant *variant = &pod__cuda_variants[row];
    if (options->arch != POD_ARCH_ANY && options->arch != variant->arch) return 0;
    if (options->ctas_per_sm != 0 && options->ctas_per_sm != variant->ctas_per_sm) return 0;
    return options->fusion == variant->job;
}

int32_t pod__cuda_find_variant(const pod_cuda_options *options, const pod_limits *limits) {
    for (int32_t i = 0; i < POD_CUDA_NUM_VARIANTS; i++) {
        const pod_cuda_variant *variant = &pod__cuda_variants[i];
        if (variant->dtype != limits->q_dtype || variant->head_dim != limits->head_dim) continue;
        if (pod__cuda_fits_options(i, options)) return i;
    }
    return -1;
}

pod_tiling pod__cuda_tiling(const pod_cuda_variant *variant, int32_t num_sms) {
    pod_tiling tiling = pod__tiling_sm80(num_sms);
    tiling.num_ctas = variant->ctas_per_sm * num_sms;
    tiling.num_prefill_ctas = (tiling.num_ctas + 1) / 2;
    tiling.prefill_tile_rows = variant->prefill_tile_rows;
    tiling.prefill_tile_tokens = variant->prefill_tile_tokens;
    tiling.decode_rows = variant->decode_rows;
    return tiling;
}
