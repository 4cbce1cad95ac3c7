/* SPDX-License-Identifier: Apache-2.0 */
/* Where rows come from and go to. */
#include "cache/virtual_cache.h"

#include <time.h>

int32_t pod__virtual_rows_of(const pod_virtual_cache *cache, int32_t kv_len) {
    int64_t whole = cache->provider.read_tokens, tokens = (kv_len + whole - 1) / whole * whole;
    if (tokens > cache->info.page_size) tokens = cache->info.page_size;
    return (int32_t)((tokens * cache->info.token_bytes + cache->info.page_bytes - 1) / cache->info.page_bytes);
}

/* ---- a row and its places ---- */

static void push(pod_virtual_cache *cache, int32_t *list, int32_t row) {
    cache->rows[row].next = *list;
    *list = row;
}

static int32_t pop(pod_virtual_cache *cache, int32_t *list) {
    int32_t row = *list;
    if (row != 0) *list = cache->rows[row].next;
    return row;
}

/** A row that no place has, and no operation. */
static void retire(pod_virtual_cache *cache, int32_t row) {
    if (cache->rows[row].num_created > 0) {
        push(cache, &cache->spare_rows, row);
    } else {
        push(cache, &cache->unborn_rows, row);
        cache->num_alive--;
    }
}

static void attach(pod_virtual_cache *cache, int32_t slot_number, int32_t index, int32_t row) {
    pod_virtual_slot *slot = &cache->slots[slot_number];
    pod__virtual_place(cache, slot_number, index)->row = row;
    cache->rows[row].num_refs++;
    slot->num_rows++;
    if (index >= slot->end_row) slot->end_row = index + 1;
}

static void detach(pod_virtual_cache *cache, int32_t number) {
    pod_virtual_place *place = &cache->places[number];
    int32_t slot_number = number / cache->places_per_slot, index = number % cache->places_per_slot, row = place->row;
    pod_virtual_slot *slot = &cache->slots[slot_number];
    place->row = 0;
    slot->num_rows--;
    while (slot->end_row > 0 && pod__virtual_place(cache, slot_number, slot->end_row - 1)->row == 0) slot->end_row--;
    if (index < slot->ready_rows) slot->ready_rows = index;
    if (--cache->rows[row].num_refs == 0) retire(cache, row);
}

static int32_t number_of(const pod_virtual_cache *cache, int32_t slot, int32_t index) {
    return slot * cache->places_per_slot + index;
}

/* ---- where rows come from ---- */

/** The last row of the slot that may move: not shared, not needed, and read by no step that may be under way. */
static int32_t movable_place(const pod_virtual_cache *cache, int32_t slot_number) {
    const pod_virtual_slot *slot = &cache->slots[slot_number];
    int32_t kept = 0;
    if (slot->is_open) {
        kept = pod__virtual_rows_of(cache, slot->kv_len);
        if (slot->wanted_rows > kept) kept = slot->wanted_rows;
    }
    for (int32_t index = slot->end_row - 1; index >= kept; index--) {
        const pod_virtual_place *place = pod__virtual_place(cache, slot_number, index);
        int64_t last_step = index < slot->read_rows ? slot->last_step : slot->earlier_step;
        if (last_step > cache->finished_step) return -1;
        if (place->row != 0 && place->under_way == 0 && cache->rows[place->row].num_refs == 1)
            return number_of(cache, slot_number, index);
    }
    return -1;
}

/** Of the requests that are closed, or of those that are open; of the closed ones the one that has been it longest. */
static int32_t find_movable(const pod_virtual_cache *cache, int is_open) {
    int32_t found = -1;
    int64_t oldest = INT64_MAX;
    for (int32_t s = 0; s < cache->config.max_requests; s++) {
        const pod_virtual_slot *slot = &cache->slots[s];
        if (slot->is_open != is_open || slot->num_rows == 0 || slot->closed_at >= oldest) continue;
        int32_t place = movable_place(cache, s);
        if (place < 0) continue;
        found = place;
        oldest = slot->closed_at;
    }
    return found;
}

/** A row, and the place from which it has to be taken, or -1. 0: there is none. */
static int32_t take_row(pod_virtual_cache *cache, pod_virtual_need need, int32_t *from) {
    *from = -1;
    int32_t row = pop(cache, &cache->spare_rows);
    if (row != 0) return row;
    *from = find_movable(cache, 0);
    if (*from >= 0) return cache->places[*from].row;
    if (cache->num_alive < cache->max_rows) {
        cache->num_alive++;
        row = pop(cache, &cache->unborn_rows);
        return row != 0 ? row : ++cache->num_born;
    }
    if (need == POD_VIRTUAL_NEED) *from = find_movable(cache, 1);
    return *from >= 0 ? cache->places[*from].row : 0;
}

static void queue_operation(pod_virtual_cache *cache, int32_t row, int32_t from, int32_t to, int releases) {
    int64_t number = pod__virtual_queue_add(
        cache, (pod_virtual_operation){.row = row, .from = from, .to = to, .releases = releases});
    if (from >= 0) {
        cache->places[from].under_way = number;
        pod_virtual_slot *slot = &cache->slots[from / cache->places_per_slot];
        int32_t index = from % cache->places_per_slot;
        if (index < slot->ready_rows) slot->ready_rows = index;
    }
    if (to >= 0) cache->places[to].under_way = number;
}

