/* SPDX-License-Identifier: Apache-2.0 */
/* Looking inside a plan: the host's own schedule, or a copy of the device's. */
#include "api/structs.h"
#include "api/validate.h"
#include "backend/backend.h"
#include "base/status.h"

#include <stdlib.h>

/** One mask's plan where the host can read it, until close_view(). */
typedef struct plan_view {
    const pod_tiling *tiling;
    const pod_shape *shape;
    pod_schedule schedule;
    int is_copy;
} plan_view;

static void close_view(plan_view *view) {
    if (view->is_copy) free(view->schedule.header);
}

static pod_status open_view(const pod_plan *plan, int32_t mask, plan_view *view) {
    POD_TRY(pod__validate_built(plan));
    if (mask < 0 || mask >= plan->num_masks) {
        pod__fail(POD_E_ARGUMENT, "mask = %d is outside [0, %d), the masks of the batch", mask, plan->num_masks);
        return POD_E_ARGUMENT; /* the analyser does not know that pod__fail() returns it */
    }
    const pod_backend *backend = plan->device->backend;
    view->tiling = &plan->choice.tiling;
    view->shape = &plan->shapes[mask];
    view->schedule = plan->schedules[mask];
    if (backend->plan_read != NULL) POD_TRY(backend->plan_read(plan, mask, &view->schedule));
    view->is_copy = backend->plan_read != NULL;
    pod_status status = pod__check_schedule(plan, mask, &view->schedule);
    if (status != POD_OK) close_view(view);
    return status;
}

static int visit_prefill(const plan_view *view, int (*visit)(void *, const pod_work_item *), void *context) {
    const pod_shape *shape = view->shape;
    const pod_schedule *schedule = &view->schedule;
    int32_t heads_per_ticket = schedule->header->heads_per_ticket;
    int32_t num_tickets = pod_core_num_prefill_tickets(shape, schedule->header, heads_per_ticket);
    for (int32_t i = 0; i < 2 * num_tickets; i++) {
        int32_t ticket = i / 2, half = i % 2;
        pod_prefill_item prefill = pod_core_prefill_item(shape, schedule, ticket, heads_per_ticket, half);
        const pod_prefill_entry *entry = &prefill.entry;
        if (half > 0 && entry->heads != POD_HEADS_BOTH) continue;
        const pod_request *request = &schedule->requests[entry->request];
        int32_t row_end =
            pod_core_min(request->q_len * shape->group, entry->row_begin + view->tiling->prefill_tile_rows);
        pod_key_range keys = pod_core_item_keys(shape, request, entry->row_begin, row_end, entry->tile_begin,
                                                entry->num_tiles, view->tiling->prefill_tile_tokens);
        pod_work_item item = {
            .kind = POD_WORK_PREFILL,
            .ticket = ticket,
            .request = entry->request,
            .kv_head = prefill.kv_head,
            .row_begin = entry->row_begin,
            .row_end = row_end,
            .kv_begin = keys.begin,
            .kv_end = keys.end,
            .num_tiles = entry->num_tiles,
            .part = entry->part,
            .num_parts = entry->num_parts,
        };
        if (visit(context, &item) != 0) return 1;
    }
    return 0;
}

static int visit_decode(const plan_view *view, int (*visit)(void *, const pod_work_item *), void *context) {
    const pod_shape *shape = view->shape;
    const pod_schedule *schedule = &view->schedule;
    for (int32_t turn = 0; turn < schedule->header->num_slices; turn++) {
        int32_t slice = pod_core_slice_at(shape, schedule->header, turn);
        int32_t position = pod_core_slice_begin(schedule->header, slice);
        int32_t slice_end = pod_core_slice_begin(schedule->header, slice + 1);
        while (position < slice_end) {
            pod_decode_item decode;
            pod_core_decode_item(shape, view->tiling, schedule, position, slice, slice_end, &decode);
            const pod_request *request = &schedule->requests[decode.request];
            int32_t row_end = request->q_len * shape->group;
            pod_key_range keys = pod_core_item_keys(shape, request, 0, row_end, decode.tile_begin, decode.num_tiles,
                                                    view->tiling->decode_tile_tokens);
            pod_work_item item = {
                .kind = POD_WORK_DECODE,
                .ticket = turn,
                .request = decode.request,
                .kv_head = decode.kv_head,
                .row_begin = 0,
                .row_end = row_end,
                .kv_begin = keys.begin,
                .kv_end = keys.end,
                .num_tiles = decode.num_tiles,
                .part = decode.part,
                .num_parts = decode.num_parts,
            };
            if (visit(context, &item) != 0) return 1;
            position += decode.num_tiles;
        }
    }
    return 0;
}

static void visit_all(const plan_view *view, int (*visit)(void *, const pod_work_item *), void *context) {
    if (visit_prefill(view, visit, context) == 0) visit_decode(view, visit, context);
}

pod_status pod_plan_visit(const pod_plan *plan, int32_t mask, int (*visit)(void *context, const pod_work_item *item),
                          void *context) {
    plan_view view = {0};
    POD_TRY(pod__validate_built(plan));
    if (visit == NULL) return pod__fail(POD_E_ARGUMENT, "visit is NULL");
    POD_TRY(open_view(plan, mask, &view));
    visit_all(&view, visit, context);
    close_view(&view);
    return POD_OK;
}

static int count_item(void *context, const pod_work_item *item) {
    pod_plan_info *info = context;
    if (item->kind == POD_WORK_DECODE) {
        info->num_decode_items++;
        return 0;
    }
    info->num_prefill_items++;
    info->num_prefill_splits += item->num_parts > 1;
    return 0;
}

pod_status pod_plan_get_info(const pod_plan *plan, int32_t mask, pod_plan_info *info) {
    plan_view view = {0};
    pod_plan_info made = pod_plan_info_init();
    POD_TRY(open_view(plan, mask, &view));
    const pod_schedule_header *header = view.schedule.header;
    made.num_ctas = view.tiling->num_ctas;
    made.prefill_tile_rows = view.tiling->prefill_tile_rows;
    made.prefill_tile_tokens = view.tiling->prefill_tile_tokens;
    made.decode_rows = view.tiling->decode_rows;
    made.decode_tile_tokens = view.tiling->decode_tile_tokens;
    made.num_requests = plan->batch.num_requests;
    memcpy(made.kernel, plan->choice.kernel_name, sizeof made.kernel);
    memcpy(made.kernel_note, plan->choice.note, sizeof made.kernel_note);
    made.num_prefill_requests = header->num_prefill_requests;
    made.num_decode_requests = header->num_decode_requests;
    made.num_prefill_tiles = header->num_prefill_tiles;
    made.num_decode_slices = header->num_slices;
    made.num_decode_tiles = header->num_decode_tiles;
    visit_all(&view, count_item, &made);
    close_view(&view);
    return pod__give_struct(&pod__plan_info_layouts, &made, info);
}

pod_status pod_device_visit_kernels(const pod_device *device, int (*visit)(void *context, const pod_kernel_info *info),
                                    void *context) {
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    if (visit == NULL) return pod__fail(POD_E_ARGUMENT, "visit is NULL");
    device->backend->visit_kernels(device, visit, context);
    return POD_OK;
}
