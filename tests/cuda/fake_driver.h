/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the fake driver share. */
#ifndef POD_TEST_FAKE_DRIVER_H
#define POD_TEST_FAKE_DRIVER_H

#include <cuda.h>

#define EXPORT __attribute__((visibility("default")))

/** The error that the environment asks this function for, or none. */
CUresult fake_injected(const char *function);
/** A number from the environment. */
int fake_setting(const char *name, int otherwise);

/** Whether a page is mapped at the address, and may be read. */
int fake_memory_is_mapped(CUdeviceptr address);

/** Every function begins with this. */
#define FAKE(symbol)                                                                                                   \
    do {                                                                                                               \
        CUresult result_ = fake_injected(symbol);                                                                      \
        if (result_ != CUDA_SUCCESS) return result_;                                                                   \
    } while (0)

#endif
