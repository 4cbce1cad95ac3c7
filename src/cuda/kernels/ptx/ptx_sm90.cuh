/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of sm_90a that CUDA C has no name for: one wrapper each; wgmma's products are in wgmma.cuh. Section
 * numbers are the PTX ISA's (9.0). */
#ifndef POD_PTX_SM90_CUH
#define POD_PTX_SM90_CUH

#include "ptx_sm80.cuh"

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

/* ---- the copy engine ---- */

/** cp.async.bulk.tensor (9.7.9.27.1.2): a box of a rank-4 map into shared memory; what lies outside of the tensor
 * becomes zeros. Completes on the barrier. */
static __device__ __forceinline__ void ptx_tma_load_4d(uint32_t to_smem, const void *map, uint32_t barrier_smem,
                                                       int32_t x0, int32_t x1, int32_t x2, int32_t x3,
                                                       uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to_smem),
                 "l"(map), "r"(barrier_smem), "r"(x0), "r"(x1), "r"(x2), "r"(x3), "l"(policy)
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

/** st: 16 bytes of zeros into shared memory. */
static __device__ __forceinline__ void ptx_st_smem_zeros(uint32_t to_smem) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(to_smem), "r"(0) : "memory");
}

#endif
