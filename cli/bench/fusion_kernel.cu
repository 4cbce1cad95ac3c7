/* SPDX-License-Identifier: Apache-2.0 */
/* Two kinds of work, one bound by arithmetic and one by memory, and the ways to put both on a GPU.
 *
 * An item belongs to a group of 128 threads. A compute item multiplies in registers; a memory item adds two arrays into
 * a third. A CTA holds two groups and does two items; all launches do the same FUSION_ITEMS items of their kinds. */
#include "bench/fusion_params.h"

namespace {

enum { COMPUTE = 0, MEMORY = 1, CHAINS = 8, ITEMS_PER_CTA = 2, CTAS_PER_KIND = FUSION_ITEMS / ITEMS_PER_CTA };

struct chains {
    float value[CHAINS];
};

__device__ chains begin_chains() {
    chains x;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) x.value[i] = (float)(threadIdx.x + i);
    return x;
}

__device__ void multiply(chains &x, int iterations) {
    float factor = 1.0f + 1e-7f * (float)iterations; /* not known to the compiler */
#pragma unroll 4
    for (int i = 0; i < iterations; i++) {
#pragma unroll
        for (int k = 0; k < CHAINS; k++) x.value[k] = fmaf(x.value[k], factor, 1.0f);
    }
}

/** No such sum comes about; the compiler does not know. */
__device__ void end_chains(const chains &x, const fusion_params &params) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) sum += x.value[i];
    if (sum == -1.0f) params.c[0] = sum;
}

__device__ void compute_item(const fusion_params &params) {
    chains x = begin_chains();
    multiply(x, params.iterations * FUSION_STEPS);
    end_chains(x, params);
}

__device__ int group_thread() {
    return threadIdx.x % FUSION_GROUP_THREADS;
}

__device__ float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/** The thread's first vector of an item. */
__device__ size_t first_vector(int item) {
    return (size_t)item * FUSION_STEPS * FUSION_GROUP_THREADS + group_thread();
}

__device__ void memory_item(const fusion_params &params, int item) {
    const float4 *a = (const float4 *)params.a + first_vector(item), *b = (const float4 *)params.b + first_vector(item);
    float4 *c = (float4 *)params.c + first_vector(item);
    enum { AT_ONCE = 8 };
#pragma unroll 1
    for (int step = 0; step < FUSION_STEPS; step += AT_ONCE) {
        float4 a_reg[AT_ONCE], b_reg[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            a_reg[i] = __ldcs(&a[(step + i) * FUSION_GROUP_THREADS]);
            b_reg[i] = __ldcs(&b[(step + i) * FUSION_GROUP_THREADS]);
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) __stcs(&c[(step + i) * FUSION_GROUP_THREADS], add(a_reg[i], b_reg[i]));
    }
}

/** Both in one thread: the loads of a step travel while the thread multiplies. */
__device__ void both_items(const fusion_params &params, int item) {
    const float4 *a = (const float4 *)params.a + first_vector(item), *b = (const float4 *)params.b + first_vector(item);
    float4 *c = (float4 *)params.c + first_vector(item);
    chains x = begin_chains();
#pragma unroll 1
    for (int step = 0; step < FUSION_STEPS; step++) {
        float4 a_reg = __ldcs(&a[step * FUSION_GROUP_THREADS]), b_reg = __ldcs(&b[step * FUSION_GROUP_THREADS]);
        multiply(x, params.iterations);
        __stcs(&c[step * FUSION_GROUP_THREADS], add(a_reg, b_reg));
    }
    end_chains(x, params);
}

/** The CTA's two items of a kind. */
__device__ void do_pair(const fusion_params &params, int kind, int pair) {
    if (kind == COMPUTE) {
        compute_item(params);
    } else {
        memory_item(params, ITEMS_PER_CTA * pair + threadIdx.x / FUSION_GROUP_THREADS);
    }
}

__device__ unsigned sm_index() {
    unsigned sm;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    return sm % FUSION_MAX_SMS;
}

/** An SM's CTAs take the two kinds in turn; who finds its kind used up takes the other. */
__device__ int take_pair(fusion_counters *counters, int *kind) {
    *kind = atomicAdd(&counters->tickets[sm_index()], 1u) % 2;
    unsigned pair = atomicAdd(&counters->next[*kind], 1u);
    if (pair < CTAS_PER_KIND) return (int)pair;
    *kind = 1 - *kind;
    return (int)atomicAdd(&counters->next[*kind], 1u);
}

/** The last CTA to have taken its work leaves zeros for the next launch. */
__device__ void reset_last(fusion_counters *counters) {
    __threadfence();
    if (atomicAdd(&counters->finished, 1u) != gridDim.x - 1) return;
    for (int i = 0; i < FUSION_MAX_SMS; i++) counters->tickets[i] = 0;
    counters->next[COMPUTE] = counters->next[MEMORY] = counters->finished = 0;
}

} // namespace

#define FUSION_KERNEL extern "C" __global__ void __launch_bounds__(FUSION_THREADS, 2)

FUSION_KERNEL fusion_compute(const fusion_params params) {
    do_pair(params, COMPUTE, blockIdx.x);
}

FUSION_KERNEL fusion_memory(const fusion_params params) {
    do_pair(params, MEMORY, blockIdx.x);
}

/** Every second CTA computes; on which SM, the chip decides. */
FUSION_KERNEL fusion_cta_parallel(const fusion_params params) {
    do_pair(params, blockIdx.x % 2, blockIdx.x / 2);
}

FUSION_KERNEL fusion_thread(const fusion_params params) {
    both_items(params, ITEMS_PER_CTA * blockIdx.x + threadIdx.x / FUSION_GROUP_THREADS);
}

FUSION_KERNEL fusion_sm_aware(const fusion_params params) {
    __shared__ int kind, pair;
    if (threadIdx.x == 0) {
        pair = take_pair(params.counters, &kind);
        reset_last(params.counters);
    }
    __syncthreads();
    do_pair(params, kind, pair);
}

/** One group of each kind in every CTA. */
FUSION_KERNEL fusion_warp_specialised(const fusion_params params) {
    if (threadIdx.x < FUSION_GROUP_THREADS) {
        compute_item(params);
    } else {
        memory_item(params, blockIdx.x);
    }
}
