/* SPDX-License-Identifier: Apache-2.0 */
/* Executes a plan: threads take tickets of the prefill and the decode queue; whoever finishes the last part of split
 * work merges it. Which thread computes what never changes a result: an item's arithmetic is fixed by the plan, and
 * parts are merged in their order. */
#include "base/status.h"
#include "cpu/cpu_kernels.h"
#include "schedule/merge_core.h"

/** Where the parts of a split item meet. */
typedef struct cpu_split {
    int32_t part, num_parts;
    int32_t part_0_slot, part_1_slot;
    int32_t slot_step; /**< from the slot of part 1 to that of part 2, and so on */
    int32_t slot_rows;
    uint32_t *counter; /**< parts that are done */
    float *out;        /**< [slot][slot_rows][v_head_dim] */
    float *max_sum;    /**< [slot][slot_rows][2] */
} cpu_split;

typedef struct cpu_team {
    cpu_job job;
    const cpu_kernels *kernels;
} cpu_team;

static int64_t split_row(const cpu_split *split, int32_t part, int32_t row) {
    int64_t slot = part == 0 ? split->part_0_slot : split->part_1_slot + (part - 1) * split->slot_step;
    return slot * split->slot_rows + row;
}

static void save_part(const cpu_job *job, const cpu_split *split, const cpu_scratch *scratch, int32_t num_rows) {
    for (int32_t row = 0; row < num_rows; row++) {
        int64_t place = split_row(split, split->part, row);
        split->max_sum[place * 2] = scratch->max[row];
        split->max_sum[place * 2 + 1] = scratch->sum[row];
        memcpy(split->out + place * job->v_head_dim, scratch->out + (int64_t)row * job->v_stride,
               (size_t)job->v_head_dim * sizeof(float));
    }
}

static void merge_row(const cpu_job *job, const cpu_split *split, cpu_scratch *scratch, int32_t row) {
    float max = -INFINITY, sum = 0, *out = scratch->out + (int64_t)row * job->v_stride;
    memset(out, 0, (size_t)job->v_head_dim * sizeof(float));
    for (int32_t part = 0; part < split->num_parts; part++) {
        int64_t place = split_row(split, part, row);
        const float *part_sum = split->max_sum + place * 2, *part_out = split->out + place * job->v_head_dim;
        pod_merge_factors factors = pod_merge_part(&max, &sum, part_sum[0], part_sum[1]);
        for (int32_t i = 0; i < job->v_head_dim; i++) out[i] = out[i] * factors.row + part_out[i] * factors.part;
    }
    scratch->max[row] = max;
    scratch->sum[row] = sum;
}

/** What follows the computation of an item: write it, or keep it and let the last part's thread merge. */
static void complete(const cpu_team *team, const cpu_item *item, const cpu_split *split, cpu_scratch *scratch) {
    if (split->num_parts > 1) {
        save_part(&team->job, split, scratch, item->num_rows);
        uint32_t parts_done = __atomic_add_fetch(split->counter, 1, __ATOMIC_ACQ_REL);
        if (parts_done < (uint32_t)split->num_parts) return;
        __atomic_store_n(split->counter, 0, __ATOMIC_RELAXED);
        for (int32_t row = 0; row < item->num_rows; row++) merge_row(&team->job, split, scratch, row);
    }
    team->kernels->finish(&team->job, item, scratch);
}

static cpu_item make_item(const cpu_job *job, int32_t request_idx, int32_t kv_head, int32_t row_begin,
                          int32_t tile_begin, int32_t num_tiles, int32_t max_rows) {
    const pod_shape *shape = job->shape;
    cpu_item item = {.request = job->schedule->requests[request_idx],
                     .request_idx = request_idx,
                     .kv_head = kv_head,
                     .row_begin = row_begin,
                     .tile_begin = tile_begin,
                     .num_tiles = num_tiles};
    item.num_rows = pod_core_min(item.request.q_len * shape->group - row_begin, max_rows);
    pod_key_range keys = pod_core_item_keys(shape, &item.request, row_begin, row_begin + item.num_rows, tile_begin,
                                            num_tiles, CPU_TILE_TOKENS);
    item.kv_begin = keys.begin;
    item.kv_end = keys.end;
    return item;
}

