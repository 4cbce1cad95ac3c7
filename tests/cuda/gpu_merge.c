/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_merge.h"

#include "base/dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_TOKENS = 37, MAX_HEADS = 6, POISON_BYTE = 0xff };

/** The same parts on the host and on the GPU. */
typedef struct merge_case {
    pod_parts host, device;
    const void *outs[2][POD_MAX_PARTS];
    const float *lses[2][POD_MAX_PARTS];
    size_t rows, elements, part_bytes, out_bytes;
} merge_case;

static void *checked(void *memory) {
    if (memory != NULL) return memory;
    fprintf(stderr, "out of memory on the host\n");
    exit(EXIT_FAILURE);
}

static void make_case(merge_case *c, const gpu *gpu, test_rng *rng) {
    static const pod_dtype dtypes[] = {POD_F32, POD_F16, POD_BF16};
    pod_parts *p = &c->host;
    *p = pod_parts_init();
    p->num_parts = rng_range(rng, 1, POD_MAX_PARTS);
    p->num_tokens = rng_range(rng, 1, MAX_TOKENS);
    p->q_heads = rng_range(rng, 1, MAX_HEADS);
    p->head_dim = 8 * rng_range(rng, 1, 32);
    p->part_dtype = dtypes[rng_range(rng, 0, 2)];
    p->out_dtype = dtypes[rng_range(rng, 0, 2)];
    c->rows = (size_t)p->num_tokens * (size_t)p->q_heads;
    c->elements = c->rows * (size_t)p->head_dim;
    c->part_bytes = c->elements * pod_dtype_size(p->part_dtype);
    c->out_bytes = c->elements * pod_dtype_size(p->out_dtype);
    c->device = *p;
    for (int32_t i = 0; i < p->num_parts; i++) {
        void *out = checked(malloc(c->part_bytes));
        float *lse = checked(malloc(c->rows * sizeof *lse));
        for (size_t e = 0; e < c->elements; e++) pod__store(out, p->part_dtype, (int64_t)e, rng_normal(rng));
        for (size_t e = 0; e < c->rows; e++) lse[e] = rng_chance(rng, 20) ? -HUGE_VALF : 4 * rng_normal(rng);
        c->outs[0][i] = out, c->lses[0][i] = lse;
        c->outs[1][i] = gpu_copy(gpu, out, c->part_bytes);
        c->lses[1][i] = gpu_copy(gpu, lse, c->rows * sizeof *lse);
    }
    p->part_outs = c->outs[0], p->part_lses = c->lses[0];
    p->out = checked(malloc(c->out_bytes)), p->lse = checked(malloc(c->rows * sizeof(float)));
    c->device.part_outs = c->outs[1], c->device.part_lses = c->lses[1];
    c->device.out = gpu_alloc(gpu, c->out_bytes), c->device.lse = gpu_alloc(gpu, c->rows * sizeof(float));
    gpu_fill(gpu, c->device.out, POISON_BYTE, c->out_bytes);
    gpu_fill(gpu, c->device.lse, POISON_BYTE, c->rows * sizeof(float));
}

static void free_case(merge_case *c, const gpu *gpu) {
    for (int32_t i = 0; i < c->host.num_parts; i++) {
        free((void *)(uintptr_t)c->outs[0][i]);
        free((void *)(uintptr_t)c->lses[0][i]);
        gpu_free(gpu, (void *)(uintptr_t)c->outs[1][i]);
        gpu_free(gpu, (void *)(uintptr_t)c->lses[1][i]);
    }
    gpu_free(gpu, c->device.out);
    gpu_free(gpu, c->device.lse);
    free(c->host.out);
    free(c->host.lse);
}

/** Both round the same sums, in whatever order. */
static int compare(const merge_case *c, const void *out, const float *lse) {
    const pod_parts *p = &c->host;
    float bound = p->out_dtype == POD_BF16 ? 8e-3f : p->out_dtype == POD_F16 ? 1e-3f : 1e-5f;
    for (size_t e = 0; e < c->elements; e++) {
        float got = pod__load(out, p->out_dtype, (int64_t)e), want = pod__load(p->out, p->out_dtype, (int64_t)e);
        if (fabsf(got - want) <= bound * fmaxf(1, fabsf(want))) continue;
        fprintf(stderr, "element %zu is %g, not %g\n", e, (double)got, (double)want);
        return 0;
    }
    for (size_t e = 0; e < c->rows; e++) {
        float want = p->lse[e];
        if (lse[e] == want || fabsf(lse[e] - want) < 1e-5f * (1 + fabsf(want))) continue;
        fprintf(stderr, "LSE %zu is %g, not %g\n", e, (double)lse[e], (double)want);
        return 0;
    }
    return 1;
}

static int run(merge_case *c, const gpu *gpu, pod_device *device, pod_device *cpu) {
    if (pod_merge(cpu, &c->host, NULL) != POD_OK || pod_merge(device, &c->device, NULL) != POD_OK) {
        fprintf(stderr, "pod_merge: %s\n", pod_error_message());
        return 0;
    }
    void *out = checked(malloc(c->out_bytes));
    float *lse = checked(malloc(c->rows * sizeof *lse));
    gpu_download(gpu, out, c->device.out, c->out_bytes);
    gpu_download(gpu, lse, c->device.lse, c->rows * sizeof *lse);
    int same = compare(c, out, lse);
    free(out);
    free(lse);
    return same;
}

int gpu_merge_check(const gpu *gpu, pod_device *device, test_rng *rng) {
    merge_case c;
    pod_device *cpu;
    if (pod_device_open("cpu:1", &cpu) != POD_OK) return 0;
    make_case(&c, gpu, rng);
    int same = run(&c, gpu, device, cpu);
    free_case(&c, gpu);
    pod_device_close(cpu);
    return same;
}
