/* SPDX-License-Identifier: Apache-2.0 */
#include "api/validate.h"

#include "base/status.h"

#include <math.h>

/** A struct from a caller: not NULL, and of a size that this version knows. */
#define CHECK_STRUCT(pointer, name)                                                                                    \
    do {                                                                                                               \
        if ((pointer) == NULL) return pod__fail(POD_E_ARGUMENT, name " is NULL");                                      \
        if ((pointer)->struct_size != sizeof *(pointer)) {                                                             \
            return pod__fail(POD_E_ARGUMENT, name ".struct_size = %zu is not %zu; start from pod_" name "_init()",     \
                             (pointer)->struct_size, sizeof *(pointer));                                               \
        }                                                                                                              \
    } while (0)

static pod_status check_range(const char *field, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %lld is outside [%lld, %lld]", field, (long long)value, (long long)low,
                     (long long)high);
}

static pod_status check_dtype(const char *field, pod_dtype dtype) {
    if (pod_dtype_size(dtype) != 0) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %d is no dtype", field, (int)dtype);
}

pod_status pod__validate_limits(const pod_limits *limits) {
    CHECK_STRUCT(limits, "limits");
    POD_TRY(check_range("q_heads", limits->q_heads, 1, 1024));
    POD_TRY(check_range("kv_heads", limits->kv_heads, 1, limits->q_heads));
    if (limits->q_heads % limits->kv_heads != 0) {
        return pod__fail(POD_E_ARGUMENT, "q_heads = %d is not a multiple of kv_heads = %d", limits->q_heads,
                         limits->kv_heads);
    }
    POD_TRY(check_range("head_dim", limits->head_dim, 8, 256));
    if (limits->head_dim % 8 != 0) {
        return pod__fail(POD_E_ARGUMENT, "head_dim = %d is not a multiple of 8", limits->head_dim);
    }
    POD_TRY(check_dtype("q_dtype", limits->q_dtype));
    POD_TRY(check_dtype("kv_dtype", limits->kv_dtype));
    POD_TRY(check_dtype("out_dtype", limits->out_dtype));
    POD_TRY(check_range("page_size", limits->page_size, 1, 1 << 30));
    POD_TRY(check_range("max_requests", limits->max_requests, 1, 1 << 24));
    /* Rows (tokens x group) are counted in 32 bits. */
    POD_TRY(check_range("max_q_tokens", limits->max_q_tokens, 1,
                        (INT32_MAX - 1024) / (limits->q_heads / limits->kv_heads)));
    POD_TRY(check_range("max_kv_len", limits->max_kv_len, 1, 1 << 30));
    return POD_OK;
}

/** The page table's row of request `r`: long enough, and every page that is read exists. */
static pod_status check_pages(const pod_limits *limits, const pod_batch *batch, int32_t r) {
    int32_t page_size = limits->page_size;
    int32_t pages = batch->kv_len[r] / page_size + (batch->kv_len[r] % page_size != 0);
    if (batch->page_table == NULL) {
        if (pages > 1) {
            return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d exceeds page_size = %d without a page_table", r,
                             batch->kv_len[r], page_size);
        }
        if (pages == 1 && r >= batch->num_pages) {
            return pod__fail(POD_E_ARGUMENT, "request %d needs page %d, but num_pages = %d", r, r, batch->num_pages);
        }
        return POD_OK;
    }
    if (pages > batch->max_pages) {
        return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d needs %d pages of %d tokens, but max_pages = %d", r,
                         batch->kv_len[r], pages, page_size, batch->max_pages);
    }
    const int32_t *row = batch->page_table + r * batch->page_table_stride;
    for (int32_t p = 0; p < pages; p++) {
        if (row[p] < 0 || row[p] >= batch->num_pages) {
            return pod__fail(POD_E_ARGUMENT, "page_table[%d][%d] = %d is outside [0, %d)", r, p, row[p],
                             batch->num_pages);
        }
    }
    return POD_OK;
}

