/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts the rows of a token into stripes and units for the appending kernel. */
#include "cuda/kernels/append/append_params.h"

static int32_t rotation_of(const pod_rope *rope) {
    int32_t chunk = POD_APPEND_ELEMENTS;
    if (rope->style == POD_ROPE_PAIRS) return rope->rotary_dim % chunk == 0 ? POD_APPEND_PAIRS : POD_APPEND_UNEVEN;
    return rope->rotary_dim / 2 % chunk == 0 ? POD_APPEND_HALVES : POD_APPEND_UNEVEN;
}

/** Fills in how the rows' chunks are dealt to lanes, and adds the rows: stripe after stripe of their columns. What is
 * rotated, at most POD_ROPE_MAX_PAIRS pairs, is within the first. */
static void add_rows(pod_append_params *params, pod_append_stripe rows, int32_t dim) {
    const pod_rope *rope = &params->job.rope;
    rows.num_chunks = dim / POD_APPEND_ELEMENTS;
    rows.num_paired = rows.rotation == POD_APPEND_HALVES ? rope->rotary_dim / 2 / POD_APPEND_ELEMENTS : 0;
    rows.half_rest = (rows.num_chunks - 2 * rows.num_paired + 1) / 2;
    int32_t num_items = rows.num_paired + rows.half_rest, lanes = 1;
    while (lanes < POD_APPEND_LANES && lanes < num_items) {
        lanes *= 2;
        rows.lane_shift++;
    }
    int32_t chunk_bytes = POD_APPEND_ELEMENTS * (int32_t)pod_dtype_size(params->job.given.dtype);
    int32_t unit_rows = POD_APPEND_LANE_BYTES / (2 * chunk_bytes) * (POD_APPEND_LANES / lanes);
    for (rows.first_item = 0; rows.first_item < num_items; rows.first_item += lanes) {
        rows.first_unit = params->first_units[params->num_stripes] = params->num_units;
        params->num_units += (rows.heads + unit_rows - 1) / unit_rows;
        params->stripes[params->num_stripes++] = rows;
        rows.rotation = POD_APPEND_MOVED;
    }
}

pod_append_params pod__cuda_append_params(const pod_append_job *job) {
    pod_append_params params = {.job = *job};
    for (int i = 0; i < POD_APPEND_MAX_STRIPES; i++) params.first_units[i] = INT32_MAX;
    const pod_append *a = &job->given;
    const pod_cache *c = &job->cache;
    int32_t rotation = a->rope != NULL ? rotation_of(&job->rope) : POD_APPEND_MOVED;
    if (a->k != NULL) {
        pod_append_stripe k = {.from = a->k, .to = c->k, .scales = c->k_scale, .to_dtype = job->kv_dtype};
        k.kind = POD_APPEND_K;
        k.rotation = rotation;
        k.heads = job->kv_heads;
        k.from_token_stride = a->k_token_stride, k.from_head_stride = a->k_head_stride;
        k.to_page_stride = c->k_page_stride, k.to_token_stride = c->k_token_stride, k.to_head_stride = c->k_head_stride;
        add_rows(&params, k, job->head_dim);
    }
    if (a->v != NULL) {
        pod_append_stripe v = {.from = a->v, .to = c->v, .scales = c->v_scale, .to_dtype = job->kv_dtype};
        v.kind = POD_APPEND_V;
        v.heads = job->kv_heads;
        v.from_token_stride = a->v_token_stride, v.from_head_stride = a->v_head_stride;
        v.to_page_stride = c->v_page_stride, v.to_token_stride = c->v_token_stride, v.to_head_stride = c->v_head_stride;
        add_rows(&params, v, job->v_head_dim);
    }
    if (a->q != NULL) {
        pod_append_stripe q = {.from = a->q, .to = a->q_out, .to_dtype = job->q_dtype};
        q.kind = POD_APPEND_Q;
        q.rotation = rotation;
        q.heads = job->q_heads;
        q.from_token_stride = a->q_token_stride, q.from_head_stride = a->q_head_stride;
        q.to_token_stride = a->q_out_token_stride, q.to_head_stride = a->q_out_head_stride;
        add_rows(&params, q, job->head_dim);
    }
    return params;
}
