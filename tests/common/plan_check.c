/* SPDX-License-Identifier: Apache-2.0 */
#include "plan_check.h"

#include <stdio.h>
#include <stdlib.h>

#define HOLDS(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            int used = snprintf(check->message, sizeof check->message, "%s: ", #condition);                            \
            if (used > 0 && (size_t)used < sizeof check->message) {                                                    \
                snprintf(check->message + used, sizeof check->message - (size_t)used, __VA_ARGS__);                    \
            }                                                                                                          \
            return 0;                                                                                                  \
        }                                                                                                              \
    } while (0)

/** Room for `count` elements at *memory, grown in steps so that a fuzzer seldom allocates. */
static int reserve(void **memory, size_t *capacity, size_t count, size_t element_bytes) {
    if (count <= *capacity) return 1;
    size_t wanted = count + count / 2 + 64;
    void *grown = realloc(*memory, wanted * element_bytes);
    if (grown == NULL) return 0;
    *memory = grown;
    *capacity = wanted;
    return 1;
}

static int collect(void *context, const pod_work_item *item) {
    plan_check *check = context;
    void *items = check->items;
    int grown = reserve(&items, &check->capacity, check->num_items + 1, sizeof *item);
    check->items = items;
    if (!grown) return 1;
    check->items[check->num_items++] = *item;
    return 0;
}

/** Keys [*begin, *end) that a query row of a request sees, straight from the definition. */
static void visible(const pod_shape *shape, const pod_request *request, int32_t row, int64_t *begin, int64_t *end) {
    int64_t position = (int64_t)request->kv_len - request->q_len + row / shape->group;
    *end = request->is_causal ? position + 1 : request->kv_len;
    if (shape->right_window_tokens > 0 && *end > position + shape->right_window_tokens) {
        *end = position + shape->right_window_tokens;
    }
    *begin = shape->window_tokens > 0 ? position - shape->window_tokens + 1 : 0;
    if (*begin < 0) *begin = 0;
    if (*end < *begin) *end = *begin;
}

static int32_t tile_tokens(const pod_plan *plan, pod_work_kind kind) {
    return kind == POD_WORK_PREFILL ? plan->choice.tiling.prefill_tile_tokens : plan->choice.tiling.decode_tile_tokens;
}

static int check_header(plan_check *check, const pod_plan *plan) {
    const pod_schedule_header *header = check->schedule->header;
    HOLDS(header->num_requests == plan->batch.num_requests, "%d", header->num_requests);
    HOLDS(header->signature == plan->signature, "signature");
    HOLDS(header->prefill_ticket == 0 && header->decode_ticket == 0 && header->ctas_done == 0, "tickets not reset");
    HOLDS(header->num_prefill_entries >= 0 && header->num_prefill_entries <= plan->layout.max_entries, "%d of %d",
          header->num_prefill_entries, plan->layout.max_entries);
    HOLDS(header->num_slices >= 0 && header->num_slices <= plan->choice.tiling.max_slices, "%d of %d",
          header->num_slices, plan->choice.tiling.max_slices);
    for (int32_t i = 0; i < POD_MAX_SMS; i++) HOLDS(check->schedule->sm_tickets[i] == 0, "sm %d", i);
    for (int32_t i = 0; i < header->num_slices; i++) HOLDS(check->schedule->slice_counters[i] == 0, "slice %d", i);
    return 1;
}

/** Whether an item's rows leave half of a worker idle that could take another KV head's. */
static int is_narrow(const plan_check *check, const pod_plan *plan, const pod_work_item *item) {
    int32_t rows = item->row_end - item->row_begin;
    return check->shape->kv_heads % 2 == 0 && rows <= plan->choice.tiling.narrow_rows;
}

/** Whether heads are to be paired: for a request that is narrow altogether, or for a third of all tiles. */
static int pairs_heads(const plan_check *check, const pod_plan *plan) {
    int64_t tiles = 0, narrow_tiles = 0;
    for (size_t i = 0; i < check->num_items && check->items[i].kind == POD_WORK_PREFILL; i++) {
        const pod_work_item *item = &check->items[i];
        tiles += item->num_tiles;
        if (!is_narrow(check, plan, item)) continue;
        if (item->row_begin == 0) return 1;
        narrow_tiles += item->num_tiles;
    }
    return narrow_tiles > 0 && 3 * narrow_tiles >= tiles;
}

