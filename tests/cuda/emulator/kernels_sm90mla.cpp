/* SPDX-License-Identifier: Apache-2.0 */
/* The sm90mla kernels of variants.def, compiled from their own source for the emulator. */
#include "wgmma.hpp"

#include "emulated_kernel.hpp"

#include "cuda/kernels/sm90mla/attention_sm90mla.cu"

#undef KERNEL_sm90mla_fused
#define KERNEL_sm90mla_fused(NAME, DTYPE, HEAD_DIM, CTAS) {#NAME, 1, shape_sm90mla<HEAD_DIM>::THREADS, NAME},

const std::vector<emulated_kernel> emulated_sm90mla = {
#define POD_VARIANT(FAMILY, JOB, DTYPE, HEAD_DIM, CTAS)                                                                \
    KERNEL_##FAMILY##_##JOB(pod_##FAMILY##_##JOB##_##DTYPE##_d##HEAD_DIM##_c##CTAS, DTYPE, HEAD_DIM, CTAS)
#include "families/variants.def"
};