static pod_status check_request(const pod_limits *limits, const pod_batch *batch, int32_t r) {
    int32_t q_begin = batch->q_start[r], q_end = batch->q_start[r + 1], kv_len = batch->kv_len[r];
    if (q_end < q_begin) {
        return pod__fail(POD_E_ARGUMENT, "q_start[%d] = %d is smaller than q_start[%d] = %d", r + 1, q_end, r, q_begin);
    }
    if (q_end > limits->max_q_tokens) {
        return pod__fail(POD_E_LIMIT, "q_start[%d] = %d exceeds max_q_tokens = %d", r + 1, q_end, limits->max_q_tokens);
    }
    if (kv_len < 0) return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is negative", r, kv_len);
    if (kv_len > limits->max_kv_len) {
        return pod__fail(POD_E_LIMIT, "kv_len[%d] = %d exceeds max_kv_len = %d", r, kv_len, limits->max_kv_len);
    }
    if (batch->causal && kv_len < q_end - q_begin) {
        return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is smaller than q_len[%d] = %d", r, kv_len, r,
                         q_end - q_begin);
    }
    return check_pages(limits, batch, r);
}

pod_status pod__validate_batch(const pod_limits *limits, const pod_batch *batch) {
    CHECK_STRUCT(batch, "batch");
    if (batch->memory != POD_MEMORY_HOST && batch->memory != POD_MEMORY_DEVICE) {
        return pod__fail(POD_E_ARGUMENT, "memory = %d is neither POD_MEMORY_HOST nor POD_MEMORY_DEVICE",
                         (int)batch->memory);
    }
    if (batch->num_requests < 0) {
        return pod__fail(POD_E_ARGUMENT, "num_requests = %d is negative", batch->num_requests);
    }
    if (batch->num_requests > limits->max_requests) {
        return pod__fail(POD_E_LIMIT, "num_requests = %d exceeds max_requests = %d", batch->num_requests,
                         limits->max_requests);
    }
    POD_TRY(check_range("causal", batch->causal, 0, 1));
    if (batch->window_tokens < 0) {
        return pod__fail(POD_E_ARGUMENT, "window_tokens = %d is negative", batch->window_tokens);
    }
    if (batch->num_pages < 0) return pod__fail(POD_E_ARGUMENT, "num_pages = %d is negative", batch->num_pages);
    if (batch->q_start == NULL) return pod__fail(POD_E_ARGUMENT, "q_start is NULL");
    if (batch->kv_len == NULL && batch->num_requests > 0) return pod__fail(POD_E_ARGUMENT, "kv_len is NULL");
    if (batch->page_table != NULL) {
        if (batch->max_pages < 0) return pod__fail(POD_E_ARGUMENT, "max_pages = %d is negative", batch->max_pages);
        if (batch->page_table_stride < batch->max_pages) {
            return pod__fail(POD_E_ARGUMENT, "page_table_stride = %lld is smaller than max_pages = %d",
                             (long long)batch->page_table_stride, batch->max_pages);
        }
    }
    if (batch->memory == POD_MEMORY_DEVICE) return POD_OK;
    if (batch->q_start[0] != 0) return pod__fail(POD_E_ARGUMENT, "q_start[0] = %d is not 0", batch->q_start[0]);
    for (int32_t r = 0; r < batch->num_requests; r++) POD_TRY(check_request(limits, batch, r));
    return POD_OK;
}

static pod_status check_pointer(const char *field, const void *pointer, size_t alignment) {
    if (pointer == NULL) return pod__fail(POD_E_ARGUMENT, "%s is NULL", field);
    if ((uintptr_t)pointer % alignment != 0) {
        return pod__fail(POD_E_ARGUMENT, "%s is not aligned to its element of %zu bytes", field, alignment);
    }
    return POD_OK;
}

static pod_status fill_stride(const char *field, int64_t *stride, int64_t packed) {
    if (*stride < 0) return pod__fail(POD_E_ARGUMENT, "%s = %lld is negative", field, (long long)*stride);
    if (*stride == 0) *stride = packed;
    return POD_OK;
}

