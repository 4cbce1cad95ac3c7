/* SPDX-License-Identifier: Apache-2.0 */
#include "api/validate.h"

#include "api/structs.h"
#include "base/status.h"
#include "schedule/cache_core.h"

#include <math.h>
#include <stdio.h>

static pod_status check_range(const char *field, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %lld is outside [%lld, %lld]", field, (long long)value, (long long)low,
                     (long long)high);
}

static pod_status check_dtype(const char *field, pod_dtype dtype) {
    if (pod_dtype_size(dtype) != 0) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %d is no dtype", field, (int)dtype);
}

static pod_status check_head_dim(const char *field, int32_t head_dim) {
    POD_TRY(check_range(field, head_dim, 8, 256));
    if (head_dim % 8 == 0) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %d is not a multiple of 8", field, head_dim);
}

static pod_status check_memory(const char *field, pod_memory memory) {
    if (memory == POD_MEMORY_HOST || memory == POD_MEMORY_DEVICE) return POD_OK;
    return pod__fail(POD_E_ARGUMENT, "%s = %d is neither POD_MEMORY_HOST nor POD_MEMORY_DEVICE", field, (int)memory);
}

pod_status pod__take_limits(const pod_limits *given, pod_limits *limits) {
    POD_TRY(pod__take_struct(&pod__limits_layouts, given, limits));
    POD_TRY(check_range("q_heads", limits->q_heads, 1, 1024));
    POD_TRY(check_range("kv_heads", limits->kv_heads, 1, limits->q_heads));
    if (limits->q_heads % limits->kv_heads != 0) {
        return pod__fail(POD_E_ARGUMENT, "q_heads = %d is not a multiple of kv_heads = %d", limits->q_heads,
                         limits->kv_heads);
    }
    POD_TRY(check_head_dim("head_dim", limits->head_dim));
    if (limits->v_head_dim == 0) limits->v_head_dim = limits->head_dim;
    POD_TRY(check_head_dim("v_head_dim", limits->v_head_dim));
    POD_TRY(check_dtype("q_dtype", limits->q_dtype));
    POD_TRY(check_dtype("kv_dtype", limits->kv_dtype));
    POD_TRY(check_dtype("out_dtype", limits->out_dtype));
    POD_TRY(check_range("page_size", limits->page_size, 1, 1 << 30));
    POD_TRY(check_range("max_requests", limits->max_requests, 1, 1 << 24));
    /* Rows (tokens x group) are counted in 32 bits. */
    POD_TRY(check_range("max_q_tokens", limits->max_q_tokens, 1,
                        (INT32_MAX - 1024) / (limits->q_heads / limits->kv_heads)));
    POD_TRY(check_range("max_kv_len", limits->max_kv_len, 1, 1 << 30));
    if (limits->max_masks == 0) limits->max_masks = 1;
    POD_TRY(check_range("max_masks", limits->max_masks, 1, POD_MAX_MASKS));
    return check_memory("batch_memory", limits->batch_memory);
}

/** The first of request `r`'s pages that some query sees under some mask of the batch; `pages` if it has no query. */
static int32_t first_page(const pod_limits *limits, const pod_batch *batch, int32_t r, int32_t pages) {
    int32_t kv_len = batch->kv_len[r], q_len = batch->q_start[r + 1] - batch->q_start[r], first_key = kv_len;
    if (q_len == 0) return pages;
    for (int32_t m = 0; m < batch->num_masks; m++) {
        first_key = pod_core_min(first_key, pod_core_window_begin(batch->masks[m].window_tokens, kv_len - q_len));
    }
    return first_key / limits->page_size;
}

/** The page table's row of request `r`: long enough, and every page that is read exists. */
static pod_status check_pages(const pod_limits *limits, const pod_batch *batch, int32_t r) {
    int32_t page_size = limits->page_size, pages = pod_core_num_pages(batch->kv_len[r], page_size);
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
    for (int32_t p = first_page(limits, batch, r, pages); p < pages; p++) {
        if (!pod_core_is_page(row[p], batch->num_pages)) {
            return pod__fail(POD_E_ARGUMENT, "page_table[%d][%d] = %d is outside [0, %d)", r, p, row[p],
                             batch->num_pages);
        }
    }
    return POD_OK;
}

/** Whether some mask is causal for request `r`; a value of causal_per_request that is neither 0 nor 1 is refused. */
static pod_status find_causal(const pod_batch *batch, int32_t r, int *is_causal) {
    *is_causal = 0;
    for (int32_t m = 0; m < batch->num_masks; m++) {
        const int32_t *per_request = batch->masks[m].causal_per_request;
        int32_t causal = per_request != NULL ? per_request[r] : batch->masks[m].causal;
        if (causal != 0 && causal != 1) {
            return pod__fail(POD_E_ARGUMENT, "masks[%d].causal_per_request[%d] = %d is neither 0 nor 1", m, r, causal);
        }
        *is_causal |= causal;
    }
    return POD_OK;
}

