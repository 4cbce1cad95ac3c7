/* SPDX-License-Identifier: Apache-2.0 */
/* The sm80 kernels of variants.def, compiled from their own source for the emulator. */
#include "ptx.hpp"

#include "emulated_kernel.hpp"

#include "cuda/kernels/sm80/attention_sm80.cu"

#undef KERNEL_sm80_fused
#undef KERNEL_sm80_hfuse
#define KERNEL_sm80_fused(NAME, THREADS) {#NAME, 1, THREADS, NAME},
#define KERNEL_sm80_hfuse(NAME, THREADS) {#NAME, 1, THREADS, NAME},

const std::vector<emulated_kernel> emulated_sm80 = {
#define POD_VARIANT(ARCH, JOB, DTYPE, HEAD_DIM, CTAS, THREADS, ROWS, KEYS, DROWS, SMEM)                                \
    KERNEL_##ARCH##_##JOB(pod_##ARCH##_##JOB##_##DTYPE##_d##HEAD_DIM##_c##CTAS, THREADS)
#include "cuda/kernels/variants.def"
};
