/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_change.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory) {
    if (memory != NULL) return memory;
    fprintf(stderr, "out of memory on the host\n");
    exit(EXIT_FAILURE);
}

static int32_t *copy_of(const int32_t *numbers, size_t count) {
    int32_t *copy = checked(malloc((count + 1) * sizeof *copy));
    memcpy(copy, numbers, count * sizeof *copy);
    return copy;
}

gpu_room gpu_room_of(const gpu_case *c) {
    size_t n = (size_t)c->batch.batch.num_requests;
    return (gpu_room){copy_of(c->batch.q_start, n + 1), copy_of(c->batch.kv_len, n)};
}

void gpu_room_free(gpu_room *room) {
    free(room->q_start);
    free(room->kv_len);
}

/** How the query tokens of a step differ from those that the case was made with. */
typedef enum change { CHANGE_NONE_LEFT, CHANGE_NOTHING, CHANGE_ANY } change;

static change draw_change(test_rng *rng) {
    if (rng_chance(rng, 10)) return CHANGE_NONE_LEFT;
    return rng_chance(rng, 20) ? CHANGE_NOTHING : CHANGE_ANY;
}

/** New tokens of request r where `left` are not used yet: a decode may become a chunk, which costs the oracle little.
 */
static int32_t draw_q_len(const gpu_case *c, test_rng *rng, const gpu_room *room, int32_t r, int32_t left) {
    enum { MORE = 8 };
    int32_t most = room->q_start[r + 1] - room->q_start[r] + MORE;
    if (most > left) most = left;
    if (test_batch_is_causal(&c->batch, r) && most > room->kv_len[r]) most = room->kv_len[r];
    return rng_log_range(rng, 0, most);
}

static void draw_q_start(gpu_case *c, test_rng *rng, const gpu_room *room) {
    int32_t n = c->batch.batch.num_requests, *q_start = c->batch.q_start;
    change kind = draw_change(rng);
    for (int32_t r = 0; r < n; r++) {
        int32_t q_len = room->q_start[r + 1] - room->q_start[r];
        if (kind == CHANGE_NONE_LEFT) q_len = 0;
        if (kind == CHANGE_ANY) q_len = draw_q_len(c, rng, room, r, room->q_start[n] - q_start[r]);
        q_start[r + 1] = q_start[r] + q_len;
    }
}

static void upload_batch(const gpu_case *c, const gpu *gpu) {
    const pod_batch *b = &c->batch.batch, *to = &c->device_batch;
    size_t n = (size_t)b->num_requests, table = n * (size_t)b->page_table_stride;
    gpu_upload(gpu, (void *)(uintptr_t)to->q_start, b->q_start, (n + 1) * sizeof(int32_t));
    gpu_upload(gpu, (void *)(uintptr_t)to->kv_len, b->kv_len, n * sizeof(int32_t));
    if (b->page_table == NULL) return;
    gpu_upload(gpu, (void *)(uintptr_t)to->page_table, b->page_table, table * sizeof(int32_t));
}

static void change_tree(gpu_case *c, const gpu *gpu, test_rng *rng) {
    if (c->host.tree_mask == NULL) return;
    uint64_t *words = checked(test_batch_make_tree(&c->batch, rng));
    size_t bytes = (size_t)c->batch.q_start[c->batch.batch.num_requests] * sizeof *words;
    free((void *)(uintptr_t)c->host.tree_mask);
    c->host.tree_mask = words;
    gpu_upload(gpu, (void *)(uintptr_t)c->device.tree_mask, words, bytes);
}

void gpu_change(gpu_case *c, const gpu *gpu, test_rng *rng, const gpu_room *room) {
    pod_batch *b = &c->batch.batch;
    draw_q_start(c, rng, room);
    for (int32_t r = 0; r < b->num_requests; r++) {
        int32_t q_len = b->q_start[r + 1] - b->q_start[r];
        c->batch.kv_len[r] = rng_range(rng, test_batch_is_causal(&c->batch, r) ? q_len : 0, room->kv_len[r]);
    }
    if (b->page_table != NULL && !test_batch_assign_pages(&c->batch, rng, &c->limits)) checked(NULL);
    upload_batch(c, gpu);
    change_tree(c, gpu, rng);
    gpu_case_refill(c, gpu, rng);
}
