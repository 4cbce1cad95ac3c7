/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels as a template: included once per instruction set, after its simd_*.h, with POD_CPU_KERNELS (the table's
 * symbol) and POD_CPU_KERNELS_NAME defined; POD_CPU_PAIRS adds dot products of bf16. Each dtype of the cache is its own
 * instance: `kv_dtype` and `pairs` are constants wherever they are looked at inside a loop. */
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

#include "cpu/cpu_peak.inc.h"

/** bf16 dot products where both sides are bf16. They round the weights to bf16; short rows, where such errors average
 * out less and where there is little to gain, stay in float. */
static int uses_pairs(const cpu_job *job) {
#ifdef POD_CPU_PAIRS
    return job->plan->limits.q_dtype == POD_BF16 && job->plan->limits.kv_dtype == POD_BF16 && job->head_dim >= 64;
#else
    (void)job;
    return 0;
#endif
}

#define CPU_DISPATCH(kernel)                                                                                           \
    static void kernel##_any(const cpu_job *job, const cpu_item *item, cpu_scratch *scratch) {                         \
        pod_dtype kv_dtype = job->plan->limits.kv_dtype;                                                               \
        if (uses_pairs(job))                                                                                           \
            kernel(job, item, scratch, POD_BF16, 1);                                                                   \
        else if (kv_dtype == POD_BF16)                                                                                 \
            kernel(job, item, scratch, POD_BF16, 0);                                                                   \
        else if (kv_dtype == POD_F16)                                                                                  \
            kernel(job, item, scratch, POD_F16, 0);                                                                    \
        else                                                                                                           \
            kernel(job, item, scratch, POD_F32, 0);                                                                    \
    }
CPU_DISPATCH(prefill_item)
CPU_DISPATCH(decode_item)
#undef CPU_DISPATCH

const cpu_kernels POD_CPU_KERNELS = {
    .name = POD_CPU_KERNELS_NAME,
    .prefill = prefill_item_any,
    .decode = decode_item_any,
    .finish = rows_finish,
    .peak_multiply = peak_multiply,
    .peak_read = peak_read,
};
