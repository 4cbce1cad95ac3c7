/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the CUDA backend where the library was built without nvcc. */
#include "backend/backend.h"
#include "base/status.h"

pod_status pod__cuda_open(const char *argument, pod_device **device) {
    (void)argument;
    *device = NULL;
    return pod__fail(POD_E_NO_DEVICE,
                     "this build has no GPU backend: it was configured with PODATTN_CUDA=OFF or without nvcc");
}
