/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/driver.h"

#include "base/status.h"

/* Machine code runs on every driver of the toolkit's major version and later. */
enum { OLDEST_DRIVER = CUDA_VERSION / 1000 * 1000 };

static pod_status start(const pod_cuda_driver *driver) {
    CUresult result = driver->init(0);
    if (result == CUDA_ERROR_NO_DEVICE) {
        return pod__fail(POD_E_NO_DEVICE, "the NVIDIA driver sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES");
    }
    if (result != CUDA_SUCCESS) {
        const char *text = NULL;
        driver->get_error_string(result, &text);
        return pod__fail(POD_E_NO_DEVICE, "the NVIDIA driver does not start (error %d, %s); check nvidia-smi",
                         (int)result, text != NULL ? text : "unknown");
    }
    int version = 0;
    POD_TRY(pod__cuda_check(driver, driver->driver_get_version(&version), "asking for the driver's version"));
    if (version < OLDEST_DRIVER) {
        return pod__fail(POD_E_NO_DEVICE,
                         "the NVIDIA driver is too old: it is for CUDA %d.%d, the kernels need one for CUDA %d.0 or "
                         "later",
                         version / 1000, version % 1000 / 10, OLDEST_DRIVER / 1000);
    }
    return POD_OK;
}

pod_status pod__cuda_driver_load(pod_cuda_driver *driver) {
    const char *missing = pod__driver_functions_load(driver);
    if (driver->library == NULL) {
        return pod__fail(POD_E_NO_DEVICE,
                         "there is no NVIDIA driver: %s cannot be loaded; install the driver, or add "
                         "its folder to LD_LIBRARY_PATH",
                         missing);
    }
    pod_status status = POD_OK;
    if (missing != NULL) {
        status =
            pod__fail(POD_E_NO_DEVICE, "the NVIDIA driver is too old: it has no %s; install one for CUDA %d or later",
                      missing, OLDEST_DRIVER / 1000);
    }
    if (status == POD_OK) status = start(driver);
    if (status != POD_OK) pod__cuda_driver_unload(driver);
    return status;
}

void pod__cuda_driver_unload(pod_cuda_driver *driver) {
    pod__driver_functions_unload(driver);
}

/** What a person can do about an error, and the status that a program sees. */
static pod_status explain(CUresult result, const char **advice) {
    switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
        *advice = "; the GPU's memory is full: free some, or use a smaller workspace";
        return POD_E_NO_MEMORY;
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_INVALID_PTX:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:
        *advice = "; this library has no kernel for this GPU and driver: update the driver, or build for this chip";
        return POD_E_NO_DEVICE;
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
        *advice = "; another process holds the GPU exclusively";
        return POD_E_NO_DEVICE;
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
        *advice = "; a kernel that ran earlier broke this process's GPU context: find it with compute-sanitizer and "
                  "start the process again";
        return POD_E_DEVICE;
    default:
        *advice = "";
        return POD_E_DEVICE;
    }
}

pod_status pod__cuda_check(const pod_cuda_driver *driver, CUresult result, const char *doing) {
    if (result == CUDA_SUCCESS) return POD_OK;
    const char *name = NULL, *text = NULL, *advice = "";
    driver->get_error_name(result, &name);
    driver->get_error_string(result, &text);
    pod_status status = explain(result, &advice);
    return pod__fail(status, "%s: %s (%s)%s", doing, name != NULL ? name : "unknown error",
                     text != NULL ? text : "no text", advice);
}
