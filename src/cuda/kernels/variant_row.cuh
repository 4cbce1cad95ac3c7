/* SPDX-License-Identifier: Apache-2.0 */
/* From a row of variants.def to a kernel. The family's file defines KERNEL_<family>_<job>(NAME, DTYPE, HEAD_DIM, CTAS)
 * for its own rows, and as nothing for the others'. */
#ifndef POD_CUDA_VARIANT_ROW_CUH
#define POD_CUDA_VARIANT_ROW_CUH

/** The family's table of tiles says how much shared memory a kernel has; the compiler's note names both numbers where
 * they differ. */
template <int HAS, int TABLE_SAYS> struct smem_matches {
    static_assert(HAS == TABLE_SAYS, "the smem column of the tiles and the kernel differ");
};

#define POD_VARIANT(FAMILY, JOB, DTYPE, HEAD_DIM, CTAS)                                                                \
    KERNEL_##FAMILY##_##JOB(pod_##FAMILY##_##JOB##_##DTYPE##_d##HEAD_DIM##_c##CTAS, DTYPE, HEAD_DIM, CTAS)

#endif
