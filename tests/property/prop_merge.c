/* SPDX-License-Identifier: Apache-2.0 */
/* pod_merge() against its definition in double precision: random parts with any strides, parts that saw no key and hold
 * NaN, results in place of a part. Nothing but the result's rows is written. */
#include "base/dtype.h"
#include "guarded.h"
#include "property.h"

#include <math.h>

enum { NAN_BYTE = 0xff, MAX_TOKENS = 9, MAX_HEADS = 5, MAX_DIM = 576 };

typedef struct merge_case {
    pod_parts parts;
    guarded outs[POD_MAX_PARTS], lses[POD_MAX_PARTS], out, lse;
    const void *part_outs[POD_MAX_PARTS];
    const float *part_lses[POD_MAX_PARTS];
    double expected[MAX_TOKENS * MAX_HEADS][MAX_DIM], expected_lse[MAX_TOKENS * MAX_HEADS];
} merge_case;

/** Strides of [tokens][heads][width] with gaps; returns the elements spanned. */
static int64_t random_strides(test_rng *rng, const pod_parts *p, int32_t width, int64_t *token, int64_t *head) {
    *head = width + 8 * rng_range(rng, 0, 2);
    *token = *head * p->q_heads + 8 * rng_range(rng, 0, 3);
    return *token * p->num_tokens + 1;
}

static int make_shape(test_rng *rng, merge_case *c) {
    static const pod_dtype dtypes[] = {POD_F32, POD_F16, POD_BF16};
    pod_parts *p = &c->parts;
    *p = pod_parts_init();
    p->num_parts = rng_range(rng, 1, POD_MAX_PARTS);
    p->num_tokens = rng_range(rng, 0, MAX_TOKENS);
    p->q_heads = rng_range(rng, 1, MAX_HEADS);
    p->head_dim = 8 * rng_range(rng, 1, rng_chance(rng, 10) ? MAX_DIM / 8 : 32);
    p->part_dtype = dtypes[rng_range(rng, 0, 2)];
    p->out_dtype = dtypes[rng_range(rng, 0, 2)];
    p->part_outs = c->part_outs;
    p->part_lses = c->part_lses;
    int64_t span = random_strides(rng, p, p->head_dim, &p->part_token_stride, &p->part_head_stride);
    int64_t lse_span = random_strides(rng, p, 1, &p->part_lse_token_stride, &p->part_lse_head_stride);
    for (int32_t i = 0; i < p->num_parts; i++) {
        c->outs[i] = guarded_alloc((size_t)span * pod_dtype_size(p->part_dtype), NAN_BYTE);
        c->lses[i] = guarded_alloc((size_t)lse_span * sizeof(float), NAN_BYTE);
        PROPERTY(c->outs[i].data != NULL && c->lses[i].data != NULL, "no memory");
        c->part_outs[i] = c->outs[i].data;
        c->part_lses[i] = (const float *)(void *)c->lses[i].data;
    }
    span = random_strides(rng, p, p->head_dim, &p->out_token_stride, &p->out_head_stride);
    lse_span = random_strides(rng, p, 1, &p->lse_token_stride, &p->lse_head_stride);
    c->out = guarded_alloc((size_t)span * pod_dtype_size(p->out_dtype), NAN_BYTE);
    c->lse = guarded_alloc((size_t)lse_span * sizeof(float), NAN_BYTE);
    PROPERTY(c->out.data != NULL && c->lse.data != NULL, "no memory");
    p->out = c->out.data;
    p->lse = rng_chance(rng, 80) ? (float *)(void *)c->lse.data : NULL;
    return 0;
}

/** One row of all parts; a part that saw no key stays NaN. The expected row with it. */
static void fill_row(test_rng *rng, merge_case *c, int32_t token, int32_t head) {
    const pod_parts *p = &c->parts;
    int32_t row = token * p->q_heads + head, spread = rng_chance(rng, 20) ? 100 : 3;
    double max = -INFINITY, sum = 0, lses[POD_MAX_PARTS] = {0};
    for (int32_t i = 0; i < p->num_parts; i++) {
        float lse = rng_chance(rng, 20) ? -INFINITY : (float)spread * rng_normal(rng);
        ((float *)(void *)c->lses[i].data)[token * p->part_lse_token_stride + head * p->part_lse_head_stride] = lse;
        lses[i] = (double)lse;
        max = fmax(max, lses[i]);
    }
    for (int32_t d = 0; d < p->head_dim; d++) c->expected[row][d] = 0;
    for (int32_t i = 0; i < p->num_parts && max > -INFINITY; i++) sum += exp(lses[i] - max);
    for (int32_t i = 0; i < p->num_parts; i++) {
        if (lses[i] == -INFINITY) continue;
        int64_t at = token * p->part_token_stride + head * p->part_head_stride;
        for (int32_t d = 0; d < p->head_dim; d++) {
            pod__store(c->outs[i].data, p->part_dtype, at + d, rng_normal(rng));
            double value = (double)pod__load(c->outs[i].data, p->part_dtype, at + d);
            c->expected[row][d] += exp(lses[i] - max) / sum * value;
        }
    }
    c->expected_lse[row] = max == -INFINITY ? -INFINITY : max + log(sum);
}

