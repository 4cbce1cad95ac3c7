/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels, compiled and embedded: one fatbin per source file. The build writes the table (images.c). */
#ifndef POD_CUDA_IMAGES_H
#define POD_CUDA_IMAGES_H

#include "base/embed.h"

typedef struct pod_cuda_image {
    const char *name;
    const void *fatbin;
} pod_cuda_image;

extern const pod_cuda_image pod__cuda_images[POD_CUDA_NUM_IMAGES];

#endif
