/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of sm_90 and sm_90a that CUDA C has no name for: one wrapper each; wgmma's products are in
 * wgmma.cuh. Section numbers are the PTX ISA's (9.0). */
#ifndef POD_PTX_SM90_CUH
#define POD_PTX_SM90_CUH

#include "cuda/kernels/ptx/ptx_sm80.cuh"

/* ---- mbarrier (9.7.13.15) ---- */

static __device__ __forceinline__ void ptx_mbarrier_init(uint32_t barrier_smem, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier_smem), "r"(arrivals) : "memory");
}

/** Makes initialised barriers known to the copy engine. */
static __device__ __forceinline__ void ptx_fence_mbarrier_init(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void ptx_mbarrier_arrive(uint32_t barrier_smem) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier_smem) : "memory");
}

/** Arrives, and lets the phase end only once `bytes` more were copied. */
static __device__ __forceinline__ void ptx_mbarrier_arrive_expect(uint32_t barrier_smem, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier_smem), "r"(bytes) : "memory");
}

/** Waits until the phase of this parity has ended. */
static __device__ __forceinline__ void ptx_mbarrier_wait(uint32_t barrier_smem, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(barrier_smem),
                 "r"(parity)
                 : "memory");
}

/** cp.async.mbarrier.arrive (9.7.13.15.16): arrives once all copies by cp.async that this thread began have landed. */
static __device__ __forceinline__ void ptx_cp_async_arrive(uint32_t barrier_smem) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier_smem) : "memory");
}

/* ---- clusters ---- */

/** %cluster_ctarank: which CTA of the cluster this is. */
static __device__ __forceinline__ uint32_t ptx_cta_rank(void) {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/** barrier.cluster (9.7.13.4): all threads of all CTAs of the cluster meet. */
static __device__ __forceinline__ void ptx_cluster_sync(void) {
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}

/** mapa (9.7.9.24): the address that another CTA's shared memory has here. */
static __device__ __forceinline__ uint32_t ptx_map_smem(uint32_t smem, uint32_t cta) {
    uint32_t mapped;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(smem), "r"(cta));
    return mapped;
}

/** Arrives at the same barrier of a CTA of the cluster. What this thread wrote need not be visible there: what wgmma
 * has read may be overwritten. (With .release.cluster it would be, at the cost of a membar.gl in every call.) */
static __device__ __forceinline__ void ptx_mbarrier_arrive_at(uint32_t barrier_smem, uint32_t cta) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(ptx_map_smem(barrier_smem, cta)) : "memory");
}

/** The same; what this thread wrote before is visible to the waiting threads. */
static __device__ __forceinline__ void ptx_mbarrier_release_at(uint32_t barrier_smem, uint32_t cta) {
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(ptx_map_smem(barrier_smem, cta))
                 : "memory");
}

/** Waits for a phase that a release of another CTA ends. */
static __device__ __forceinline__ void ptx_mbarrier_wait_cluster(uint32_t barrier_smem, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(barrier_smem),
                 "r"(parity)
                 : "memory");
}

/** st of a word into the shared memory of a CTA of the cluster. */
static __device__ __forceinline__ void ptx_st_smem_at(uint32_t smem, uint32_t cta, int32_t value) {
    asm volatile("st.shared::cluster.s32 [%0], %1;" ::"r"(ptx_map_smem(smem, cta)), "r"(value) : "memory");
}

/* ---- the copy engine ---- */

/** cp.async.bulk.tensor (9.7.9.27.1.2): a box of a rank-5 map, at coordinates x, into shared memory; what is outside
 * of the tensor becomes zeros. Completes on the barrier. */
static __device__ __forceinline__ void ptx_tma_load_5d(uint32_t to_smem, const void *map, uint32_t barrier_smem,
                                                       const int32_t (&x)[5], uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(to_smem),
                 "l"(map), "r"(barrier_smem), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(x[4]), "l"(policy)
                 : "memory");
}

/** The same into the shared memory of all CTAs whose bits `ctas` has, at the same address; each one's barrier counts
 * the bytes that land there. */
static __device__ __forceinline__ void ptx_tma_load_5d_to(uint16_t ctas, uint32_t to_smem, const void *map,
                                                          uint32_t barrier_smem, const int32_t (&x)[5],
                                                          uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
                 ".L2::cache_hint [%0], [%1, {%3, %4, %5, %6, %7}], [%2], %9, %8;" ::"r"(to_smem),
                 "l"(map), "r"(barrier_smem), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(x[4]), "l"(policy),
                 "h"(ctas)
                 : "memory");
}

/** cp.async.bulk: neighbouring bytes, a multiple of 16, without a map. Completes on the barrier. */
static __device__ __forceinline__ void ptx_bulk_load(uint32_t to_smem, const void *from_gmem, uint32_t bytes,
                                                     uint32_t barrier_smem) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to_smem),
        "l"(from_gmem), "r"(bytes), "r"(barrier_smem)
        : "memory");
}

/** A box of a rank-3 map, without a policy. */
static __device__ __forceinline__ void ptx_tma_load_3d(uint32_t to_smem, const void *map, uint32_t barrier_smem,
                                                       int32_t x0, int32_t x1, int32_t x2) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to_smem),
                 "l"(map), "r"(barrier_smem), "r"(x0), "r"(x1), "r"(x2)
                 : "memory");
}

/** prefetch.tensormap (9.7.9.15). */
static __device__ __forceinline__ void ptx_prefetch_map(const void *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/** createpolicy (9.7.9.18): data that many CTAs read again soon. */
static __device__ __forceinline__ uint64_t ptx_policy_evict_last(void) {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

/** fence.proxy.async (9.7.13.4): this thread's ordinary writes to shared memory become visible to wgmma and copies. */
static __device__ __forceinline__ void ptx_fence_async_smem(void) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- warpgroups ---- */

/** setmaxnreg (9.7.20.6). */
template <int REGISTERS> static __device__ __forceinline__ void ptx_give_registers(void) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS> static __device__ __forceinline__ void ptx_take_registers(void) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

/** stmatrix (9.7.14.5.16): four 8x8 matrices of 16-bit elements into shared memory, one row address per lane. */
static __device__ __forceinline__ void ptx_stmatrix_x4(uint32_t row_smem, const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row_smem), "r"(r[0]),
                 "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}

/** ld: 16 bytes of shared memory. */
static __device__ __forceinline__ uint4 ptx_ld_smem_16(uint32_t from_smem) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(from_smem)
                 : "memory");
    return v;
}

/** st: 16 bytes of zeros into shared memory. */
static __device__ __forceinline__ void ptx_st_smem_zeros(uint32_t to_smem) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(to_smem), "r"(0) : "memory");
}

#endif
