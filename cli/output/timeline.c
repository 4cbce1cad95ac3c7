/* SPDX-License-Identifier: Apache-2.0 */
#include "output/timeline.h"

#include "run/host_memory.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_LANES = 4, NUM_KINDS = 2 };

/** A work item with its cost on a row that does nothing else. */
typedef struct job {
    double cost_us;
    int32_t request;
    int32_t ticket;
} job;

/** One kind's items in ticket order; a ticket is a run of items. */
typedef struct job_queue {
    job *jobs;
    int64_t count, next;
    double total_us, left_us; /**< of all, and of those that no lane took yet */
} job_queue;

typedef struct lane {
    int64_t job, ticket_end; /**< items [job, ticket_end) are this lane's */
    pod_work_kind kind;
    int is_busy;
    double left_us; /**< of the current item, at full speed */
    double begin_us;
} lane;

typedef struct row {
    lane lanes[MAX_LANES];
    double now_us;  /**< the time up to which `left_us` holds */
    double next_us; /**< when its next item ends; HUGE_VAL if it is idle */
} row;

typedef struct simulation {
    const machine *machine;
    job_queue queues[NUM_KINDS];
    row *rows;
    int32_t num_rows;
    int32_t *winners; /**< [2 * num_rows], a tree: each inner node has the row below it whose next item ends first */
    timeline *result; /**< where bars go; NULL: only the makespan is wanted */
} simulation;

/* ---- items and their costs ---- */

typedef struct collector {
    simulation *simulation;
    double tile_us[NUM_KINDS];
    int64_t filled[NUM_KINDS];
} collector;

static int collect_item(void *context, const pod_work_item *item) {
    collector *all = context;
    job_queue *queue = &all->simulation->queues[item->kind];
    double cost_us = item->num_tiles * all->tile_us[item->kind];
    int64_t at = all->filled[item->kind]++;
    if (item->kind == POD_WORK_PREFILL && at > 0 && queue->jobs[at - 1].ticket == item->ticket) {
        cost_us /= 2; /* they run at the same time: one after the other, each takes half of it */
        queue->jobs[at - 1].cost_us -= cost_us;
        queue->total_us -= cost_us;
    }
    queue->jobs[at] = (job){cost_us, item->request, item->ticket};
    queue->total_us += cost_us;
    return 0;
}

static cli_exit collect_jobs(simulation *simulation, const pod_plan *plan, const pod_plan_info *info,
                             const batch_spec *spec, cli_error *error) {
    double dims = spec->head_dim + batch_spec_v_head_dim(spec);
    double read = spec->values_in_keys ? spec->head_dim : dims;
    double flop = 2.0 * info->prefill_tile_rows * info->prefill_tile_tokens * dims;
    double bytes = read * info->decode_tile_tokens * (double)pod_dtype_size(batch_spec_kv_dtype(spec));
    collector all = {.simulation = simulation};
    all.tile_us[POD_WORK_PREFILL] = flop / (simulation->machine->row_tflops * 1e6);
    all.tile_us[POD_WORK_DECODE] = bytes / (simulation->machine->row_gb_per_s * 1e3);
    const int64_t counts[NUM_KINDS] = {info->num_prefill_items, info->num_decode_items};
    for (int kind = 0; kind < NUM_KINDS; kind++) {
        simulation->queues[kind].count = counts[kind];
        simulation->queues[kind].jobs = calloc((size_t)counts[kind] + 1, sizeof(job));
        if (simulation->queues[kind].jobs == NULL) return cli_fail_memory(error);
    }
    return pod_plan_visit(plan, 0, collect_item, &all) == POD_OK ? CLI_OK : cli_fail_library(error);
}

/* ---- lanes ---- */

static int is_empty(const job_queue *queue) {
    return queue->next == queue->count;
}

static int count_busy(const row *row, pod_work_kind kind) {
    int count = 0;
    for (int l = 0; l < MAX_LANES; l++) count += row->lanes[l].is_busy && row->lanes[l].kind == kind;
    return count;
}

/** The kind that a free lane takes: what its row does less of, otherwise the queue with the larger part left. */
static pod_work_kind choose_kind(const simulation *simulation, const row *row, int lane_idx) {
    const job_queue *prefill = &simulation->queues[POD_WORK_PREFILL], *decode = &simulation->queues[POD_WORK_DECODE];
    if (simulation->machine->kernel.has_fixed_lanes) return lane_idx == 0 ? POD_WORK_PREFILL : POD_WORK_DECODE;
    if (is_empty(prefill)) return POD_WORK_DECODE;
    if (is_empty(decode)) return POD_WORK_PREFILL;
    int prefills = count_busy(row, POD_WORK_PREFILL), decodes = count_busy(row, POD_WORK_DECODE);
    if (prefills != decodes) return prefills < decodes ? POD_WORK_PREFILL : POD_WORK_DECODE;
    return prefill->left_us / prefill->total_us >= decode->left_us / decode->total_us ? POD_WORK_PREFILL
                                                                                      : POD_WORK_DECODE;
}

