/* SPDX-License-Identifier: Apache-2.0 */
#include "api/validate.h"

#include "api/checks.h"
#include "api/plan_parts.h"
#include "api/structs.h"
#include "base/bounds.h"
#include "schedule/cache_core.h"
#include "schedule/soundness.h"

#include <math.h>
#include <stdio.h>

#define MAX_SCALE 2e38f /* times log2(e), a float can still hold it */
/** Larger caps count as this one, with which nothing overflows or underflows: it changes no score of less than 2^88. */
#define MAX_CAP 0x1p100f
#define MAX_RIGHT_WINDOW (1 << 30) /* added to a position, a 32-bit number still holds it */

static pod_status check_head_dim(const char *field, int32_t head_dim) {
    POD_TRY(check_range(field, head_dim, 8, POD_MAX_HEAD_DIM));
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
    POD_TRY(check_range("tree_masks", limits->tree_masks, 0, 1));
    POD_TRY(check_range("alibi", limits->alibi, 0, 1));
    POD_TRY(check_range("right_windows", limits->right_windows, 0, 1));
    return check_memory("batch_memory", limits->batch_memory);
}

/** The window through which the most is seen under any mask of the batch. */
static int32_t widest_window(const pod_batch *batch) {
    int32_t widest = batch->masks[0].window_tokens;
    for (int32_t m = 1; m < batch->num_masks; m++) {
        widest = pod_core_wider_window(widest, batch->masks[m].window_tokens);
    }
    return widest;
}

/** The page table's row of request `r`: long enough, and every page that is read exists. */
static pod_status check_pages(const pod_limits *limits, const pod_batch *batch, int32_t r) {
    int32_t page_size = limits->page_size, q_len = batch->q_start[r + 1] - batch->q_start[r];
    pod_page_range pages = pod_core_needed_pages(q_len, batch->kv_len[r], widest_window(batch), page_size);
    if (batch->page_table == NULL) {
        if (pages.end > 1) {
            return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d exceeds page_size = %d without a page_table", r,
                             batch->kv_len[r], page_size);
        }
        if (pages.end == 1 && r >= batch->num_pages) {
            return pod__fail(POD_E_ARGUMENT, "request %d needs page %d, but num_pages = %d", r, r, batch->num_pages);
        }
        return POD_OK;
    }
    if (pages.end > batch->max_pages) {
        return pod__fail(POD_E_ARGUMENT, "kv_len[%d] = %d needs %d pages of %d tokens, but max_pages = %d", r,
                         batch->kv_len[r], pages.end, page_size, batch->max_pages);
    }
    const int32_t *row = batch->page_table + r * batch->page_table_stride;
    for (int32_t p = pages.begin; p < pages.end; p++) {
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
    if (batch->num_masks > 0) POD_TRY(check_pointer("masks", batch->masks, _Alignof(pod_mask)));
    for (int32_t m = 0; m < batch->num_masks; m++) {
        /* The first mask says how long each is. */
        const size_t each = batch->masks->struct_size;
        const pod_mask *given = (const pod_mask *)(const void *)((const char *)batch->masks + (size_t)m * each);
        char field[48];
        snprintf(field, sizeof field, "masks[%d]", m);
        POD_TRY(pod__take_struct_of(&pod__mask_layouts, field, given, &masks[m]));
        if (given->struct_size != each) {
            return pod__fail(POD_E_ARGUMENT, "%s.struct_size = %zu is not that of masks[0], %zu", field,
                             given->struct_size, each);
        }
        snprintf(field, sizeof field, "masks[%d].causal_per_request", m);
        POD_TRY(check_optional(field, masks[m].causal_per_request, sizeof(int32_t)));
        if (masks[m].causal != 0 && masks[m].causal != 1) {
            return pod__fail(POD_E_ARGUMENT, "masks[%d].causal = %d is outside [0, 1]", m, masks[m].causal);
        }
        if (masks[m].window_tokens < 0) {
            return pod__fail(POD_E_ARGUMENT, "masks[%d].window_tokens = %d is negative", m, masks[m].window_tokens);
        }
        snprintf(field, sizeof field, "masks[%d].right_window_tokens", m);
        POD_TRY(check_range(field, masks[m].right_window_tokens, 0, MAX_RIGHT_WINDOW));
    }
    if (batch->num_masks == 0) {
        masks[0] = pod_mask_init();
        masks[0].causal = 1;
        batch->num_masks = 1;
    }
    batch->masks = masks;
    return POD_OK;
}

