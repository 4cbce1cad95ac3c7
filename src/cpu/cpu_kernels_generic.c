/* SPDX-License-Identifier: Apache-2.0 */
#define POD_CPU_KERNELS pod__cpu_kernels_generic
#define POD_CPU_KERNELS_NAME "generic"
#include "cpu/simd_generic.h"

#include "cpu/cpu_kernels.inc.h"
