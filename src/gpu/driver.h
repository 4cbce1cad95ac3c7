/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA driver as the library starts it, and its errors as a status with advice. <cuda.h> is used for its types and
 * constants only. */
#ifndef POD_CUDA_DRIVER_H
#define POD_CUDA_DRIVER_H

#include "podattn.h"

#include <cuda.h>

#include "base/driver_functions.h" /* after <cuda.h>, whose types it takes */

typedef pod_driver_functions pod_cuda_driver;

/** Loads and starts the driver. POD_E_NO_DEVICE, saying what to do: there is none, it is too old for the kernels in
 * this library, or it does not start. */
pod_status pod__cuda_driver_load(pod_cuda_driver *driver);
void pod__cuda_driver_unload(pod_cuda_driver *driver);

/** POD_OK, or the status that fits `result`, with a message: what was being done, the driver's words, what to do. */
pod_status pod__cuda_check(const pod_cuda_driver *driver, CUresult result, const char *doing);

#endif
