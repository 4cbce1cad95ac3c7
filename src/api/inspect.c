/* SPDX-License-Identifier: Apache-2.0 */
/* Looking inside a plan: the host's own schedule, or a copy of the device's. */
#include "backend/backend.h"
#include "base/status.h"

#include <stdlib.h>

static pod_status check_built(const pod_plan *plan) {
    if (plan == NULL) return pod__fail(POD_E_ARGUMENT, "plan is NULL");
    if (!plan->is_built) return pod__fail(POD_E_STATE, "pod_plan_build() has not succeeded on this plan yet");
    return POD_OK;
}

/** The schedule where the host can read it, until close_schedule(). */
static pod_status open_schedule(const pod_plan *plan, pod_schedule *schedule) {
    *schedule = plan->schedule;
    const pod_backend *backend = plan->device->backend;
    return backend->plan_read != NULL ? backend->plan_read(plan, schedule) : POD_OK;
}

static void close_schedule(const pod_plan *plan, pod_schedule *schedule) {
    if (plan->device->backend->plan_read != NULL) free(schedule->header);
}

static int visit_prefill(const pod_plan *plan, const pod_schedule *schedule,
                         int (*visit)(void *, const pod_work_item *), void *context) {
    int32_t num_tickets = pod_core_num_prefill_tickets(&plan->shape, schedule->header);
    for (int32_t ticket = 0; ticket < num_tickets; ticket++) {
        pod_prefill_item prefill = pod_core_prefill_item(&plan->shape, schedule, ticket);
        const pod_prefill_entry *entry = &prefill.entry;
        const pod_request *request = &schedule->requests[entry->request];
        int32_t row_end =
            pod_core_min(request->q_len * plan->shape.group, entry->row_begin + plan->choice.tiling.prefill_tile_rows);
        pod_key_range keys = pod_core_item_keys(&plan->shape, request, entry->row_begin, row_end, entry->tile_begin,
                                                entry->num_tiles, plan->choice.tiling.prefill_tile_tokens);
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

static int visit_decode(const pod_plan *plan, const pod_schedule *schedule, int (*visit)(void *, const pod_work_item *),
                        void *context) {
    for (int32_t turn = 0; turn < schedule->header->num_slices; turn++) {
        int32_t slice = pod_core_slice_at(&plan->shape, schedule->header, turn);
        int32_t position = pod_core_slice_begin(schedule->header, slice);
        int32_t slice_end = pod_core_slice_begin(schedule->header, slice + 1);
        while (position < slice_end) {
            pod_decode_item decode;
            pod_core_decode_item(&plan->shape, &plan->choice.tiling, schedule, position, slice, slice_end, &decode);
            const pod_request *request = &schedule->requests[decode.request];
            int32_t row_end = request->q_len * plan->shape.group;
            pod_key_range keys = pod_core_item_keys(&plan->shape, request, 0, row_end, decode.tile_begin,
                                                    decode.num_tiles, plan->choice.tiling.decode_tile_tokens);
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

static void visit_all(const pod_plan *plan, const pod_schedule *schedule, int (*visit)(void *, const pod_work_item *),
                      void *context) {
    if (visit_prefill(plan, schedule, visit, context) == 0) visit_decode(plan, schedule, visit, context);
}

pod_status pod_plan_visit(const pod_plan *plan, int (*visit)(void *context, const pod_work_item *item), void *context) {
    POD_TRY(check_built(plan));
    if (visit == NULL) return pod__fail(POD_E_ARGUMENT, "visit is NULL");
    pod_schedule schedule;
    POD_TRY(open_schedule(plan, &schedule));
    visit_all(plan, &schedule, visit, context);
    close_schedule(plan, &schedule);
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

pod_status pod_plan_get_info(const pod_plan *plan, pod_plan_info *info) {
    POD_TRY(check_built(plan));
    if (info == NULL) return pod__fail(POD_E_ARGUMENT, "info is NULL");
    if (info->struct_size != sizeof *info) {
        return pod__fail(POD_E_ARGUMENT, "info.struct_size = %zu is not %zu; start from pod_plan_info_init()",
                         info->struct_size, sizeof *info);
    }
    pod_schedule schedule;
    POD_TRY(open_schedule(plan, &schedule));
    *info = pod_plan_info_init();
    info->num_ctas = plan->choice.tiling.num_ctas;
    info->prefill_tile_rows = plan->choice.tiling.prefill_tile_rows;
    info->prefill_tile_tokens = plan->choice.tiling.prefill_tile_tokens;
    info->decode_rows = plan->choice.tiling.decode_rows;
    info->decode_tile_tokens = plan->choice.tiling.decode_tile_tokens;
    info->num_requests = plan->batch.num_requests;
    memcpy(info->kernel, plan->choice.kernel_name, sizeof info->kernel);
    memcpy(info->kernel_note, plan->choice.note, sizeof info->kernel_note);
    const pod_schedule_header *header = schedule.header;
    info->num_prefill_requests = header->num_prefill_requests;
    info->num_decode_requests = header->num_decode_requests;
    info->num_prefill_tiles = header->num_prefill_tiles;
    info->num_decode_slices = header->num_slices;
    info->num_decode_tiles = header->num_decode_tiles;
    visit_all(plan, &schedule, count_item, info);
    close_schedule(plan, &schedule);
    return POD_OK;
}

pod_status pod_device_visit_kernels(const pod_device *device, int (*visit)(void *context, const pod_kernel_info *info),
                                    void *context) {
    if (device == NULL) return pod__fail(POD_E_ARGUMENT, "device is NULL");
    if (visit == NULL) return pod__fail(POD_E_ARGUMENT, "visit is NULL");
    device->backend->visit_kernels(device, visit, context);
    return POD_OK;
}