/** Two items of a ticket: of the same rows, the same keys and the two heads of a pair. */
static int check_pair(plan_check *check, const pod_work_item *first, const pod_work_item *second) {
    pod_work_item expected = *first;
    expected.kv_head++;
    HOLDS(memcmp(second, &expected, sizeof expected) == 0 && first->kv_head % 2 == 0,
          "ticket %d: request %d head %d beside request %d head %d", first->ticket, first->request, first->kv_head,
          second->request, second->kv_head);
    return 1;
}

/** Of which kind an item is where short requests are spread among long ones; otherwise there is one kind. */
static int queue_kind(const plan_check *check, const pod_plan *plan, const pod_work_item *item) {
    const pod_tiling *tiling = &plan->choice.tiling;
    int32_t rows = check->schedule->requests[item->request].q_len * check->shape->group;
    return tiling->decode_rows == 0 && rows <= tiling->prefill_tile_rows / 2;
}

/** The prefill queue: longest first, of each kind; an item to a ticket, or two where they are narrow. */
static int check_prefill_queue(plan_check *check, const pod_plan *plan, size_t *num_prefill) {
    const pod_schedule_header *header = check->schedule->header;
    size_t i = 0;
    int64_t tiles = 0, steps = 0;
    int32_t ticket = 0, has_pairs = pairs_heads(check, plan), shortest[2] = {INT32_MAX, INT32_MAX};
    for (; i < check->num_items && check->items[i].kind == POD_WORK_PREFILL; i++) {
        const pod_work_item *item = &check->items[i], *next = item + 1;
        HOLDS(item->ticket == ticket, "item %zu has ticket %d", i, item->ticket);
        int32_t *before = &shortest[queue_kind(check, plan, item)];
        HOLDS(item->num_tiles <= *before, "item %zu is longer than the one of its kind before", i);
        *before = item->num_tiles;
        steps += item->num_tiles;
        tiles += item->num_tiles;
        ticket++;
        if (!has_pairs || !is_narrow(check, plan, item)) continue;
        HOLDS(i + 1 < check->num_items, "item %zu has no other half", i);
        if (!check_pair(check, item, next)) return 0;
        tiles += next->num_tiles;
        i++;
    }
    *num_prefill = i;
    HOLDS(tiles == header->num_prefill_tiles && steps == header->num_prefill_steps, "%lld tiles in %lld steps",
          (long long)tiles, (long long)steps);
    HOLDS(header->heads_per_ticket == (has_pairs ? 2 : 1), "%d", header->heads_per_ticket);
    int32_t of_entry = check->shape->kv_heads / header->heads_per_ticket;
    HOLDS(ticket == header->num_prefill_entries * of_entry, "%d tickets", ticket);
    return 1;
}

/** The decode queue: slices in order, none empty, their tiles differ by at most one. */
static int check_decode_queue(plan_check *check, size_t first) {
    int32_t slice = -1, slice_tiles = 0, shortest = INT32_MAX, longest = 0;
    int64_t tiles = 0;
    for (size_t i = first; i <= check->num_items; i++) {
        const pod_work_item *item = i < check->num_items ? &check->items[i] : NULL;
        if (item != NULL) HOLDS(item->kind == POD_WORK_DECODE, "item %zu stands among decode work", i);
        if (item == NULL || item->ticket != slice) {
            if (slice >= 0 && slice_tiles < shortest) shortest = slice_tiles;
            if (slice >= 0 && slice_tiles > longest) longest = slice_tiles;
            slice_tiles = 0;
            if (item != NULL) HOLDS(item->ticket == slice + 1, "slice %d follows %d", item->ticket, slice);
            slice++;
        }
        if (item == NULL) break;
        slice_tiles += item->num_tiles;
        tiles += item->num_tiles;
    }
    HOLDS(slice == check->schedule->header->num_slices, "%d slices have work", slice);
    HOLDS(tiles == check->schedule->header->num_decode_tiles, "%lld tiles", (long long)tiles);
    if (tiles > 0) HOLDS(longest - shortest <= 1, "slices of %d and of %d tiles", shortest, longest);
    return 1;
}

static int by_place(const void *left, const void *right) {
    const pod_work_item *a = left, *b = right;
    if (a->request != b->request) return a->request < b->request ? -1 : 1;
    if (a->kv_head != b->kv_head) return a->kv_head < b->kv_head ? -1 : 1;
    if (a->row_begin != b->row_begin) return a->row_begin < b->row_begin ? -1 : 1;
    return (a->part > b->part) - (a->part < b->part);
}