static pod_status check_request(const pod_limits *limits, const pod_batch *batch, int32_t r) {
    int32_t q_begin = batch->q_start[r], q_end = batch->q_start[r + 1], kv_len = batch->kv_len[r];
    int is_causal;
    if (q_end < q_begin) {
        return pod__fail(POD_E_ARGUMENT, "q_start[%d] = %d is smaller than q_start[%d] = %d", r + 1, q_end, r, q_begin);
    }
    if (q_end > limits->max_q_tokens) {
        return pod__fail(POD_E_LIMIT, "q_start[%d] = %d exceeds max_q_tokens = %d", r + 1, q_end, limits->max_q_tokens);
    }
    if (q_end > batch->num_q_tokens) {
        return pod__fail(POD_E_ARGUMENT, "q_start[%d] = %d exceeds num_q_tokens = %d", r + 1, q_end,
                         batch->num_q_tokens);
    }
    if (kv_len < 0) return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is negative", r, kv_len);
    if (kv_len > limits->max_kv_len) {
        return pod__fail(POD_E_LIMIT, "kv_len[%d] = %d exceeds max_kv_len = %d", r, kv_len, limits->max_kv_len);
    }
    POD_TRY(find_causal(batch, r, &is_causal));
    if (is_causal && kv_len < q_end - q_begin) {
        return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d is smaller than q_len[%d] = %d", r, kv_len, r,
                         q_end - q_begin);
    }
    return check_pages(limits, batch, r);
}

/** The batch's masks into `masks`, one causal one if it names none. */
static pod_status take_masks(const pod_limits *limits, pod_batch *batch, pod_mask *masks) {
    POD_TRY(check_range("num_masks", batch->num_masks, 0, limits->max_masks));
    if (batch->num_masks > 0 && batch->masks == NULL) return pod__fail(POD_E_ARGUMENT, "masks is NULL");
    for (int32_t m = 0; m < batch->num_masks; m++) {
        /* The first mask says how long each is. */
        const char *given = (const char *)batch->masks + (size_t)m * batch->masks->struct_size;
        POD_TRY(pod__take_struct(&pod__mask_layouts, (const pod_mask *)(const void *)given, &masks[m]));
        if (masks[m].causal != 0 && masks[m].causal != 1) {
            return pod__fail(POD_E_ARGUMENT, "masks[%d].causal = %d is outside [0, 1]", m, masks[m].causal);
        }
        if (masks[m].window_tokens < 0) {
            return pod__fail(POD_E_ARGUMENT, "masks[%d].window_tokens = %d is negative", m, masks[m].window_tokens);
        }
    }
    if (batch->num_masks == 0) {
        masks[0] = pod_mask_init();
        masks[0].causal = 1;
        batch->num_masks = 1;
    }
    batch->masks = masks;
    return POD_OK;
}