static void take_ticket(simulation *simulation, row *row, int lane_idx) {
    lane *lane = &row->lanes[lane_idx];
    lane->is_busy = 0;
    lane->kind = choose_kind(simulation, row, lane_idx);
    job_queue *queue = &simulation->queues[lane->kind];
    lane->is_busy = !is_empty(queue);
    if (!lane->is_busy) return;
    lane->job = queue->next;
    int32_t ticket = queue->jobs[queue->next].ticket;
    while (!is_empty(queue) && queue->jobs[queue->next].ticket == ticket) {
        queue->left_us -= queue->jobs[queue->next++].cost_us;
    }
    lane->ticket_end = queue->next;
    lane->begin_us = row->now_us;
    lane->left_us = queue->jobs[lane->job].cost_us;
}

/** Of each busy lane of the kind. */
static double lane_speed(const simulation *simulation, const row *row, pod_work_kind kind) {
    int is_alone = count_busy(row, kind == POD_WORK_PREFILL ? POD_WORK_DECODE : POD_WORK_PREFILL) == 0;
    return 1 / (count_busy(row, kind) * (is_alone ? 1 : 1 + simulation->machine->corun_penalty));
}

static void set_next_event(const simulation *simulation, row *row) {
    row->next_us = HUGE_VAL;
    for (int l = 0; l < MAX_LANES; l++) {
        if (!row->lanes[l].is_busy) continue;
        double lasts_us = row->lanes[l].left_us / lane_speed(simulation, row, row->lanes[l].kind);
        row->next_us = fmin(row->next_us, row->now_us + lasts_us);
    }
}

static void record_bar(simulation *simulation, int32_t row_idx, int lane_idx) {
    const row *row = &simulation->rows[row_idx];
    const lane *lane = &row->lanes[lane_idx];
    const job *job = &simulation->queues[lane->kind].jobs[lane->job];
    simulation->result->bars[simulation->result->num_bars++] = (timeline_bar){
        lane->begin_us, row->now_us, row_idx, lane_idx, job->request, job->ticket, lane->kind,
    };
}

/** Goes to the end of a row's next item; that lane goes on with its ticket or takes another. */
static void advance_row(simulation *simulation, int32_t row_idx) {
    row *row = &simulation->rows[row_idx];
    double passed_us = row->next_us - row->now_us;
    int ended = 0;
    for (int l = 0; l < MAX_LANES; l++) {
        if (!row->lanes[l].is_busy) continue;
        row->lanes[l].left_us -= passed_us * lane_speed(simulation, row, row->lanes[l].kind);
        if (!row->lanes[ended].is_busy || row->lanes[l].left_us < row->lanes[ended].left_us) ended = l;
    }
    row->now_us = row->next_us;
    lane *lane = &row->lanes[ended];
    if (simulation->result != NULL) record_bar(simulation, row_idx, ended);
    lane->job++;
    if (lane->job < lane->ticket_end) {
        lane->begin_us = row->now_us;
        lane->left_us = simulation->queues[lane->kind].jobs[lane->job].cost_us;
    } else {
        take_ticket(simulation, row, ended);
    }
    set_next_event(simulation, row);
}

/** Of two rows the one whose next item ends first, and of equals the first one. */
static int32_t earlier_row(const simulation *simulation, int32_t a, int32_t b) {
    double a_us = simulation->rows[a].next_us, b_us = simulation->rows[b].next_us;
    return a_us < b_us || (a_us == b_us && a < b) ? a : b;
}

static void play_node(simulation *simulation, int32_t node) {
    int32_t *winners = simulation->winners;
    winners[node] = earlier_row(simulation, winners[2 * node], winners[2 * node + 1]);
}

/** Row r is the leaf num_rows + r, and node 1 the root; a tree of one row is its leaf. */
static void plant_tree(simulation *simulation) {
    for (int32_t r = 0; r < simulation->num_rows; r++) simulation->winners[simulation->num_rows + r] = r;
    for (int32_t node = simulation->num_rows - 1; node > 0; node--) play_node(simulation, node);
}

static void update_tree(simulation *simulation, int32_t row_idx) {
    for (int32_t node = (simulation->num_rows + row_idx) / 2; node > 0; node /= 2) play_node(simulation, node);
}

