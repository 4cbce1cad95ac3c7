/* SPDX-License-Identifier: Apache-2.0 */
/* How long pod_cache_append() takes for 2,048 tokens of Llama-3-8B on one core of a CPU, beside a memcpy() of as many
 * bytes: the shortest of many runs of each. Fails where a plain copy takes more than five times as long. */
#include "podattn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TOKENS = 2048, Q_HEADS = 32, KV_HEADS = 8, DIM = 128, PAGE_SIZE = 16, RUNS = 30 };
enum { ROW = (Q_HEADS + 2 * KV_HEADS) * DIM, KV_ELEMENTS = TOKENS * KV_HEADS * DIM };

typedef struct bench {
    pod_plan *plan;
    pod_append append;
    pod_cache cache;
    uint16_t *qkv, *keys, *copy;
} bench;

static double now_us(void) {
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at); /* a busy machine takes the core away meanwhile */
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec * 1e-3;
}

static int run_append(bench *b) {
    return pod_cache_append(b->plan, &b->append, &b->cache, NULL) == POD_OK;
}

static int run_memcpy(bench *b) {
    memcpy(b->copy, b->keys, 2 * sizeof(uint16_t) * KV_ELEMENTS);
    return b->copy[KV_ELEMENTS] == b->keys[KV_ELEMENTS];
}

/** The shortest of RUNS, 0 if one failed. */
static double shortest_us(bench *b, int (*run)(bench *b)) {
    double shortest = 1e30;
    for (int i = 0; i < RUNS; i++) {
        double begin = now_us();
        if (!run(b)) return 0;
        double took = now_us() - begin;
        if (took < shortest) shortest = took;
    }
    return shortest;
}

static int make(bench *b, pod_device *device, int64_t *slots) {
    pod_limits limits = pod_limits_init();
    limits.q_heads = Q_HEADS;
    limits.kv_heads = KV_HEADS;
    limits.head_dim = DIM;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = POD_BF16;
    limits.page_size = PAGE_SIZE;
    limits.max_requests = 1;
    limits.max_q_tokens = limits.max_kv_len = TOKENS;
    b->qkv = calloc((size_t)TOKENS * ROW, sizeof *b->qkv);
    b->keys = calloc(2 * (size_t)KV_ELEMENTS, sizeof *b->keys);
    b->copy = calloc(2 * (size_t)KV_ELEMENTS, sizeof *b->copy);
    if (b->qkv == NULL || b->keys == NULL || b->copy == NULL) return 0;
    for (size_t i = 0; i < (size_t)TOKENS * ROW; i++) b->qkv[i] = (uint16_t)(0x3f00 + i % 200);
    for (size_t i = 0; i < 2 * (size_t)KV_ELEMENTS; i++) b->keys[i] = (uint16_t)i;
    for (int64_t t = 0; t < TOKENS; t++)
        slots[t] = (t / PAGE_SIZE * 37 % (TOKENS / PAGE_SIZE)) * PAGE_SIZE + t % PAGE_SIZE;
    b->append = pod_append_init();
    b->append.dtype = POD_BF16;
    b->append.num_tokens = TOKENS;
    b->append.num_pages = TOKENS / PAGE_SIZE;
    b->append.k = b->qkv + Q_HEADS * DIM;
    b->append.v = b->qkv + (Q_HEADS + KV_HEADS) * DIM;
    b->append.k_token_stride = b->append.v_token_stride = b->append.q_token_stride = ROW;
    b->append.q_out_token_stride = ROW;
    b->append.slot_mapping = slots;
    b->append.positions = slots;
    b->cache = pod_cache_init();
    b->cache.k = b->copy;
    b->cache.v = b->copy + KV_ELEMENTS;
    return pod_plan_create(device, &limits, &b->plan) == POD_OK;
}

int main(void) {
    static int64_t slots[TOKENS];
    static bench b;
    pod_device *device;
    static pod_rope rope;
    if (pod_device_open("cpu:1", &device) != POD_OK || !make(&b, device, slots)) {
        fprintf(stderr, "bench_append: %s\n", pod_error_message());
        return EXIT_FAILURE;
    }
    double copied = shortest_us(&b, run_memcpy), stored = shortest_us(&b, run_append);
    rope = pod_rope_init();
    b.append.rope = &rope;
    double rotated = shortest_us(&b, run_append);
    b.append.q = b.append.q_out = b.qkv;
    double with_q = shortest_us(&b, run_append);
    printf("%d tokens, %d/%d heads of %d, bf16, one core: memcpy of K and V %.0f us, append %.0f, with rotated K %.0f, "
           "with "
           "rotated K and Q %.0f\n",
           TOKENS, Q_HEADS, KV_HEADS, DIM, copied, stored, rotated, with_q);
    pod_plan_destroy(b.plan);
    pod_device_close(device);
    free(b.qkv);
    free(b.keys);
    free(b.copy);
    if (copied == 0 || stored == 0 || rotated == 0 || with_q == 0) {
        fprintf(stderr, "bench_append: %s\n", pod_error_message());
        return EXIT_FAILURE;
    }
#ifdef POD_TEST_TIMED
    if (stored > 5 * copied) {
        fprintf(stderr, "bench_append: a copy is five times a memcpy\n");
        return EXIT_FAILURE;
    }
#endif
    return EXIT_SUCCESS;
}