/** All parts of one row tile and head, sorted: together they are one run of keys that holds all that its rows see. */
static int check_row_tile(plan_check *check, const pod_plan *plan, const pod_request *request,
                          const pod_work_item *parts, int32_t num_parts) {
    int32_t tokens = tile_tokens(plan, parts->kind);
    int64_t need_begin = INT64_MAX, need_end = 0;
    for (int32_t row = parts->row_begin; row < parts->row_end; row++) {
        int64_t begin, end;
        visible(check->shape, request, row, &begin, &end);
        if (begin == end) continue;
        if (begin < need_begin) need_begin = begin;
        if (end > need_end) need_end = end;
    }
    int32_t tiles = 0;
    for (int32_t p = 0; p < num_parts; p++) {
        const pod_work_item *item = &parts[p];
        HOLDS(item->part == p && item->num_parts == num_parts, "part %d of %d stands at %d of %d", item->part,
              item->num_parts, p, num_parts);
        HOLDS(item->row_end == parts->row_end && item->kind == parts->kind, "part %d has other rows", p);
        HOLDS(item->num_tiles >= 1, "part %d has no tile", p);
        HOLDS(0 <= item->kv_begin && item->kv_begin <= item->kv_end && item->kv_end <= request->kv_len,
              "keys [%d, %d) of %d", item->kv_begin, item->kv_end, request->kv_len);
        if (p > 0) {
            HOLDS(item->kv_begin == parts[p - 1].kv_end, "part %d begins at key %d", p, item->kv_begin);
            HOLDS(item->kv_begin % tokens == 0, "part %d begins inside a tile", p);
        }
        int32_t first_tile = item->kv_begin / tokens;
        int32_t spanned = (item->kv_end + tokens - 1) / tokens - first_tile;
        HOLDS(item->num_tiles == (spanned > 1 ? spanned : 1), "%d tiles for keys [%d, %d)", item->num_tiles,
              item->kv_begin, item->kv_end);
        tiles += item->num_tiles;
    }
    if (need_end == 0) {
        HOLDS(num_parts == 1 && tiles == 1, "%d parts where no key is seen", num_parts);
        return 1;
    }
    HOLDS(parts[0].kv_begin == need_begin, "keys begin at %d, not at %lld", parts[0].kv_begin, (long long)need_begin);
    HOLDS(parts[num_parts - 1].kv_end == need_end, "keys end at %d, not at %lld", parts[num_parts - 1].kv_end,
          (long long)need_end);
    return 1;
}

/** The items of one request and KV head, sorted: row tiles one after the other up to the last row. */
static int check_head(plan_check *check, const pod_plan *plan, int32_t r, int32_t head, size_t *next) {
    const pod_request *request = &check->schedule->requests[r];
    int32_t rows = request->q_len * check->shape->group, row = 0;
    pod_work_kind kind = rows > plan->choice.tiling.decode_rows ? POD_WORK_PREFILL : POD_WORK_DECODE;
    int32_t most_rows =
        kind == POD_WORK_PREFILL ? plan->choice.tiling.prefill_tile_rows : plan->choice.tiling.decode_rows;
    while (row < rows) {
        size_t first = *next, last = first;
        while (last < check->num_items && check->items[last].request == r && check->items[last].kv_head == head &&
               check->items[last].row_begin == row) {
            last++;
        }
        HOLDS(last > first, "request %d head %d row %d has no work", r, head, row);
        const pod_work_item *item = &check->items[first];
        HOLDS(item->kind == kind, "request %d has %d rows", r, rows);
        HOLDS(item->row_end > row && item->row_end - row <= most_rows && item->row_end <= rows, "rows [%d, %d) of %d",
              row, item->row_end, rows);
        if (!check_row_tile(check, plan, request, item, (int32_t)(last - first))) return 0;
        row = item->row_end;
        *next = last;
    }
    return 1;
}

static int check_coverage(plan_check *check, const pod_plan *plan) {
    if (check->num_items > 0) qsort(check->items, check->num_items, sizeof *check->items, by_place);
    size_t next = 0;
    for (int32_t r = 0; r < plan->batch.num_requests; r++) {
        for (int32_t head = 0; head < check->shape->kv_heads; head++) {
            if (!check_head(check, plan, r, head, &next)) return 0;
        }
    }
    HOLDS(next == check->num_items, "%zu items are left over", check->num_items - next);
    return 1;
}

