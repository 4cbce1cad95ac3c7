/* SPDX-License-Identifier: Apache-2.0 */
#define POD_CPU_KERNELS pod__cpu_kernels_avx512
#define POD_CPU_KERNELS_NAME "avx512"
#include "cpu/simd_avx512.h"

#include "cpu/cpu_kernels.inc.h"
