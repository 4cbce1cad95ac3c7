/* SPDX-License-Identifier: Apache-2.0 */
/* The sm90 kernels of variants.def, compiled from their own source for the emulator. */
#include "wgmma.hpp"

#include "emulated_kernel.hpp"

#include "cuda/kernels/sm90/attention_sm90.cu"

#undef KERNEL_sm90_fused
#define KERNEL_sm90_fused(NAME, THREADS) {#NAME, CLUSTER_CTAS, THREADS, NAME},

const std::vector<emulated_kernel> emulated_sm90 = {
#define POD_VARIANT(ARCH, JOB, DTYPE, HEAD_DIM, CTAS, THREADS, ROWS, KEYS, DROWS, SMEM)                                \
    KERNEL_##ARCH##_##JOB(pod_##ARCH##_##JOB##_##DTYPE##_d##HEAD_DIM##_c##CTAS, THREADS)
#include "cuda/kernels/variants.def"
};
