/* SPDX-License-Identifier: Apache-2.0 */
/* Merging partial results on the CPU: a row at a time. */
#include "base/dtype.h"
#include "cpu/cpu_kernels.h"
#include "schedule/merge_core.h"

enum {
    TICKET_TOKENS = 16, /* that a thread takes at a time */
    MIN_TOKENS = 64     /* more of them are worth a second thread */
};

/** One row of all parts: a query token's head. */
static void merge_row(const pod_parts *parts, int64_t token, int64_t head) {
    int64_t lse_at = token * parts->part_lse_token_stride + head * parts->part_lse_head_stride;
    int64_t part_at = token * parts->part_token_stride + head * parts->part_head_stride;
    int64_t out_at = token * parts->out_token_stride + head * parts->out_head_stride;
    float row[POD_MAX_HEAD_DIM] = {0}, max = -INFINITY, sum = 0;
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

typedef struct merge_team {
    const pod_parts *parts;
    int32_t next_token;
} merge_team;

static void merge_tokens(void *context, int32_t thread, void *scratch) {
    merge_team *team = context;
    const pod_parts *parts = team->parts;
    int32_t begin;
    (void)thread;
    (void)scratch;
    while ((begin = __atomic_fetch_add(&team->next_token, TICKET_TOKENS, __ATOMIC_RELAXED)) < parts->num_tokens) {
        int32_t end = pod_core_min(begin + TICKET_TOKENS, parts->num_tokens);
        for (int32_t token = begin; token < end; token++) {
            for (int32_t head = 0; head < parts->q_heads; head++) merge_row(parts, token, head);
        }
    }
}

pod_status pod__cpu_merge(const cpu_device *cpu, const pod_parts *parts) {
    merge_team team = {parts, 0};
    int32_t num_threads = parts->num_tokens > MIN_TOKENS ? cpu->num_threads : 1;
    return pod__pool_run(cpu->pool, num_threads, merge_tokens, &team);
}
