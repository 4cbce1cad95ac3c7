/* SPDX-License-Identifier: Apache-2.0 */
/* Where everything stands in a workspace, and how large it is for every batch within the limits. */
#ifndef POD_CORE_WORKSPACE_H
#define POD_CORE_WORKSPACE_H

#include "podattn.h"
#include "schedule/schedule_core.h"

/** Byte offsets from the workspace's beginning, each a multiple of POD_WORKSPACE_ALIGN, and the total. */
typedef struct pod_layout {
    size_t requests, page_errors, decode_begin, row_tile_begin, entries, entries_temp;
    size_t sm_tickets, slice_counters, part_counters;
    size_t decode_partial_out, decode_partial_sum, prefill_partial_out, prefill_partial_sum;
    size_t q_start, kv_len, page_table; /**< copies of a host batch, only after pod__layout_add_batch() */
    size_t total_bytes;
    int32_t table_pages; /**< entries of a row of that page table */
    int32_t max_entries;
    int32_t max_parts;
    uint64_t signature; /**< differs for other limits or another tiling */
} pod_layout;

/** POD_E_LIMIT where the bound does not fit size_t or 32-bit indices. */
pod_status pod__layout_make(const pod_limits *limits, const pod_tiling *tiling, pod_layout *layout);

/** Adds room for a batch's three arrays: for backends that cannot read the host's. */
pod_status pod__layout_add_batch(const pod_limits *limits, pod_layout *layout);

/** The layout's pointers into a workspace (host or device addresses). */
pod_schedule pod__layout_place(const pod_layout *layout, void *workspace);

#endif