/** The table's form. A stride leads from row to row, so one row has none. */
static pod_status take_page_table(pod_batch *batch) {
    POD_TRY(check_pointer("page_table", batch->page_table, sizeof(int32_t)));
    if (batch->max_pages < 0) return pod__fail(POD_E_ARGUMENT, "max_pages = %d is negative", batch->max_pages);
    if (batch->num_requests <= 1) batch->page_table_stride = batch->max_pages;
    if (batch->page_table_stride < batch->max_pages) {
        return pod__fail(POD_E_ARGUMENT, "page_table_stride = %lld is smaller than max_pages = %d",
                         (long long)batch->page_table_stride, batch->max_pages);
    }
    return check_reach("page_table_stride", batch->page_table_stride, batch->num_requests, sizeof(int32_t));
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
    POD_TRY(check_pointer("q_start", batch->q_start, sizeof(int32_t)));
    if (batch->num_requests > 0) POD_TRY(check_pointer("kv_len", batch->kv_len, sizeof(int32_t)));
    if (batch->page_table != NULL) POD_TRY(take_page_table(batch));
    if (batch->memory == POD_MEMORY_DEVICE) return POD_OK;
    if (batch->q_start[0] != 0) return pod__fail(POD_E_ARGUMENT, "q_start[0] = %d is not 0", batch->q_start[0]);
    for (int32_t r = 0; r < batch->num_requests; r++) POD_TRY(check_request(limits, batch, r));
    batch->num_q_tokens = batch->q_start[batch->num_requests];
    return POD_OK;
}

static pod_status fill_row_strides(const pod_limits *limits, int64_t tokens, pod_tensors *t) {
    int64_t heads = limits->q_heads, dim = limits->head_dim, v_dim = limits->v_head_dim;
    size_t q_bytes = pod_dtype_size(limits->q_dtype), out_bytes = pod_dtype_size(limits->out_dtype);
    POD_TRY(fill_stride("q_head_stride", &t->q_head_stride, dim, heads, q_bytes));
    POD_TRY(fill_stride("q_token_stride", &t->q_token_stride, heads * dim, tokens, q_bytes));
    POD_TRY(fill_stride("out_head_stride", &t->out_head_stride, v_dim, heads, out_bytes));
    POD_TRY(fill_stride("out_token_stride", &t->out_token_stride, heads * v_dim, tokens, out_bytes));
    if (t->lse == NULL) return POD_OK;
    POD_TRY(fill_stride("lse_head_stride", &t->lse_head_stride, 1, heads, sizeof(float)));
    return fill_stride("lse_token_stride", &t->lse_token_stride, heads, tokens, sizeof(float));
}