static int marks_clear(plan_check *check, size_t count) {
    void *marks = check->marks;
    int grown = reserve(&marks, &check->marks_capacity, count, 1);
    check->marks = marks;
    if (grown && count > 0) memset(check->marks, 0, count);
    return grown;
}

int32_t plan_num_prefill_slots(const pod_shape *shape, const pod_schedule *schedule) {
    int32_t num_slots = 0;
    for (int32_t e = 0; e < schedule->header->num_prefill_entries; e++) {
        const pod_prefill_entry *entry = &schedule->entries[e];
        if (entry->num_parts == 1) continue;
        int is_for_half = entry->heads == POD_HEADS_FIRST || entry->heads == POD_HEADS_SECOND;
        num_slots += is_for_half ? shape->kv_heads / 2 : shape->kv_heads;
    }
    return num_slots;
}

/** Partial slots of split prefill tiles: each (tile, head, part) its own, with no slot between them left out, all
 * within the workspace, and their counters at zero. */
static int check_prefill_slots(plan_check *check, const pod_plan *plan) {
    const pod_schedule *schedule = check->schedule;
    int32_t num_slots = plan_num_prefill_slots(check->shape, schedule);
    HOLDS(num_slots <= plan->layout.max_parts, "%d of %d", num_slots, plan->layout.max_parts);
    HOLDS(marks_clear(check, (size_t)num_slots), "no memory");
    for (int32_t e = 0; e < schedule->header->num_prefill_entries; e++) {
        const pod_prefill_entry *entry = &schedule->entries[e];
        if (entry->num_parts == 1) continue;
        for (int32_t head = 0; head < check->shape->kv_heads; head++) {
            if (entry->heads == POD_HEADS_FIRST && head % 2 != 0) continue;
            if (entry->heads == POD_HEADS_SECOND && head % 2 == 0) continue;
            int32_t slot = entry->slot + head * entry->num_parts + entry->part;
            HOLDS(slot >= 0 && slot < num_slots, "entry %d head %d: slot %d of %d", e, head, slot, num_slots);
            HOLDS(check->marks[slot] == 0, "entry %d head %d: slot %d is taken", e, head, slot);
            check->marks[slot] = 1;
        }
    }
    for (int32_t i = 0; i < num_slots; i++) HOLDS(schedule->part_counters[i] == 0, "part %d", i);
    return 1;
}

/** Partial slots and counters of split decode work, walked as a kernel walks them. */
static int check_decode_slots(plan_check *check, const pod_plan *plan) {
    const pod_schedule *schedule = check->schedule;
    int32_t num_slices = schedule->header->num_slices, num_slots = 2 * plan->choice.tiling.max_slices;
    HOLDS(marks_clear(check, (size_t)(num_slots + num_slices)), "no memory");
    unsigned char *slots = check->marks, *counters = check->marks + num_slots;
    for (int32_t slice = 0; slice < num_slices; slice++) {
        int32_t position = pod_core_slice_begin(schedule->header, slice);
        int32_t end = pod_core_slice_begin(schedule->header, slice + 1);
        while (position < end) {
            pod_decode_item item;
            pod_core_decode_item(check->shape, &plan->choice.tiling, schedule, position, slice, end, &item);
            HOLDS(item.num_tiles >= 1, "slice %d does not advance", slice);
            position += item.num_tiles;
            if (item.num_parts == 1) continue;
            int32_t slot = pod_core_decode_slot(&item, item.part);
            HOLDS(slot >= 0 && slot < num_slots && slots[slot] == 0, "slice %d: slot %d", slice, slot);
            slots[slot] = 1;
            HOLDS(item.first_slice >= 0 && item.first_slice < num_slices, "slice %d: counter %d", slice,
                  item.first_slice);
            if (item.part != 0) continue;
            HOLDS(counters[item.first_slice] == 0, "slice %d: counter %d is taken", slice, item.first_slice);
            counters[item.first_slice] = 1;
        }
        HOLDS(position == end, "slice %d ends at %d, not at %d", slice, position, end);
    }
    return 1;
}

