/* SPDX-License-Identifier: Apache-2.0 */
/* Every rejection of input: each names the field, its index and the values. */
#ifndef POD_CORE_VALIDATE_H
#define POD_CORE_VALIDATE_H

#include "podattn.h"

pod_status pod__validate_limits(const pod_limits *limits);

/** The struct itself; the arrays only if they are on the host. */
pod_status pod__validate_batch(const pod_limits *limits, const pod_batch *batch);

/** Checks the struct and copies it, so that what follows can change the copy. */
pod_status pod__copy_tensors(const pod_tensors *given, pod_tensors *copy);

/** Pointers, alignment, numbers; then fills in packed strides and the scale. */
pod_status pod__validate_tensors(const pod_limits *limits, pod_tensors *tensors);

/** Pointer, alignment, size. */
pod_status pod__validate_workspace(const void *workspace, size_t workspace_bytes, size_t needed_bytes);

#endif
