/* SPDX-License-Identifier: Apache-2.0 */
/* Floats to e4m3 on any chip: CUDA's own header takes the instruction where there is one (9.7.9.22, from compute
 * capability 8.9 on) and computes the same bits elsewhere. */
#ifndef POD_PTX_CVT_F8_CUH
#define POD_PTX_CVT_F8_CUH

#include <cuda_fp8.h>

/** To the nearest even, saturating at 448; `low` in the low byte. */
static __device__ __forceinline__ uint32_t cvt_to_f8e4m3x2(float low, float high) {
    return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
}

#endif