/** The page stride follows from the token stride, which may be anything. */
static pod_status fill_page_stride(const char *field, int64_t *stride, int64_t token_stride, int32_t page_size) {
    int64_t packed = 0;
    if (*stride == 0 && __builtin_mul_overflow(token_stride, (int64_t)page_size, &packed)) {
        return pod__fail(POD_E_ARGUMENT, "%s: %lld elements a token times page_size = %d is more than 64 bits count",
                         field, (long long)token_stride, page_size);
    }
    return fill_stride(field, stride, packed);
}

static pod_status fill_strides(const pod_limits *limits, pod_tensors *t) {
    int64_t dim = limits->head_dim, q_token = dim * limits->q_heads, kv_token = dim * limits->kv_heads;
    POD_TRY(fill_stride("q_head_stride", &t->q_head_stride, dim));
    POD_TRY(fill_stride("q_token_stride", &t->q_token_stride, q_token));
    POD_TRY(fill_stride("k_head_stride", &t->k_head_stride, dim));
    POD_TRY(fill_stride("k_token_stride", &t->k_token_stride, kv_token));
    POD_TRY(fill_page_stride("k_page_stride", &t->k_page_stride, t->k_token_stride, limits->page_size));
    POD_TRY(fill_stride("v_head_stride", &t->v_head_stride, dim));
    POD_TRY(fill_stride("v_token_stride", &t->v_token_stride, kv_token));
    POD_TRY(fill_page_stride("v_page_stride", &t->v_page_stride, t->v_token_stride, limits->page_size));
    POD_TRY(fill_stride("out_head_stride", &t->out_head_stride, dim));
    POD_TRY(fill_stride("out_token_stride", &t->out_token_stride, q_token));
    POD_TRY(fill_stride("lse_head_stride", &t->lse_head_stride, 1));
    POD_TRY(fill_stride("lse_token_stride", &t->lse_token_stride, limits->q_heads));
    return POD_OK;
}

pod_status pod__copy_tensors(const pod_tensors *given, pod_tensors *copy) {
    CHECK_STRUCT(given, "tensors");
    *copy = *given;
    return POD_OK;
}

pod_status pod__validate_tensors(const pod_limits *limits, pod_tensors *tensors) {
    POD_TRY(check_pointer("q", tensors->q, pod_dtype_size(limits->q_dtype)));
    POD_TRY(check_pointer("k", tensors->k, pod_dtype_size(limits->kv_dtype)));
    POD_TRY(check_pointer("v", tensors->v, pod_dtype_size(limits->kv_dtype)));
    POD_TRY(check_pointer("out", tensors->out, pod_dtype_size(limits->out_dtype)));
    if (tensors->lse != NULL) POD_TRY(check_pointer("lse", tensors->lse, sizeof(float)));
    if (!isfinite(tensors->scale)) {
        return pod__fail(POD_E_ARGUMENT, "scale = %g is not finite", (double)tensors->scale);
    }
    if (!isfinite(tensors->softcap) || tensors->softcap < 0) {
        return pod__fail(POD_E_ARGUMENT, "softcap = %g is not a finite number from 0 up", (double)tensors->softcap);
    }
    POD_TRY(fill_strides(limits, tensors));
    if (tensors->scale == 0) tensors->scale = 1.0f / sqrtf((float)limits->head_dim);
    return POD_OK;
}

pod_status pod__validate_workspace(const void *workspace, size_t workspace_bytes, size_t needed_bytes) {
    if (workspace == NULL) return pod__fail(POD_E_WORKSPACE, "workspace is NULL");
    if ((uintptr_t)workspace % POD_WORKSPACE_ALIGN != 0) {
        return pod__fail(POD_E_WORKSPACE, "workspace is not aligned to %d bytes", POD_WORKSPACE_ALIGN);
    }
    if (workspace_bytes < needed_bytes) {
        return pod__fail(POD_E_WORKSPACE, "workspace_bytes = %zu is smaller than the %zu that the limits need",
                         workspace_bytes, needed_bytes);
    }
    return POD_OK;
}
