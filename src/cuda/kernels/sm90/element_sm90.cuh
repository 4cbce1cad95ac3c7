/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between bf16 and f16 on sm_90a. */
#ifndef POD_SM90_ELEMENT_CUH
#define POD_SM90_ELEMENT_CUH

#include "cuda/kernels/element.cuh"
#include "cuda/kernels/ptx/wgmma.cuh"

struct sm90_bf16 : pod_element_bf16, wgmma_bf16 {};
struct sm90_f16 : pod_element_f16, wgmma_f16 {};

#endif