pod_status pod__take_tensors(const pod_limits *limits, const pod_batch *batch, const pod_tensors *given,
                             pod_tensors *tensors) {
    POD_TRY(pod__take_struct(&pod__tensors_layouts, given, tensors));
    POD_TRY(check_pointer("q", tensors->q, pod_dtype_size(limits->q_dtype)));
    POD_TRY(check_pointer("out", tensors->out, pod_dtype_size(limits->out_dtype)));
    POD_TRY(check_optional("lse", tensors->lse, sizeof(float)));
    POD_TRY(check_optional("sinks", tensors->sinks, sizeof(float)));
    POD_TRY(check_optional("alibi_slopes", tensors->alibi_slopes, sizeof(float)));
    POD_TRY(check_optional("tree_mask", tensors->tree_mask, sizeof(uint64_t)));
    if (tensors->q_tokens < 0) return pod__fail(POD_E_ARGUMENT, "q_tokens = %d is negative", tensors->q_tokens);
    if (tensors->out_tokens < 0) return pod__fail(POD_E_ARGUMENT, "out_tokens = %d is negative", tensors->out_tokens);
    if (tensors->mask < 0 || tensors->mask >= batch->num_masks) {
        return pod__fail(POD_E_ARGUMENT, "mask = %d is outside [0, %d), the masks of the batch", tensors->mask,
                         batch->num_masks);
    }
    if (!isfinite(tensors->scale)) {
        return pod__fail(POD_E_ARGUMENT, "scale = %g is not finite", (double)tensors->scale);
    }
    if (fabsf(tensors->scale) > MAX_SCALE) {
        return pod__fail(POD_E_ARGUMENT, "scale = %g is outside [-%g, %g]", (double)tensors->scale, (double)MAX_SCALE,
                         (double)MAX_SCALE);
    }
    if (!isfinite(tensors->softcap) || tensors->softcap < 0) {
        return pod__fail(POD_E_ARGUMENT, "softcap = %g is not a finite number from 0 up", (double)tensors->softcap);
    }
    POD_TRY(fill_row_strides(limits, batch->num_q_tokens, tensors));
    if (tensors->scale == 0) tensors->scale = 1.0f / sqrtf((float)limits->head_dim);
    if (tensors->softcap > MAX_CAP) tensors->softcap = MAX_CAP;
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

/** K's or V's. */
typedef struct stride_fields {
    const char *page, *token, *head;
} stride_fields;

/** A packed page follows from its tokens, also where it has one. */
static pod_status fill_cache_strides(const pod_limits *limits, int64_t num_pages, int64_t dim,
                                     const stride_fields *fields, int64_t *page, int64_t *token, int64_t *head) {
    int64_t heads = limits->kv_heads, page_size = limits->page_size;
    int64_t given_token = *token > 0 ? *token : heads * dim;
    size_t bytes = pod_dtype_size(limits->kv_dtype);
    POD_TRY(fill_stride(fields->head, head, dim, heads, bytes));
    POD_TRY(fill_stride(fields->token, token, heads * dim, page_size, bytes));
    return fill_stride(fields->page, page, given_token * page_size, num_pages, bytes);
}

/** Without a V the values are the first elements of the keys: no one after this has to know the difference. */
static pod_status take_values_of_keys(const pod_limits *limits, pod_cache *cache) {
    if (limits->v_head_dim > limits->head_dim) {
        return pod__fail(POD_E_ARGUMENT, "v is NULL, but v_head_dim = %d is more than the head_dim = %d of k",
                         limits->v_head_dim, limits->head_dim);
    }
    if (cache->v_scale != NULL) {
        return pod__fail(POD_E_ARGUMENT, "v_scale is given, but v is NULL: values are elements of k, and k_scale's");
    }
    cache->v = cache->k;
    cache->v_scale = cache->k_scale;
    cache->v_page_stride = cache->k_page_stride;
    cache->v_token_stride = cache->k_token_stride;
    cache->v_head_stride = cache->k_head_stride;
    return POD_OK;
}

pod_status pod__take_cache(const pod_limits *limits, int32_t num_pages, const pod_cache *given, pod_cache *cache) {
    static const stride_fields k_fields = {"k_page_stride", "k_token_stride", "k_head_stride"};
    static const stride_fields v_fields = {"v_page_stride", "v_token_stride", "v_head_stride"};
    POD_TRY(pod__take_struct(&pod__cache_layouts, given, cache));
    POD_TRY(check_pointer("k", cache->k, pod_dtype_size(limits->kv_dtype)));
    POD_TRY(check_optional("v", cache->v, pod_dtype_size(limits->kv_dtype)));
    POD_TRY(check_optional("k_scale", cache->k_scale, sizeof(float)));
    POD_TRY(check_optional("v_scale", cache->v_scale, sizeof(float)));
    POD_TRY(fill_cache_strides(limits, num_pages, limits->head_dim, &k_fields, &cache->k_page_stride,
                               &cache->k_token_stride, &cache->k_head_stride));
    POD_TRY(fill_stride("scale_stride", &cache->scale_stride, 0, limits->kv_heads, sizeof(float)));
    if (cache->v == NULL) return take_values_of_keys(limits, cache);
    return fill_cache_strides(limits, num_pages, limits->v_head_dim, &v_fields, &cache->v_page_stride,
                              &cache->v_token_stride, &cache->v_head_stride);
}

static pod_status check_scales(const char *field, const float *scales, const pod_limits *limits, int64_t stride) {
    if (scales == NULL) return POD_OK;
    for (int32_t head = 0; head < (stride == 0 ? 1 : limits->kv_heads); head++) {
        float scale = scales[head * stride];
        if (isfinite(scale) && scale > 0) continue;
        return pod__fail(POD_E_ARGUMENT, "%s of KV head %d = %g is not a finite number above 0", field, head,
                         (double)scale);
    }
    return POD_OK;
}

pod_status pod__validate_scales(const pod_limits *limits, const pod_cache *cache) {
    POD_TRY(check_scales("k_scale", cache->k_scale, limits, cache->scale_stride));
    return check_scales("v_scale", cache->v_scale, limits, cache->scale_stride);
}

static pod_status fill_part_strides(pod_parts *p) {
    int64_t dim = p->head_dim, heads = p->q_heads, tokens = p->num_tokens;
    size_t part_bytes = pod_dtype_size(p->part_dtype), out_bytes = pod_dtype_size(p->out_dtype);
    POD_TRY(fill_stride("part_head_stride", &p->part_head_stride, dim, heads, part_bytes));
    POD_TRY(fill_stride("part_token_stride", &p->part_token_stride, heads * dim, tokens, part_bytes));
    POD_TRY(fill_stride("part_lse_head_stride", &p->part_lse_head_stride, 1, heads, sizeof(float)));
    POD_TRY(fill_stride("part_lse_token_stride", &p->part_lse_token_stride, heads, tokens, sizeof(float)));
    POD_TRY(fill_stride("out_head_stride", &p->out_head_stride, dim, heads, out_bytes));
    POD_TRY(fill_stride("out_token_stride", &p->out_token_stride, heads * dim, tokens, out_bytes));
    if (p->lse == NULL) return POD_OK;
    POD_TRY(fill_stride("lse_head_stride", &p->lse_head_stride, 1, heads, sizeof(float)));
    return fill_stride("lse_token_stride", &p->lse_token_stride, heads, tokens, sizeof(float));
}

pod_status pod__take_parts(const pod_parts *given, pod_parts *parts) {
    POD_TRY(pod__take_struct(&pod__parts_layouts, given, parts));
    POD_TRY(check_range("num_parts", parts->num_parts, 1, POD_MAX_PARTS));
    POD_TRY(check_range("num_tokens", parts->num_tokens, 0, INT32_MAX / 1024));
    POD_TRY(check_range("q_heads", parts->q_heads, 1, 1024));
    POD_TRY(check_head_dim("head_dim", parts->head_dim));
    POD_TRY(check_computed_dtype("part_dtype", parts->part_dtype));
    POD_TRY(check_computed_dtype("out_dtype", parts->out_dtype));
    POD_TRY(check_pointer("part_outs", parts->part_outs, sizeof(void *)));
    POD_TRY(check_pointer("part_lses", parts->part_lses, sizeof(void *)));
    for (int32_t p = 0; p < parts->num_parts; p++) {
        char field[32];
        snprintf(field, sizeof field, "part_outs[%d]", p);
        POD_TRY(check_pointer(field, parts->part_outs[p], pod_dtype_size(parts->part_dtype)));
        snprintf(field, sizeof field, "part_lses[%d]", p);
        POD_TRY(check_pointer(field, parts->part_lses[p], sizeof(float)));
    }
    POD_TRY(check_pointer("out", parts->out, pod_dtype_size(parts->out_dtype)));
    POD_TRY(check_optional("lse", parts->lse, sizeof(float)));
    return fill_part_strides(parts);
}

pod_status pod__check_doubles(const char *field, const double *array) {
    return check_pointer(field, array, sizeof(double));
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

pod_status pod__check_schedule(const pod_plan *plan, int32_t mask, const pod_schedule *schedule) {
    const pod_shape *shape = &plan->shapes[mask];
    const pod_tiling *tiling = &plan->choice.tiling;
    if (schedule->header->signature == plan->signature &&
        pod__schedule_has_sound_counts(shape, tiling, &plan->layout, schedule->header) &&
        pod__schedule_is_sound(shape, tiling, &plan->layout, schedule)) {
        return POD_OK;
    }
    return pod__fail(POD_E_WORKSPACE,
                     "workspace.plan was overwritten, or is another plan's, since this plan was built");
}

pod_status pod__check_workspace(const pod_plan *plan, int32_t mask) {
    POD_TRY(pod__plan_parts_check(plan));
    if (plan->device->backend->plan_build != NULL) return POD_OK;
    POD_TRY(pod__check_schedule(plan, mask, &plan->schedules[mask]));
    if (pod__schedule_digest(&plan->shapes[mask], &plan->schedules[mask]) == plan->digests[mask]) return POD_OK;
    return pod__fail(POD_E_WORKSPACE, "workspace.plan was overwritten since this plan was built");
}

pod_status pod__validate_built(const pod_plan *plan) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    if (!plan->is_built) return pod__fail(POD_E_STATE, "pod_plan_build() has not succeeded on this plan yet");
    return POD_OK;
}
