/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor maps: how the copy engine of sm_90 finds boxes of K and V, whatever their strides. */
#ifndef POD_CUDA_TENSOR_MAP_H
#define POD_CUDA_TENSOR_MAP_H

#include "cuda/cuda_device.h"
#include "cuda/kernels/params.h"

/** Fills in k_map, v_map and the box of `params`. POD_E_UNSUPPORTED, naming the field, for a stride that no map takes.
 */
pod_status pod__cuda_add_tensor_maps(const pod_cuda_device *cuda, const pod_call *call, pod_kernel_params *params);

/** The same of k_map alone, for kernels that can do without: box_tokens is 0 where no map takes pages or strides. */
pod_status pod__cuda_add_key_map(const pod_cuda_device *cuda, const pod_call *call, pod_kernel_params *params);

#endif
