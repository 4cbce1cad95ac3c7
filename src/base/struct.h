/* SPDX-License-Identifier: Apache-2.0 */
/* Structs that grow: what a caller's version of a public struct means to this one. */
#ifndef POD_BASE_STRUCT_H
#define POD_BASE_STRUCT_H

#include "podattn.h"

/** A public struct as it was in every version that is still accepted. Each begins with `size_t struct_size`. */
typedef struct pod_struct_layouts {
    const char *name; /**< as errors call it: "limits" */
    size_t sizes[4];  /**< bytes in each version, the oldest first, this library's last; then zeros */
} pod_struct_layouts;

/**
 * Copies a caller's struct into `copy`, which is of this library's size. What a smaller (older) one lacks is zero. A
 * larger (newer) one is taken if the bytes that this library does not know are zero.
 * Errors: POD_E_ARGUMENT (NULL, a size that no version had), POD_E_UNSUPPORTED (a field from a newer version is used).
 */
pod_status pod__take_struct(const pod_struct_layouts *layouts, const void *given, void *copy);

/** The same for a struct that errors call otherwise: "masks[1]". */
pod_status pod__take_struct_of(const pod_struct_layouts *layouts, const char *field, const void *given, void *copy);

/**
 * Fills a caller's struct in from `made`, which is of this library's size: as far as the caller's reaches, and zeros
 * where it reaches further. Its struct_size stays. Errors: as pod__take_struct(), but for POD_E_UNSUPPORTED.
 */
pod_status pod__give_struct(const pod_struct_layouts *layouts, const void *made, void *given);

#endif
