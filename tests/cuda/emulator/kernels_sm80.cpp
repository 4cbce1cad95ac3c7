/* SPDX-License-Identifier: Apache-2.0 */
/* The sm80 kernels of variants.def, compiled from their own source for the emulator. */
#include "ptx.hpp"

#include "emulated_kernel.hpp"

#include "cuda/kernels/sm80/attention_sm80.cu"

#undef KERNEL_SM80
#define KERNEL_SM80(NAME, JOB, DTYPE, HEAD_DIM, CTAS) {#NAME, 1, shape_sm80<JOB_##JOB, HEAD_DIM, CTAS>::THREADS, NAME},

const std::vector<emulated_kernel> emulated_sm80 = {
#define POD_VARIANT(FAMILY, JOB, DTYPE, HEAD_DIM, CTAS)                                                                \
    KERNEL_##FAMILY##_##JOB(pod_##FAMILY##_##JOB##_##DTYPE##_d##HEAD_DIM##_c##CTAS, DTYPE, HEAD_DIM, CTAS)
#include "families/variants.def"
};
