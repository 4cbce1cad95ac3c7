/* SPDX-License-Identifier: Apache-2.0 */
#include "podattn.h"

size_t pod_dtype_size(pod_dtype dtype) {
    switch (dtype) {
    case POD_F32:
        return 4;
    case POD_F16:
    case POD_BF16:
        return 2;
    case POD_F8E4M3:
        return 1;
    }
    return 0;
}

const char *pod_dtype_name(pod_dtype dtype) {
    switch (dtype) {
    case POD_F32:
        return "f32";
    case POD_F16:
        return "f16";
    case POD_BF16:
        return "bf16";
    case POD_F8E4M3:
        return "f8e4m3";
    }
    return "?";
}
