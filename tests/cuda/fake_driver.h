/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the fake driver share. */
#ifndef POD_TEST_FAKE_DRIVER_H
#define POD_TEST_FAKE_DRIVER_H

#include <cuda.h>

enum { FAKE_MAX_GPUS = 4, FAKE_RESERVED_SMEM_BYTES = 1024 }; /* of each CTA's shared memory the driver takes some */

struct CUstream_st {
    CUgraph capturing;
    int gpu;
};

#define EXPORT __attribute__((visibility("default")))

/** The error that the environment asks this function for, or none. */
CUresult fake_injected(const char *function);
/** A number from the environment. */
int fake_setting(const char *name, int otherwise);

/** What the environment says of the GPUs. */
int fake_num_gpus(void);
int fake_num_sms(void);
int fake_sm_smem_bytes(void);

/** The GPU of this thread's current context, -1 without one. */
int fake_current_gpu(void);

/** The GPU that may read what is mapped at the address; -1 if nothing is, or none may. */
int fake_memory_gpu(CUdeviceptr address);

/** Every function begins with this. */
#define FAKE(symbol)                                                                                                   \
    do {                                                                                                               \
        CUresult result_ = fake_injected(symbol);                                                                      \
        if (result_ != CUDA_SUCCESS) return result_;                                                                   \
    } while (0)

/** Every function that belongs to a GPU. */
#define FAKE_IN_CONTEXT(symbol)                                                                                        \
    do {                                                                                                               \
        FAKE(symbol);                                                                                                  \
        if (fake_current_gpu() < 0) return CUDA_ERROR_INVALID_CONTEXT;                                                 \
    } while (0)

#endif
