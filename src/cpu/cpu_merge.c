/* SPDX-License-Identifier: Apache-2.0 */
/* Merging partial results on the CPU: a row at a time. */
#include "base/dtype.h"
#include "cpu/cpu_kernels.h"
#include "schedule/merge_core.h"

#include <omp.h>

/** One row of all parts: a query token's head. */
static void merge_row(const pod_parts *parts, int64_t token, int64_t head) {
    int64_t lse_at = token * parts->part_lse_token_stride + head * parts->part_lse_head_stride;
    int64_t part_at = token * parts->part_token_stride + head * parts->part_head_stride;
    int64_t out_at = token * parts->out_token_stride + head * parts->out_head_stride;
    float row[CPU_MAX_DIM] = {0}, max = -INFINITY, sum = 0;
    for (int32_t p = 0; p < parts->num_parts; p++) max = pod_merge_larger(max, parts->part_lses[p][lse_at]);
    for (int32_t p = 0; p < parts->num_parts; p++) sum += pod_merge_weight(parts->part_lses[p][lse_at], max);
    for (int32_t p = 0; p < parts->num_parts; p++) {
        float weight = pod_merge_weight(parts->part_lses[p][lse_at], max);
        if (weight == 0.0f) continue; /* whatever such a part holds */
        for (int32_t i = 0; i < parts->head_dim; i++) {
            row[i] += weight / sum * pod__load(parts->part_outs[p], parts->part_dtype, part_at + i);
        }
    }
    for (int32_t i = 0; i < parts->head_dim; i++) pod__store(parts->out, parts->out_dtype, out_at + i, row[i]);
    if (parts->lse == NULL) return;
    parts->lse[token * parts->lse_token_stride + head * parts->lse_head_stride] = pod_merge_total(max, sum);
}

void pod__cpu_merge(const pod_parts *parts, int32_t num_threads) {
#pragma omp parallel for schedule(static) num_threads(num_threads) if (parts->num_tokens > 64)
    for (int32_t token = 0; token < parts->num_tokens; token++) {
        for (int32_t head = 0; head < parts->q_heads; head++) merge_row(parts, token, head);
    }
}
