/* SPDX-License-Identifier: Apache-2.0 */
#include "schedule/workspace.h"

#include "base/status.h"

typedef struct layout_builder {
    size_t offset;
    int overflow;
} layout_builder;

/** Takes room for `count` elements and returns its offset. */
static size_t layout_take(layout_builder *builder, size_t count, size_t element_bytes) {
    size_t bytes, end, begin = builder->offset;
    builder->overflow |= __builtin_mul_overflow(count, element_bytes, &bytes);
    builder->overflow |= __builtin_add_overflow(begin, bytes, &end);
    builder->overflow |= __builtin_add_overflow(end, (size_t)POD_WORKSPACE_ALIGN - 1, &end);
    builder->offset = end & ~((size_t)POD_WORKSPACE_ALIGN - 1);
    return begin;
}

static pod_status fail_size(void) {
    return pod__fail(POD_E_LIMIT, "the workspace for these limits does not fit size_t");
}

/** FNV-1a over the numbers that shape the layout. */
static uint64_t layout_signature(const pod_limits *limits, const pod_tiling *tiling) {
    const int32_t numbers[] = {limits->v_head_dim,         limits->q_heads,
                               limits->kv_heads,           limits->head_dim,
                               (int32_t)limits->q_dtype,   (int32_t)limits->kv_dtype,
                               (int32_t)limits->out_dtype, limits->page_size,
                               limits->max_requests,       limits->max_q_tokens,
                               limits->max_kv_len,         limits->max_masks,
                               tiling->num_ctas,           tiling->num_prefill_ctas,
                               tiling->prefill_tile_rows,  tiling->prefill_tile_tokens,
                               tiling->decode_rows,        tiling->decode_tile_tokens,
                               tiling->max_slices,         tiling->min_slice_tiles,
                               tiling->min_part_tiles,     tiling->max_parts,
                               tiling->num_lone_ctas,      tiling->narrow_rows};
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        hash = (hash ^ (uint32_t)numbers[i]) * 1099511628211u;
    }
    return hash;
}

/** Most prefill entries of any batch: full row tiles, one ragged tile per prefill request, and the parts of splits.
 * Wide tiles are there twice if one is narrow. */
static int64_t layout_max_entries(const pod_limits *limits, const pod_tiling *tiling, int32_t max_parts) {
    int64_t max_rows = (int64_t)limits->max_q_tokens * (limits->q_heads / limits->kv_heads);
    int64_t max_prefills = max_rows / (tiling->decode_rows + 1);
    if (max_prefills > limits->max_requests) max_prefills = limits->max_requests;
    int64_t max_tiles = max_rows / tiling->prefill_tile_rows + max_prefills;
    if (pod_core_narrow_rows(tiling, limits->kv_heads) > 0) max_tiles *= 2;
    return max_tiles + max_parts / limits->kv_heads;
}

