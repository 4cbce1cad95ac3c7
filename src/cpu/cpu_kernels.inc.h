/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels as a template: included once per instruction set, after its simd_*.h, with POD_CPU_KERNELS (the table's
 * symbol) and POD_CPU_KERNELS_NAME defined; POD_CPU_PAIRS adds dot products of bf16. Each dtype of the cache is its own
 * instance: `kv_dtype` and `pairs` are constants wherever they are looked at inside a loop. */
#include "cache/rope_core.h"
#include "cpu/cpu_kernels.h"
#include "schedule/cache_core.h"
#include "schedule/merge_core.h"

#include <float.h>

#ifdef __clang__
#define CPU_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CPU_UNROLL _Pragma("GCC unroll 16")
#endif

#include "cpu/cpu_tile.inc.h"

#include "cpu/cpu_hidden.inc.h"

#include "cpu/cpu_rows.inc.h"

#include "cpu/cpu_prefill.inc.h"

#include "cpu/cpu_decode.inc.h"

#include "cpu/cpu_append.inc.h"

#include "cpu/cpu_peak.inc.h"

/** bf16 dot products where q is bf16 and so are keys, or `becomes_bf16` says that they become so (without an error).
 * They round the weights to bf16; short rows, where such errors average out less and where there is little to gain,
 * stay in float. */
static int uses_pairs(const cpu_job *job, int becomes_bf16) {
#ifdef POD_CPU_PAIRS
    const pod_limits *limits = &job->plan->limits;
    int is_bf16 = limits->kv_dtype == POD_BF16 || (limits->kv_dtype == POD_F8E4M3 && becomes_bf16);
    return limits->q_dtype == POD_BF16 && is_bf16 && job->head_dim >= 64;
#else
    (void)job;
    (void)becomes_bf16;
    return 0;
#endif
}

/* Prefill packs a tile's e4m3 as bf16 pairs, which pays for many rows; decode widens them to float. */
#define CPU_DISPATCH(kernel, becomes_bf16)                                                                             \
    static void kernel##_any(const cpu_job *job, const cpu_item *item, cpu_scratch *scratch) {                         \
        pod_dtype kv_dtype = job->plan->limits.kv_dtype;                                                               \
        int pairs = uses_pairs(job, becomes_bf16);                                                                     \
        if (kv_dtype == POD_BF16 && pairs)                                                                             \
            kernel(job, item, scratch, POD_BF16, 1);                                                                   \
        else if (kv_dtype == POD_BF16)                                                                                 \
            kernel(job, item, scratch, POD_BF16, 0);                                                                   \
        else if (kv_dtype == POD_F8E4M3 && pairs)                                                                      \
            kernel(job, item, scratch, POD_F8E4M3, 1);                                                                 \
        else if (kv_dtype == POD_F8E4M3)                                                                               \
            kernel(job, item, scratch, POD_F8E4M3, 0);                                                                 \
        else if (kv_dtype == POD_F16)                                                                                  \
            kernel(job, item, scratch, POD_F16, 0);                                                                    \
        else                                                                                                           \
            kernel(job, item, scratch, POD_F32, 0);                                                                    \
    }
CPU_DISPATCH(prefill_item, 1)
CPU_DISPATCH(decode_item, 0)
#undef CPU_DISPATCH

const cpu_kernels POD_CPU_KERNELS = {
    .name = POD_CPU_KERNELS_NAME,
    .prefill = prefill_item_any,
    .decode = decode_item_any,
    .finish = rows_finish,
    .append_row = append_row,
    .rotation = append_rotation,
    .peak_multiply = peak_multiply,
    .peak_read = peak_read,
};
