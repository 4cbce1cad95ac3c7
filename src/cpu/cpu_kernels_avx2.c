/* SPDX-License-Identifier: Apache-2.0 */
#define POD_CPU_KERNELS pod__cpu_kernels_avx2
#define POD_CPU_KERNELS_NAME "avx2"
#include "cpu/simd_avx2.h"

#include "cpu/cpu_kernels.inc.h"
