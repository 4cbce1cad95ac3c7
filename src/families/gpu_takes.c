/* SPDX-License-Identifier: Apache-2.0 */
#include "families/gpu_takes.h"

#include "base/bounds.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PADDED_DIM = 256 };

static int takes_dtypes(const pod_family *family, const pod_limits *limits, char *reason, size_t bytes) {
    if (limits->q_dtype != POD_BF16 && limits->q_dtype != POD_F16) {
        snprintf(reason, bytes, "q_dtype %s is not supported by the %s kernels; bf16 and f16 are",
                 pod_dtype_name(limits->q_dtype), family->name);
        return 0;
    }
    int has_f8 = family->has_f8;
    int is_kv = limits->kv_dtype != limits->q_dtype && !(has_f8 && limits->kv_dtype == POD_F8E4M3);
    if (!is_kv && limits->out_dtype == limits->q_dtype) return 1;
    snprintf(reason, bytes, "%s %s with q_dtype %s is not supported by the %s kernels; %s%s",
             is_kv ? "kv_dtype" : "out_dtype", pod_dtype_name(is_kv ? limits->kv_dtype : limits->out_dtype),
             pod_dtype_name(limits->q_dtype), family->name, pod_dtype_name(limits->q_dtype),
             is_kv && has_f8 ? " and f8e4m3 are" : " is");
    return 0;
}

static int has_head_dim(const pod_family *family, int32_t head_dim) {
    for (int32_t i = 0; i < family->num_tiles; i++) {
        if (pod__tiles_hold(&family->tiles[i], head_dim)) return 1;
    }
    return 0;
}

/** "64 and 128", "64, 96 and 128", "those up to 256". */
static void list_head_dims(const pod_family *family, char *text, size_t bytes) {
    int32_t last = 0, num_dims = 0;
    if (has_head_dim(family, MAX_PADDED_DIM) && has_head_dim(family, 1)) {
        snprintf(text, bytes, "those up to %d", MAX_PADDED_DIM);
        return;
    }
    size_t length = 0;
    for (int32_t dim = 1; dim <= POD_MAX_HEAD_DIM; dim++) {
        if (has_head_dim(family, dim)) last = dim;
    }
    *text = '\0';
    for (int32_t dim = 1; dim <= last; dim++) {
        if (!has_head_dim(family, dim) || length >= bytes) continue;
        const char *before = num_dims++ == 0 ? "" : dim == last ? " and " : ", ";
        length += (size_t)snprintf(text + length, bytes - length, "%s%d", before, dim);
    }
}

static int takes_masks(const pod_family *family, const pod_limits *limits, char *reason, size_t bytes) {
    const char *asks = pod__asks_for_all_masks(limits);
    if (asks == NULL || family->has_all_masks) return 1;
    snprintf(reason, bytes, "%s = 1 is not supported by the %s kernels", asks, family->name);
    return 0;
}

int pod__gpu_takes(const pod_family *family, const pod_limits *limits, char *reason, size_t bytes) {
    if (!takes_dtypes(family, limits, reason, bytes) || !takes_masks(family, limits, reason, bytes)) return 0;
    if (has_head_dim(family, limits->head_dim)) {
        if (pod__family_fits(family, limits)) return 1;
        snprintf(reason, bytes, "v_head_dim = %d with head_dim = %d is not supported by the %s kernels",
                 pod__v_head_dim(limits), limits->head_dim, family->name);
        return 0;
    }
    char dims[64];
    list_head_dims(family, dims, sizeof dims);
    snprintf(reason, bytes, "head_dim = %d is not supported by the %s kernels; %s are", limits->head_dim, family->name,
             dims);
    return 0;
}
