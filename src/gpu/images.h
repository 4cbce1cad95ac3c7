/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels, compiled and embedded: one fatbin per source file. The build writes the table (images.c). */
#ifndef POD_CUDA_IMAGES_H
#define POD_CUDA_IMAGES_H

typedef struct pod_cuda_image {
    const char *name;
    const void *fatbin;
} pod_cuda_image;

extern const pod_cuda_image pod__cuda_images[POD_CUDA_NUM_IMAGES];

/** Puts a file's bytes into the read-only data as pod__image_<name>. */
#define POD_EMBED(name, path)                                                                                          \
    extern const unsigned char pod__image_##name[] __attribute__((visibility("hidden")));                              \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".balign 64\n"                                                                                             \
            ".global pod__image_" #name "\n"                                                                           \
            ".hidden pod__image_" #name "\n"                                                                           \
            "pod__image_" #name ":\n"                                                                                  \
            ".incbin \"" path "\"\n"                                                                                   \
            ".popsection\n");

#endif
