/* SPDX-License-Identifier: Apache-2.0 */
/* The sm90 kernels of variants.def, compiled from their own source for the emulator. */
#include "wgmma.hpp"

#include "emulated_kernel.hpp"

#include "cuda/kernels/sm90/attention_sm90.cu"

#undef KERNEL_sm90_fused
#define KERNEL_sm90_fused(NAME, DTYPE, HEAD_DIM, CTAS) {#NAME, CLUSTER_CTAS, shape_sm90<HEAD_DIM>::THREADS, NAME},

const std::vector<emulated_kernel> emulated_sm90 = {
#define POD_VARIANT(FAMILY, JOB, DTYPE, HEAD_DIM, CTAS)                                                                \
    KERNEL_##FAMILY##_##JOB(pod_##FAMILY##_##JOB##_##DTYPE##_d##HEAD_DIM##_c##CTAS, DTYPE, HEAD_DIM, CTAS)
#include "families/variants.def"
};