/** The result takes the place of the last part. */
static void put_in_place(merge_case *c) {
    pod_parts *p = &c->parts;
    int32_t last = p->num_parts - 1;
    p->out = c->outs[last].data;
    p->out_dtype = p->part_dtype;
    p->out_token_stride = p->part_token_stride;
    p->out_head_stride = p->part_head_stride;
    p->lse = (float *)(void *)c->lses[last].data;
    p->lse_token_stride = p->part_lse_token_stride;
    p->lse_head_stride = p->part_lse_head_stride;
}

static int check_row(merge_case *c, int32_t token, int32_t head) {
    const pod_parts *p = &c->parts;
    int32_t row = token * p->q_heads + head;
    double bound = p->out_dtype == POD_BF16 ? 5e-3 : p->out_dtype == POD_F16 ? 1e-3 : 2e-6;
    int64_t at = token * p->out_token_stride + head * p->out_head_stride;
    for (int32_t d = 0; d < p->head_dim; d++) {
        double value = (double)pod__load(p->out, p->out_dtype, at + d), expected = c->expected[row][d];
        PROPERTY(fabs(value - expected) <= bound * fmax(1, fabs(expected)), "[%d][%d][%d] is %g, not %g", token, head,
                 d, value, expected);
        pod__store(p->out, p->out_dtype, at + d, NAN);
    }
    if (p->lse == NULL) return 0;
    float *lse = &p->lse[token * p->lse_token_stride + head * p->lse_head_stride];
    PROPERTY((double)*lse == c->expected_lse[row] || fabs((double)*lse - c->expected_lse[row]) < 1e-4, "LSE %g, not %g",
             (double)*lse, c->expected_lse[row]);
    *lse = NAN;
    return 0;
}

/** Every number is NaN (checked rows were made so): nothing else was written. */
static int is_all_nan(const guarded *memory, pod_dtype dtype) {
    size_t count = memory->bytes / pod_dtype_size(dtype);
    for (size_t i = 0; i < count; i++) {
        if (!isnan(pod__load(memory->data, dtype, (int64_t)i))) return 0;
    }
    return guarded_intact(memory);
}

static int check_case(test_rng *rng, merge_case *c, pod_device *device) {
    const pod_parts *p = &c->parts;
    for (int32_t t = 0; t < p->num_tokens; t++) {
        for (int32_t h = 0; h < p->q_heads; h++) fill_row(rng, c, t, h);
    }
    int in_place = rng_chance(rng, 30);
    if (in_place) put_in_place(c);
    PROPERTY(pod_merge(device, p, NULL) == POD_OK, "%s", pod_error_message());
    for (int32_t t = 0; t < p->num_tokens; t++) {
        for (int32_t h = 0; h < p->q_heads; h++) {
            if (check_row(c, t, h)) return 1;
        }
    }
    if (in_place) return 0;
    PROPERTY(is_all_nan(&c->out, p->out_dtype) && is_all_nan(&c->lse, POD_F32), "written outside of the rows");
    return 0;
}

static int merge_property(test_rng *rng, void *context) {
    static merge_case c;
    memset(&c, 0, sizeof c);
    int failed = make_shape(rng, &c) || check_case(rng, &c, context);
    for (int32_t i = 0; i < POD_MAX_PARTS; i++) {
        guarded_free(&c.outs[i]);
        guarded_free(&c.lses[i]);
    }
    guarded_free(&c.out);
    guarded_free(&c.lse);
    return failed;
}

int main(void) {
    pod_device *device;
    if (pod_device_open("cpu:2", &device) != POD_OK) {
        fprintf(stderr, "%s\n", pod_error_message());
        return 1;
    }
    int code = property_run("merge", 3000, merge_property, device);
    pod_device_close(device);
    return code;
}