int pod__virtual_map_place(pod_virtual_cache *cache, int32_t slot, int32_t index, pod_virtual_need need) {
    pod_virtual_place *place = pod__virtual_place(cache, slot, index);
    int32_t from = -1;
    if (!pod__virtual_queue_has_room(cache)) return 0;
    if (place->row == 0) {
        int32_t row = take_row(cache, need, &from);
        if (row == 0) return 0;
        attach(cache, slot, index, row);
    }
    queue_operation(cache, place->row, from, number_of(cache, slot, index), 0);
    return 1;
}

void pod__virtual_share_place(pod_virtual_cache *cache, int32_t slot, int32_t index, int32_t row) {
    attach(cache, slot, index, row);
    queue_operation(cache, row, -1, number_of(cache, slot, index), 0);
}

void pod__virtual_unmap_place(pod_virtual_cache *cache, int32_t slot, int32_t index, int releases) {
    queue_operation(cache, pod__virtual_place(cache, slot, index)->row, number_of(cache, slot, index), -1, releases);
}

int pod__virtual_release_row(pod_virtual_cache *cache) {
    if (!pod__virtual_queue_has_room(cache)) return 0;
    int32_t row = pop(cache, &cache->spare_rows);
    if (row != 0) {
        queue_operation(cache, row, -1, -1, 1);
        return 1;
    }
    int32_t place = find_movable(cache, 0);
    if (place < 0) place = find_movable(cache, 1);
    if (place < 0) return 0;
    queue_operation(cache, cache->places[place].row, place, -1, 1);
    return 1;
}

/* ---- rows that several requests have ---- */

int pod__virtual_shares(const pod_virtual_cache *cache, int32_t slot) {
    for (int32_t i = 0; i < cache->slots[slot].end_row; i++) {
        const pod_virtual_place *place = pod__virtual_place(cache, slot, i);
        /* A row that moves has two places for a while. */
        if (place->row != 0 && (place->under_way != 0 || cache->rows[place->row].num_refs > 1)) return 1;
    }
    return 0;
}

static void drain_slot(pod_virtual_cache *cache, int32_t slot_number) {
    pod_virtual_slot *slot = &cache->slots[slot_number];
    for (int32_t i = 0; i < slot->end_row; i++) {
        const pod_virtual_place *place = pod__virtual_place(cache, slot_number, i);
        if (place->row == 0 || place->under_way != 0 || cache->rows[place->row].num_refs == 1) continue;
        if (!pod__virtual_queue_has_room(cache)) return; /* the next call goes on */
        pod__virtual_unmap_place(cache, slot_number, i, 0);
    }
    if (pod__virtual_shares(cache, slot_number)) return;
    slot->may_share = 0;
    cache->num_draining--;
}

void pod__virtual_drain(pod_virtual_cache *cache) {
    for (int32_t s = 0; s < cache->config.max_requests && cache->num_draining > 0; s++) {
        const pod_virtual_slot *slot = &cache->slots[s];
        if (!slot->is_open && slot->may_share && slot->last_step <= cache->finished_step) drain_slot(cache, s);
    }
}

/* ---- what was carried out ---- */

static void remember_failure(pod_virtual_cache *cache, const pod_virtual_operation *operation) {
    if (operation->status == POD_OK || operation->to < 0 || cache->failed.status != POD_OK) return;
    if (cache->slots[operation->to / cache->places_per_slot].named_by != cache->num_calls) return;
    cache->failed.status = operation->status;
    memcpy(cache->failed.message, operation->message, sizeof cache->failed.message);
}

/** Whatever failed, the books say how far it came: a place is without its row when nothing of it is mapped there. */
static void enter(pod_virtual_cache *cache, const pod_virtual_operation *operation, int64_t number) {
    const int32_t both[] = {operation->from, operation->to};
    for (int i = 0; i < 2; i++) {
        if (both[i] < 0) continue;
        pod_virtual_place *place = &cache->places[both[i]];
        if (place->under_way == number) place->under_way = 0;
        if (place->steps == 0) detach(cache, both[i]);
    }
    if (operation->from < 0 && operation->to < 0) retire(cache, operation->row);
    remember_failure(cache, operation);
}

void pod__virtual_collect(pod_virtual_cache *cache) {
    pod_virtual_queue *queue = &cache->queue;
    int64_t num_done = pod__virtual_queue_done(queue);
    while (queue->num_collected < num_done) {
        int64_t number = ++queue->num_collected;
        enter(cache, pod__virtual_queue_at(queue, number), number);
    }
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

int pod__virtual_wait(pod_virtual_cache *cache, int64_t number) {
    int waits = pod__virtual_queue_done(&cache->queue) < number;
    if (waits) {
        double begin_us = now_us();
        pod__virtual_queue_wait(cache, number);
        double took_us = now_us() - begin_us;
        cache->stats.wait_us += took_us;
        if (took_us > cache->stats.longest_wait_us) cache->stats.longest_wait_us = took_us;
    }
    pod__virtual_collect(cache);
    return waits;
}