static void run_prefill(const cpu_team *team, uint32_t ticket, cpu_scratch *scratch) {
    const cpu_job *job = &team->job;
    const pod_schedule *schedule = job->schedule;
    const pod_tiling *tiling = &job->plan->choice.tiling;
    pod_prefill_item prefill = pod_core_prefill_item(job->shape, schedule, (int32_t)ticket, 1, 0);
    const pod_prefill_entry *entry = &prefill.entry;
    cpu_item item = make_item(job, entry->request, prefill.kv_head, entry->row_begin, entry->tile_begin,
                              entry->num_tiles, CPU_TILE_ROWS);
    cpu_split split = {.part = entry->part,
                       .num_parts = entry->num_parts,
                       .part_0_slot = prefill.first_slot,
                       .part_1_slot = prefill.first_slot + 1,
                       .slot_step = 1,
                       .slot_rows = tiling->prefill_tile_rows,
                       .counter = entry->num_parts > 1 ? &schedule->part_counters[prefill.first_slot] : NULL,
                       .out = schedule->prefill_partial_out,
                       .max_sum = schedule->prefill_partial_sum};
    team->kernels->prefill(&team->job, &item, scratch);
    complete(team, &item, &split, scratch);
}

/** A ticket of the decode queue is a slice of the line: it can hold many items. */
static void run_decode(const cpu_team *team, uint32_t ticket, cpu_scratch *scratch) {
    const cpu_job *job = &team->job;
    const pod_schedule *schedule = job->schedule;
    const pod_tiling *tiling = &job->plan->choice.tiling;
    int32_t slice = pod_core_slice_at(job->shape, schedule->header, (int32_t)ticket);
    int32_t position = pod_core_slice_begin(schedule->header, slice);
    int32_t slice_end = pod_core_slice_begin(schedule->header, slice + 1);
    while (position < slice_end) {
        pod_decode_item decode;
        pod_core_decode_item(job->shape, tiling, schedule, position, slice, slice_end, &decode);
        position += decode.num_tiles;
        cpu_item item =
            make_item(job, decode.request, decode.kv_head, 0, decode.tile_begin, decode.num_tiles, tiling->decode_rows);
        cpu_split split = {.part = decode.part,
                           .num_parts = decode.num_parts,
                           .part_0_slot = pod_core_decode_slot(&decode, 0),
                           .part_1_slot = pod_core_decode_slot(&decode, 1),
                           .slot_step = 2, /* slots of a slice */
                           .slot_rows = tiling->decode_rows,
                           .counter = &schedule->slice_counters[decode.first_slice],
                           .out = schedule->decode_partial_out,
                           .max_sum = schedule->decode_partial_sum};
        team->kernels->decode(&team->job, &item, scratch);
        complete(team, &item, &split, scratch);
    }
}

static void drain_prefill(const cpu_team *team, cpu_scratch *scratch) {
    pod_schedule_header *header = team->job.schedule->header;
    uint32_t num_tickets = (uint32_t)pod_core_num_prefill_tickets(team->job.shape, header, 1), ticket;
    while ((ticket = __atomic_fetch_add(&header->prefill_ticket, 1, __ATOMIC_RELAXED)) < num_tickets) {
        run_prefill(team, ticket, scratch);
    }
}

static void drain_decode(const cpu_team *team, cpu_scratch *scratch) {
    pod_schedule_header *header = team->job.schedule->header;
    uint32_t ticket;
    while ((ticket = __atomic_fetch_add(&header->decode_ticket, 1, __ATOMIC_RELAXED)) < (uint32_t)header->num_slices) {
        run_decode(team, ticket, scratch);
    }
}

/** Odd threads begin with decodes, so that computing and streaming overlap; each helps with what is left. */
static void work(void *context, int32_t thread, void *scratch) {
    const cpu_team *team = context;
    if (thread % 2 == 1) drain_decode(team, scratch);
    drain_prefill(team, scratch);
    drain_decode(team, scratch);
}

static int32_t whole_vectors(int32_t floats) {
    return (floats + 15) / 16 * 16;
}

pod_status pod__cpu_attention(const cpu_device *cpu, const pod_call *call) {
    pod_schedule_header *header = call->schedule->header;
    int64_t num_tickets = (int64_t)pod_core_num_prefill_tickets(call->shape, header, 1) + header->num_slices;
    if (num_tickets == 0) return POD_OK;
    const pod_limits *limits = &call->plan->limits;
    cpu_team team = {.job = {.plan = call->plan,
                             .shape = call->shape,
                             .schedule = call->schedule,
                             .tensors = &call->tensors,
                             .cache = &call->cache,
                             .head_dim = limits->head_dim,
                             .v_head_dim = limits->v_head_dim,
                             .q_stride = whole_vectors(limits->head_dim),
                             .v_stride = whole_vectors(limits->v_head_dim)},
                     .kernels = cpu->kernels};
    int32_t num_threads = cpu->num_threads < num_tickets ? cpu->num_threads : (int32_t)num_tickets;
    POD_TRY(pod__pool_run(cpu->pool, num_threads, work, &team));
    header->prefill_ticket = 0;
    header->decode_ticket = 0;
    return POD_OK;
}
