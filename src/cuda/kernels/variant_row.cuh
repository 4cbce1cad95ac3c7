/* SPDX-License-Identifier: Apache-2.0 */
/* From a row of variants.def to a kernel. The family's file defines KERNEL_<arch>_<job>(NAME, DTYPE, HEAD_DIM, CTAS,
 * THREADS, ROWS, KEYS, DROWS, SMEM) for its own rows, and as nothing for the others'. */
#ifndef POD_CUDA_VARIANT_ROW_CUH
#define POD_CUDA_VARIANT_ROW_CUH

/** A row of variants.def says what the kernel has; the compiler's note names both numbers where they differ. */
template <int HAS, int ROW_SAYS> struct row_matches {
    static_assert(HAS == ROW_SAYS, "variants.def and the kernel differ");
};

#define POD_VARIANT(ARCH, JOB, DTYPE, HEAD_DIM, CTAS, THREADS, ROWS, KEYS, DROWS, SMEM)                                \
    KERNEL_##ARCH##_##JOB(pod_##ARCH##_##JOB##_##DTYPE##_d##HEAD_DIM##_c##CTAS, DTYPE, HEAD_DIM, CTAS, THREADS, ROWS,  \
                          KEYS, DROWS, SMEM)

#endif