/** Runs the queues whose kinds are set in `kinds` until all rows are idle; returns when the last ends. */
static double simulate(simulation *simulation, unsigned kinds) {
    for (int kind = 0; kind < NUM_KINDS; kind++) {
        job_queue *queue = &simulation->queues[kind];
        queue->next = kinds & 1u << kind ? 0 : queue->count;
        queue->left_us = queue->total_us;
    }
    for (int32_t r = 0; r < simulation->num_rows; r++) simulation->rows[r] = (row){.now_us = 0};
    for (int l = 0; l < simulation->machine->kernel.num_lanes; l++) {
        for (int32_t r = 0; r < simulation->num_rows; r++) take_ticket(simulation, &simulation->rows[r], l);
    }
    for (int32_t r = 0; r < simulation->num_rows; r++) set_next_event(simulation, &simulation->rows[r]);
    plant_tree(simulation);
    double end_us = 0;
    const int32_t *earliest = &simulation->winners[1];
    for (int32_t r = *earliest; simulation->rows[r].next_us < HUGE_VAL; r = *earliest) {
        end_us = simulation->rows[r].next_us;
        advance_row(simulation, r);
        update_tree(simulation, r);
    }
    return end_us;
}

/* ---- the whole ---- */

static void summarise_rows(const simulation *simulation, timeline *result) {
    const row *rows = simulation->rows;
    double sum_us = 0;
    for (int32_t r = 0; r < simulation->num_rows; r++) {
        sum_us += rows[r].now_us;
        if (rows[r].now_us > rows[result->busiest_row].now_us) result->busiest_row = r;
        if (rows[r].now_us < rows[result->idlest_row].now_us) result->idlest_row = r;
    }
    result->busiest_end_us = rows[result->busiest_row].now_us;
    result->idlest_end_us = rows[result->idlest_row].now_us;
    result->mean_end_us = sum_us / simulation->num_rows;
    double prefill_us = simulation->queues[POD_WORK_PREFILL].total_us / simulation->num_rows;
    double decode_us = simulation->queues[POD_WORK_DECODE].total_us / simulation->num_rows;
    int overlaps = simulation->machine->kernel.num_lanes > 1;
    double overlap_cost = overlaps ? simulation->machine->corun_penalty : 1;
    result->share_us = fmax(prefill_us, decode_us) + overlap_cost * fmin(prefill_us, decode_us);
}

static int compare_bars(const void *left, const void *right) {
    const timeline_bar *a = left, *b = right;
    if (a->row != b->row) return a->row < b->row ? -1 : 1;
    if (a->lane != b->lane) return a->lane < b->lane ? -1 : 1;
    return (a->begin_us > b->begin_us) - (a->begin_us < b->begin_us);
}

cli_exit timeline_simulate(const pod_plan *plan, const pod_plan_info *info, const batch_spec *spec,
                           const machine *machine, int wants_bars, timeline *result, cli_error *error) {
    *result = (timeline){.num_lanes = machine->kernel.num_lanes};
    int64_t num_items = info->num_prefill_items + info->num_decode_items;
    size_t item_bytes = sizeof(job) + (wants_bars ? sizeof(timeline_bar) : 0);
    CLI_TRY(host_memory_check("the timeline", (double)num_items * (double)item_bytes, error));

    simulation simulation = {.machine = machine, .num_rows = info->num_ctas / machine->kernel.ctas_per_row};
    result->num_rows = simulation.num_rows;
    if (wants_bars) result->bars = malloc((size_t)(num_items + 1) * sizeof(timeline_bar));
    simulation.rows = calloc((size_t)simulation.num_rows, sizeof(row));
    simulation.winners = calloc(2 * (size_t)simulation.num_rows, sizeof(int32_t));
    int has_memory = simulation.rows != NULL && simulation.winners != NULL && (result->bars != NULL || !wants_bars);
    cli_exit code = has_memory ? collect_jobs(&simulation, plan, info, spec, error) : cli_fail_memory(error);
    if (code == CLI_OK) {
        result->prefill_alone_us = simulate(&simulation, 1u << POD_WORK_PREFILL);
        result->decode_alone_us = simulate(&simulation, 1u << POD_WORK_DECODE);
        simulation.result = wants_bars ? result : NULL;
        result->makespan_us = simulate(&simulation, 1u << POD_WORK_PREFILL | 1u << POD_WORK_DECODE);
        summarise_rows(&simulation, result);
        if (wants_bars) qsort(result->bars, (size_t)result->num_bars, sizeof(timeline_bar), compare_bars);
    }
    free(simulation.rows);
    free(simulation.winners);
    for (int kind = 0; kind < NUM_KINDS; kind++) free(simulation.queues[kind].jobs);
    return code;
}

void timeline_free(timeline *timeline) {
    free(timeline->bars);
    timeline->bars = NULL;
}