pod_status pod__take_batch(const pod_limits *limits, const pod_batch *given, pod_batch *batch, pod_mask *masks) {
    POD_TRY(pod__take_struct(&pod__batch_layouts, given, batch));
    POD_TRY(check_memory("memory", batch->memory));
    if (batch->num_requests < 0) {
        return pod__fail(POD_E_ARGUMENT, "num_requests = %d is negative", batch->num_requests);
    }
    if (batch->num_requests > limits->max_requests) {
        return pod__fail(POD_E_LIMIT, "num_requests = %d exceeds max_requests = %d", batch->num_requests,
                         limits->max_requests);
    }
    POD_TRY(take_masks(limits, batch, masks));
    if (batch->num_pages < 0) return pod__fail(POD_E_ARGUMENT, "num_pages = %d is negative", batch->num_pages);
    if (batch->num_q_tokens < 0) {
        return pod__fail(POD_E_ARGUMENT, "num_q_tokens = %d is negative", batch->num_q_tokens);
    }
    if (batch->num_q_tokens > limits->max_q_tokens) {
        return pod__fail(POD_E_LIMIT, "num_q_tokens = %d exceeds max_q_tokens = %d", batch->num_q_tokens,
                         limits->max_q_tokens);
    }
    if (batch->num_q_tokens == 0) batch->num_q_tokens = limits->max_q_tokens;
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
    batch->num_q_tokens = batch->q_start[batch->num_requests];
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

static pod_status fill_row_strides(const pod_limits *limits, pod_tensors *t) {
    int64_t heads = limits->q_heads;
    POD_TRY(fill_stride("q_head_stride", &t->q_head_stride, limits->head_dim));
    POD_TRY(fill_stride("q_token_stride", &t->q_token_stride, heads * limits->head_dim));
    POD_TRY(fill_stride("out_head_stride", &t->out_head_stride, limits->v_head_dim));
    POD_TRY(fill_stride("out_token_stride", &t->out_token_stride, heads * limits->v_head_dim));
    POD_TRY(fill_stride("lse_head_stride", &t->lse_head_stride, 1));
    return fill_stride("lse_token_stride", &t->lse_token_stride, heads);
}

pod_status pod__take_tensors(const pod_limits *limits, const pod_batch *batch, const pod_tensors *given,
                             pod_tensors *tensors) {
    POD_TRY(pod__take_struct(&pod__tensors_layouts, given, tensors));
    POD_TRY(check_pointer("q", tensors->q, pod_dtype_size(limits->q_dtype)));
    POD_TRY(check_pointer("out", tensors->out, pod_dtype_size(limits->out_dtype)));
    if (tensors->lse != NULL) POD_TRY(check_pointer("lse", tensors->lse, sizeof(float)));
    if (tensors->q_tokens < 0) return pod__fail(POD_E_ARGUMENT, "q_tokens = %d is negative", tensors->q_tokens);
    if (tensors->out_tokens < 0) return pod__fail(POD_E_ARGUMENT, "out_tokens = %d is negative", tensors->out_tokens);
    if (tensors->mask < 0 || tensors->mask >= batch->num_masks) {
        return pod__fail(POD_E_ARGUMENT, "mask = %d is outside [0, %d), the masks of the batch", tensors->mask,
                         batch->num_masks);
    }
    if (!isfinite(tensors->scale)) {
        return pod__fail(POD_E_ARGUMENT, "scale = %g is not finite", (double)tensors->scale);
    }
    if (!isfinite(tensors->softcap) || tensors->softcap < 0) {
        return pod__fail(POD_E_ARGUMENT, "softcap = %g is not a finite number from 0 up", (double)tensors->softcap);
    }
    POD_TRY(fill_row_strides(limits, tensors));
    if (tensors->scale == 0) tensors->scale = 1.0f / sqrtf((float)limits->head_dim);
    return POD_OK;
}

pod_status pod__validate_tokens(const pod_batch *batch, const pod_tensors *tensors) {
    if (tensors->q_tokens != 0 && tensors->q_tokens < batch->num_q_tokens) {
        return pod__fail(POD_E_ARGUMENT, "q_tokens = %d is smaller than the %d query tokens of the batch",
                         tensors->q_tokens, batch->num_q_tokens);
    }
    if (tensors->out_tokens != 0 && tensors->out_tokens < batch->num_q_tokens) {
        return pod__fail(POD_E_ARGUMENT, "out_tokens = %d is smaller than the %d query tokens of the batch",
                         tensors->out_tokens, batch->num_q_tokens);
    }
    return POD_OK;
}

pod_status pod__take_cache(const pod_limits *limits, const pod_cache *given, pod_cache *cache) {
    int64_t heads = limits->kv_heads;
    POD_TRY(pod__take_struct(&pod__cache_layouts, given, cache));
    POD_TRY(check_pointer("k", cache->k, pod_dtype_size(limits->kv_dtype)));
    if (cache->v == NULL && limits->v_head_dim < limits->head_dim) {
        return pod__fail(POD_E_UNSUPPORTED, "v = NULL (values in the first v_head_dim elements of k) is not supported");
    }
    POD_TRY(check_pointer("v", cache->v, pod_dtype_size(limits->kv_dtype)));
    if (cache->k_scale != NULL) POD_TRY(check_pointer("k_scale", cache->k_scale, sizeof(float)));
    if (cache->v_scale != NULL) POD_TRY(check_pointer("v_scale", cache->v_scale, sizeof(float)));
    POD_TRY(fill_stride("k_head_stride", &cache->k_head_stride, limits->head_dim));
    POD_TRY(fill_stride("k_token_stride", &cache->k_token_stride, heads * limits->head_dim));
    POD_TRY(fill_page_stride("k_page_stride", &cache->k_page_stride, cache->k_token_stride, limits->page_size));
    POD_TRY(fill_stride("v_head_stride", &cache->v_head_stride, limits->v_head_dim));
    POD_TRY(fill_stride("v_token_stride", &cache->v_token_stride, heads * limits->v_head_dim));
    POD_TRY(fill_page_stride("v_page_stride", &cache->v_page_stride, cache->v_token_stride, limits->page_size));
    return fill_stride("scale_stride", &cache->scale_stride, 0);
}

static pod_status check_part_dtype(const char *field, pod_dtype dtype) {
    POD_TRY(check_dtype(field, dtype));
    if (dtype != POD_F8E4M3) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s f8e4m3 is not supported; f32, f16 and bf16 are", field);
}

pod_status pod__take_parts(const pod_parts *given, pod_parts *parts) {
    POD_TRY(pod__take_struct(&pod__parts_layouts, given, parts));
    POD_TRY(check_range("num_parts", parts->num_parts, 1, POD_MAX_PARTS));
    POD_TRY(check_range("num_tokens", parts->num_tokens, 0, INT32_MAX / 1024));
    POD_TRY(check_range("q_heads", parts->q_heads, 1, 1024));
    POD_TRY(check_head_dim("head_dim", parts->head_dim));
    POD_TRY(check_part_dtype("part_dtype", parts->part_dtype));
    POD_TRY(check_part_dtype("out_dtype", parts->out_dtype));
    if (parts->part_outs == NULL) return pod__fail(POD_E_ARGUMENT, "part_outs is NULL");
    if (parts->part_lses == NULL) return pod__fail(POD_E_ARGUMENT, "part_lses is NULL");
    for (int32_t p = 0; p < parts->num_parts; p++) {
        char field[32];
        snprintf(field, sizeof field, "part_outs[%d]", p);
        POD_TRY(check_pointer(field, parts->part_outs[p], pod_dtype_size(parts->part_dtype)));
        snprintf(field, sizeof field, "part_lses[%d]", p);
        POD_TRY(check_pointer(field, parts->part_lses[p], sizeof(float)));
    }
    POD_TRY(check_pointer("out", parts->out, pod_dtype_size(parts->out_dtype)));
    if (parts->lse != NULL) POD_TRY(check_pointer("lse", parts->lse, sizeof(float)));
    int64_t dim = parts->head_dim, heads = parts->q_heads;
    POD_TRY(fill_stride("part_head_stride", &parts->part_head_stride, dim));
    POD_TRY(fill_stride("part_token_stride", &parts->part_token_stride, heads * dim));
    POD_TRY(fill_stride("part_lse_head_stride", &parts->part_lse_head_stride, 1));
    POD_TRY(fill_stride("part_lse_token_stride", &parts->part_lse_token_stride, heads));
    POD_TRY(fill_stride("out_head_stride", &parts->out_head_stride, dim));
    POD_TRY(fill_stride("out_token_stride", &parts->out_token_stride, heads * dim));
    POD_TRY(fill_stride("lse_head_stride", &parts->lse_head_stride, 1));
    return fill_stride("lse_token_stride", &parts->lse_token_stride, heads);
}

static pod_status check_part_of_workspace(const char *name, const void *memory, size_t bytes, size_t needed_bytes) {
    if (memory == NULL) return pod__fail(POD_E_WORKSPACE, "workspace.%s is NULL", name);
    if ((uintptr_t)memory % POD_WORKSPACE_ALIGN != 0) {
        return pod__fail(POD_E_WORKSPACE, "workspace.%s is not aligned to %d bytes", name, POD_WORKSPACE_ALIGN);
    }
    if (bytes < needed_bytes) {
        return pod__fail(POD_E_WORKSPACE, "workspace.%s_bytes = %zu is smaller than the %zu that the limits need", name,
                         bytes, needed_bytes);
    }
    return POD_OK;
}

pod_status pod__validate_workspace(const pod_workspace *workspace, const pod_layout *layout) {
    POD_TRY(check_part_of_workspace("plan", workspace->plan, workspace->plan_bytes, layout->plan_bytes));
    POD_TRY(check_part_of_workspace("scratch", workspace->scratch, workspace->scratch_bytes, layout->scratch_bytes));
    uintptr_t plan = (uintptr_t)workspace->plan, scratch = (uintptr_t)workspace->scratch;
    if (plan < scratch + layout->scratch_bytes && scratch < plan + layout->plan_bytes) {
        return pod__fail(POD_E_WORKSPACE, "workspace.plan and workspace.scratch overlap");
    }
    if ((uintptr_t)workspace->bad_request % sizeof(int32_t) == 0) return POD_OK;
    return pod__fail(POD_E_WORKSPACE, "workspace.bad_request is not aligned to its word");
}

pod_status pod__validate_built(const pod_plan *plan) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    if (!plan->is_built) return pod__fail(POD_E_STATE, "pod_plan_build() has not succeeded on this plan yet");
    return POD_OK;
}
