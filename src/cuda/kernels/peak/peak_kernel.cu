/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU's ceilings: CTAs that only read memory, and CTAs that only multiply on the tensor cores, alone or side by side
 * on every SM. Each works until its time is over and says how far it came, so that both kinds end together however they
 * share an SM. */
#include "cuda/kernels/cta.cuh"
#include "cuda/kernels/peak/peak_params.h"
#include "cuda/kernels/ptx/ptx_sm90.cuh"

namespace {

/** Mixes all bits of a counter. */
__device__ __forceinline__ uint32_t random_bits(uint64_t counter) {
    uint64_t z = (counter + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

/* ---- reading ---- */

/** The CTA's chunks, round and round through the data. */
struct chunk_walk {
    const pod_peak_params &params;
    uint64_t chunk;

    __device__ const char *next() {
        const char *data = params.data + chunk * POD_PEAK_CHUNK_BYTES;
        chunk += gridDim.x;
        if (chunk >= params.num_chunks) chunk -= params.num_chunks;
        return data;
    }
};

#if __CUDA_ARCH__ >= 900

/** Starts a copy that completes a phase of the barrier. */
__device__ __forceinline__ void request(uint32_t to_smem, const char *from_gmem, uint32_t barrier_smem) {
    ptx_mbarrier_arrive_expect(barrier_smem, POD_PEAK_CHUNK_BYTES);
    ptx_bulk_load(to_smem, from_gmem, POD_PEAK_CHUNK_BYTES, barrier_smem);
}

/** One thread keeps every stage busy with bulk copies; what they bring is not read. Returns chunks. */
__device__ uint64_t read_until(const pod_peak_params &p, char *stages, uint64_t end_ns) {
    __shared__ uint64_t full[POD_PEAK_MAX_STAGES];
    if (threadIdx.x != 0) return 0;
    chunk_walk walk = {p, blockIdx.x};
    uint64_t num_chunks = 0;
    uint32_t parity = 0, stages_smem = smem_address(stages), full_smem = smem_address(full);
    for (int s = 0; s < p.num_stages; s++) ptx_mbarrier_init(full_smem + 8 * s, 1);
    ptx_fence_mbarrier_init();
    for (int s = 0; s < p.num_stages; s++) {
        request(stages_smem + s * POD_PEAK_CHUNK_BYTES, walk.next(), full_smem + 8 * s);
    }
    do {
        for (int s = 0; s < p.num_stages; s++) {
            ptx_mbarrier_wait(full_smem + 8 * s, parity);
            request(stages_smem + s * POD_PEAK_CHUNK_BYTES, walk.next(), full_smem + 8 * s);
        }
        parity ^= 1;
        num_chunks += p.num_stages;
    } while (ptx_globaltimer() < end_ns);
    for (int s = 0; s < p.num_stages; s++) ptx_mbarrier_wait(full_smem + 8 * s, parity);
    return num_chunks + p.num_stages;
}

#else

/** Starts this thread's part of a copy. */
__device__ __forceinline__ void request(char *to, const char *from_gmem) {
#pragma unroll
    for (int at = 0; at < POD_PEAK_CHUNK_BYTES; at += 16 * POD_PEAK_THREADS) {
        ptx_cp_async_16(smem_address(to) + at + 16 * threadIdx.x, from_gmem + at + 16 * threadIdx.x);
    }
    ptx_cp_async_commit();
}

/** All threads copy; each waits only for its own copies, as what they bring is not read. Returns chunks. */
__device__ uint64_t read_until(const pod_peak_params &p, char *stages, uint64_t end_ns) {
    chunk_walk walk = {p, blockIdx.x};
    uint64_t num_chunks = POD_PEAK_MIN_STAGES;
    for (int s = 0; s < POD_PEAK_MIN_STAGES; s++) request(stages + s * POD_PEAK_CHUNK_BYTES, walk.next());
    do {
        for (int s = 0; s < POD_PEAK_MIN_STAGES; s++) {
            ptx_cp_async_wait<POD_PEAK_MIN_STAGES - 1>();
            request(stages + s * POD_PEAK_CHUNK_BYTES, walk.next());
        }
        num_chunks += POD_PEAK_MIN_STAGES;
    } while (ptx_globaltimer() < end_ns);
    ptx_cp_async_wait<0>();
    return num_chunks;
}

#endif

/* ---- multiplying ---- */

constexpr int NUM_A = 2, NUM_B = 4, STEPS = 256;
/* 16 x 8 x 16 multiply-adds in each product, with a and with -a. */
constexpr unsigned long long FLOP_PER_STEP = 2ull * NUM_A * NUM_B * 2 * 16 * 8 * 16;

/** Two bf16 numbers in +-[0.5, 2). */
__device__ __forceinline__ uint32_t random_pair(uint32_t &counter) {
    return (random_bits(counter++) & 0x80ff80ffu) | 0x3f003f00u;
}

/** The warp's products with a and then with -a, so that sums stay small. Returns steps. */
__device__ uint64_t multiply_until(uint64_t end_ns) {
    uint32_t counter = (blockIdx.x * blockDim.x + threadIdx.x) * 64, a[NUM_A][4], minus_a[NUM_A][4], b[NUM_B][2];
    float sums[NUM_A * NUM_B][4] = {};
#pragma unroll
    for (int i = 0; i < NUM_A * 4; i++) {
        a[i / 4][i % 4] = random_pair(counter);
        minus_a[i / 4][i % 4] = a[i / 4][i % 4] ^ 0x80008000u;
    }
#pragma unroll
    for (int i = 0; i < NUM_B * 2; i++) b[i / 2][i % 2] = random_pair(counter);
    uint64_t num_steps = 0;
    do {
#pragma unroll 1
        for (int step = 0; step < STEPS; step++) {
#pragma unroll
            for (int i = 0; i < NUM_A * NUM_B; i++)
                ptx_mma_bf16(sums[i], a[i / NUM_B], b[i % NUM_B][0], b[i % NUM_B][1]);
#pragma unroll
            for (int i = 0; i < NUM_A * NUM_B; i++) {
                ptx_mma_bf16(sums[i], minus_a[i / NUM_B], b[i % NUM_B][0], b[i % NUM_B][1]);
            }
        }
        num_steps += STEPS;
    } while (ptx_globaltimer() < end_ns);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < NUM_A * NUM_B * 4; i++) sum += sums[i / 4][i % 4];
    return num_steps + (sum == 1e30f); /* never, but for all the compiler knows the products matter */
}

} // namespace

/** CTAs beyond an SM's first pair do not exist, so tickets 0 and 1 are one of each kind. */
extern "C" __global__ void __launch_bounds__(POD_PEAK_THREADS, POD_PEAK_CTAS_PER_SM)
    pod_peak(const __grid_constant__ pod_peak_params p) {
    __shared__ int is_reader;
    uint64_t begin_ns = ptx_globaltimer(), end_ns = begin_ns + p.duration_ns;
    if (threadIdx.x == 0) {
        is_reader = p.mode == POD_PEAK_READ;
        if (p.mode == POD_PEAK_BOTH) is_reader = atomicAdd(&p.sm_tickets[ptx_smid()], 1u) % 2;
    }
    __syncthreads();
    if (is_reader) {
        uint64_t num_chunks = read_until(p, dynamic_smem, end_ns);
        if (threadIdx.x != 0) return;
        atomicAdd(&p.counts->read_bytes, (unsigned long long)num_chunks * POD_PEAK_CHUNK_BYTES);
        atomicMax(&p.counts->read_ns, (unsigned long long)(ptx_globaltimer() - begin_ns));
    } else {
        uint64_t num_steps = multiply_until(end_ns);
        if (threadIdx.x % 32 != 0) return;
        atomicAdd(&p.counts->flop, (unsigned long long)num_steps * FLOP_PER_STEP);
        atomicMax(&p.counts->math_ns, (unsigned long long)(ptx_globaltimer() - begin_ns));
    }
}

/** Random bytes: constant data would cost less power than real data. */
extern "C" __global__ void __launch_bounds__(POD_PEAK_THREADS)
    pod_peak_fill(const __grid_constant__ pod_peak_fill_params p) {
    uint64_t stride = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < p.num_words; i += stride) {
        p.data[i] = random_bits(i);
    }
}