pod_status pod__layout_make(const pod_limits *limits, const pod_tiling *tiling, pod_layout *layout) {
    int32_t max_parts = tiling->max_parts;
    int64_t max_entries = layout_max_entries(limits, tiling, max_parts);
    int64_t tiles_per_head = (int64_t)limits->max_kv_len / tiling->decode_tile_tokens + 1;
    int64_t max_decode_tiles;
    if (__builtin_mul_overflow(tiles_per_head * limits->kv_heads, (int64_t)limits->max_requests, &max_decode_tiles) ||
        max_decode_tiles > INT32_MAX) {
        return pod__fail(POD_E_LIMIT,
                         "max_requests = %d of max_kv_len = %d and kv_heads = %d are more KV tiles than 32 bits count",
                         limits->max_requests, limits->max_kv_len, limits->kv_heads);
    }
    if (max_entries * limits->kv_heads > INT32_MAX) {
        return pod__fail(POD_E_LIMIT, "max_q_tokens = %d with q_heads = %d is more row tiles than 32 bits count",
                         limits->max_q_tokens, limits->q_heads);
    }
    size_t requests = (size_t)limits->max_requests, entries = (size_t)max_entries, parts = (size_t)max_parts;
    size_t slices = (size_t)tiling->max_slices, masks = (size_t)limits->max_masks;
    size_t columns = (size_t)(tiling->partial_columns > 0 ? tiling->partial_columns : limits->v_head_dim);
    size_t decode_rows = 2 * slices * (size_t)tiling->decode_rows;
    size_t prefill_rows = parts * (size_t)tiling->prefill_tile_rows;
    layout_builder schedule = {0, 0}, plan = {0, 0}, scratch = {0, 0};
    layout_take(&schedule, 1, sizeof(pod_schedule_header));
    layout->requests = layout_take(&schedule, requests, sizeof(pod_request));
    layout->decode_begin = layout_take(&schedule, requests + 1, sizeof(int32_t));
    layout->row_tile_begin = layout_take(&schedule, requests + 1, sizeof(int32_t));
    layout->entries = layout_take(&schedule, entries, sizeof(pod_prefill_entry));
    layout->entries_temp = layout_take(&schedule, entries, sizeof(pod_prefill_entry));
    layout->sm_tickets = layout_take(&schedule, POD_MAX_SMS, sizeof(uint32_t));
    layout->slice_counters = layout_take(&schedule, slices, sizeof(uint32_t));
    layout->part_counters = layout_take(&schedule, parts, sizeof(uint32_t));
    layout->mask_bytes = schedule.offset;
    layout_take(&plan, masks, schedule.offset);
    layout->page_errors = layout_take(&plan, requests, sizeof(uint32_t));
    layout->plan_bytes = plan.offset;
    layout->decode_partial_sum = layout_take(&scratch, decode_rows, 2 * sizeof(float));
    layout->prefill_partial_sum = layout_take(&scratch, prefill_rows, 2 * sizeof(float));
    layout->decode_partial_out = layout_take(&scratch, decode_rows, columns * sizeof(float));
    layout->prefill_partial_out = layout_take(&scratch, prefill_rows, columns * sizeof(float));
    layout->scratch_bytes = scratch.offset;
    if (schedule.overflow || plan.overflow || scratch.overflow) return fail_size();
    layout->num_masks = limits->max_masks;
    layout->max_entries = (int32_t)max_entries;
    layout->max_parts = max_parts;
    layout->signature = layout_signature(limits, tiling);
    return POD_OK;
}

pod_status pod__layout_add_batch(const pod_limits *limits, pod_layout *layout) {
    size_t requests = (size_t)limits->max_requests, masks = (size_t)layout->num_masks;
    layout_builder builder = {layout->plan_bytes, 0};
    layout->table_pages = pod_core_ceil_div(limits->max_kv_len, limits->page_size);
    layout->q_start = layout_take(&builder, requests + 1, sizeof(int32_t));
    layout->kv_len = layout_take(&builder, requests, sizeof(int32_t));
    layout->causal_per_request = layout_take(&builder, masks * requests, sizeof(int32_t));
    layout->page_table = layout_take(&builder, requests * (size_t)layout->table_pages, sizeof(int32_t));
    if (builder.overflow) return fail_size();
    layout->plan_bytes = builder.offset;
    return POD_OK;
}

/** A part of scratch memory, which a plan need not have before attention runs. */
static float *scratch_at(char *scratch, size_t offset) {
    return scratch == NULL ? NULL : (float *)(void *)(scratch + offset);
}

pod_schedule pod__layout_place(const pod_layout *layout, const pod_workspace *workspace, int32_t mask) {
    char *plan = workspace->plan, *scratch = workspace->scratch;
    char *base = plan + (size_t)mask * layout->mask_bytes;
    pod_schedule schedule = {
        .header = (pod_schedule_header *)(void *)base,
        .requests = (pod_request *)(void *)(base + layout->requests),
        .page_errors = (uint32_t *)(void *)(plan + layout->page_errors),
        .decode_begin = (int32_t *)(void *)(base + layout->decode_begin),
        .row_tile_begin = (int32_t *)(void *)(base + layout->row_tile_begin),
        .entries = (pod_prefill_entry *)(void *)(base + layout->entries),
        .entries_temp = (pod_prefill_entry *)(void *)(base + layout->entries_temp),
        .sm_tickets = (uint32_t *)(void *)(base + layout->sm_tickets),
        .slice_counters = (uint32_t *)(void *)(base + layout->slice_counters),
        .part_counters = (uint32_t *)(void *)(base + layout->part_counters),
        .decode_partial_out = scratch_at(scratch, layout->decode_partial_out),
        .decode_partial_sum = scratch_at(scratch, layout->decode_partial_sum),
        .prefill_partial_out = scratch_at(scratch, layout->prefill_partial_out),
        .prefill_partial_sum = scratch_at(scratch, layout->prefill_partial_sum),
    };
    return schedule;
}
