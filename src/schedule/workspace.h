/* SPDX-License-Identifier: Apache-2.0 */
/* Where everything is in a workspace, and how large its two parts are for every batch within the limits. */
#ifndef POD_SCHEDULE_WORKSPACE_H
#define POD_SCHEDULE_WORKSPACE_H

#include "podattn.h"
#include "schedule/schedule_core.h"

/** Byte offsets, each a multiple of POD_WORKSPACE_ALIGN. The plan's part holds a schedule for each mask, one after the
 * other, then what they share. */
typedef struct pod_layout {
    /* within one mask's schedule */
    size_t requests, decode_begin, row_tile_begin, entries, entries_temp;
    size_t sm_tickets, slice_counters, part_counters;
    size_t mask_bytes; /**< from one mask's schedule to the next */
    /* within the plan's part */
    size_t page_errors;
    size_t q_start, kv_len, causal_per_request,
        page_table; /**< copies of a host batch, after pod__layout_add_batch() */
    size_t plan_bytes;
    /* within the scratch part */
    size_t decode_partial_out, decode_partial_sum, prefill_partial_out, prefill_partial_sum;
    size_t scratch_bytes;

    int32_t table_pages; /**< entries of a row of the copied page table */
    int32_t num_masks;
    int32_t max_entries;
    int32_t max_parts;
    uint64_t signature; /**< differs for other limits or another tiling */
} pod_layout;

/** POD_E_LIMIT where the bound does not fit size_t or 32-bit indices. */
pod_status pod__layout_make(const pod_limits *limits, const pod_tiling *tiling, pod_layout *layout);

/** Adds room for copies of a batch's arrays: for devices that cannot read the host's. */
pod_status pod__layout_add_batch(const pod_limits *limits, pod_layout *layout);

/** One mask's schedule: the layout's pointers into a workspace (host or device addresses). */
pod_schedule pod__layout_place(const pod_layout *layout, const pod_workspace *workspace, int32_t mask);

#endif
