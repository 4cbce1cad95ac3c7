/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of one field, which every call's validation is made of: each refuses with the field's name and its value. */
#ifndef POD_API_CHECKS_H
#define POD_API_CHECKS_H

#include "base/status.h"
#include "podattn.h"

/** What the widest addresses of a processor or a GPU reach. */
#define MOST_BYTES (INT64_C(1) << 57)

static inline pod_status check_range(const char *field, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %lld is outside [%lld, %lld]", field, (long long)value, (long long)low,
                     (long long)high);
}

static inline pod_status check_dtype(const char *field, pod_dtype dtype) {
    if (pod_dtype_size(dtype) != 0) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %d is no dtype", field, (int)dtype);
}

static inline pod_status check_pointer(const char *field, const void *pointer, size_t alignment) {
    if (pointer == NULL) return pod__fail(POD_E_ARGUMENT, "%s is NULL", field);
    if ((uintptr_t)pointer % alignment == 0) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s is not aligned to its element of %zu bytes", field, alignment);
}

/** The same for an array that need not be there. */
static inline pod_status check_optional(const char *field, const void *pointer, size_t alignment) {
    return pointer != NULL ? check_pointer(field, pointer, alignment) : POD_OK;
}

/** The last of `extent` places must be where addresses go: then no product of a number in range and a stride overflows
 * 64 bits. */
static inline pod_status check_reach(const char *field, int64_t stride, int64_t extent, size_t element_bytes) {
    int64_t reach;
    if (!__builtin_mul_overflow(stride, (extent - 1) * (int64_t)element_bytes, &reach) && reach <= MOST_BYTES) {
        return POD_OK;
    }
    return pod__fail(POD_E_ARGUMENT, "%s = %lld reaches past the %lld bytes that addresses count", field,
                     (long long)stride, (long long)MOST_BYTES);
}

/** The stride of a dimension of `extent`: packed if it is 0. Nothing is reached through that of a single element, so it
 * may be anything, and becomes one that every backend takes: the packed one, up to whole pieces of 16 bytes. */
static inline pod_status fill_stride(const char *field, int64_t *stride, int64_t packed, int64_t extent,
                                     size_t element_bytes) {
    int64_t piece = 16 / (int64_t)element_bytes;
    if (extent <= 1)
        *stride = ((packed < MOST_BYTES ? packed : 0) + piece - 1) / piece * piece; /* of others' strides */
    else if (*stride == 0)
        *stride = packed;
    if (*stride < 0) return pod__fail(POD_E_ARGUMENT, "%s = %lld is negative", field, (long long)*stride);
    return extent <= 1 ? POD_OK : check_reach(field, *stride, extent, element_bytes);
}

/** A dtype of tensors, which are no caches. */
static inline pod_status check_computed_dtype(const char *field, pod_dtype dtype) {
    POD_TRY(check_dtype(field, dtype));
    if (dtype != POD_F8E4M3) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s f8e4m3 is not supported; f32, f16 and bf16 are", field);
}

#endif