static int check_info(plan_check *check, const pod_plan *plan) {
    pod_plan_info info = pod_plan_info_init();
    HOLDS(pod_plan_get_info(plan, check->mask, &info) == POD_OK, "%s", pod_error_message());
    int64_t prefill = 0, splits = 0, decode = 0;
    int32_t prefills = 0, decodes = 0;
    for (size_t i = 0; i < check->num_items; i++) {
        const pod_work_item *item = &check->items[i];
        prefill += item->kind == POD_WORK_PREFILL;
        splits += item->kind == POD_WORK_PREFILL && item->num_parts > 1;
        decode += item->kind == POD_WORK_DECODE;
    }
    for (int32_t r = 0; r < plan->batch.num_requests; r++) {
        int32_t rows = check->schedule->requests[r].q_len * check->shape->group;
        prefills += rows > plan->choice.tiling.decode_rows;
        decodes += rows > 0 && rows <= plan->choice.tiling.decode_rows;
    }
    HOLDS(info.num_prefill_items == prefill && info.num_prefill_splits == splits && info.num_decode_items == decode,
          "%lld, %lld, %lld", (long long)info.num_prefill_items, (long long)info.num_prefill_splits,
          (long long)info.num_decode_items);
    HOLDS(info.num_prefill_requests == prefills && info.num_decode_requests == decodes, "%d, %d",
          info.num_prefill_requests, info.num_decode_requests);
    HOLDS(info.num_prefill_splits == plan_num_prefill_slots(check->shape, check->schedule), "%lld slots",
          (long long)info.num_prefill_splits);
    return 1;
}

static int gather_items(plan_check *check, const pod_plan *plan) {
    check->num_items = 0;
    HOLDS(pod_plan_visit(plan, check->mask, collect, check) == POD_OK, "%s", pod_error_message());
    return 1;
}

/** From here on the checks are about one of the plan's masks. */
static void choose_mask(plan_check *check, const pod_plan *plan, int32_t mask) {
    check->mask = mask;
    check->shape = &plan->shapes[mask];
    check->schedule = &plan->schedules[mask];
}

static int check_mask(plan_check *check, const pod_plan *plan) {
    size_t num_prefill = 0;
    return check_header(check, plan) && gather_items(check, plan) && check_prefill_queue(check, plan, &num_prefill) &&
           check_decode_queue(check, num_prefill) && check_coverage(check, plan) && check_prefill_slots(check, plan) &&
           check_decode_slots(check, plan) && check_info(check, plan);
}

int plan_check_all(plan_check *check, const pod_plan *plan) {
    for (int32_t m = 0; m < plan->num_masks; m++) {
        choose_mask(check, plan, m);
        if (!check_mask(check, plan)) return 0;
    }
    return 1;
}

/** One request and head: marks each (row, key) that an item covers. */
static int check_head_keys(plan_check *check, int32_t r, int32_t head) {
    const pod_request *request = &check->schedule->requests[r];
    size_t rows = (size_t)request->q_len * (size_t)check->shape->group, keys = (size_t)request->kv_len;
    HOLDS(marks_clear(check, rows * keys), "no memory");
    for (size_t i = 0; i < check->num_items; i++) {
        const pod_work_item *item = &check->items[i];
        if (item->request != r || item->kv_head != head) continue;
        for (int32_t row = item->row_begin; row < item->row_end; row++) {
            for (int32_t key = item->kv_begin; key < item->kv_end; key++) {
                check->marks[(size_t)row * keys + (size_t)key]++;
            }
        }
    }
    for (int32_t row = 0; row < (int32_t)rows; row++) {
        int64_t begin, end;
        visible(check->shape, request, row, &begin, &end);
        for (int64_t key = begin; key < end; key++) {
            unsigned char count = check->marks[(size_t)row * keys + (size_t)key];
            HOLDS(count == 1, "request %d head %d row %d key %lld is covered %d times", r, head, row, (long long)key,
                  count);
        }
    }
    return 1;
}

static int check_mask_keys(plan_check *check, const pod_plan *plan) {
    if (!gather_items(check, plan)) return 0;
    for (int32_t r = 0; r < plan->batch.num_requests; r++) {
        for (int32_t head = 0; head < check->shape->kv_heads; head++) {
            if (!check_head_keys(check, r, head)) return 0;
        }
    }
    return 1;
}

int plan_check_each_key(plan_check *check, const pod_plan *plan) {
    for (int32_t m = 0; m < plan->num_masks; m++) {
        choose_mask(check, plan, m);
        if (!check_mask_keys(check, plan)) return 0;
    }
    return 1;
}

void plan_check_free(plan_check *check) {
    free(check->items);
    free(check->marks);
    memset(check, 0, sizeof *check);
}
