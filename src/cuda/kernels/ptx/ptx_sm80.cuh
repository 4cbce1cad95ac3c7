/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of sm_80 that CUDA C has no name for: one wrapper each. Section numbers are the PTX ISA's. */
#ifndef POD_PTX_SM80_CUH
#define POD_PTX_SM80_CUH

#include <stdint.h>

/** cp.async (9.7.9.25): 16 bytes from global to shared memory past L1. */
static __device__ __forceinline__ void ptx_cp_async_16(uint32_t to_smem, const void *from_gmem) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to_smem), "l"(from_gmem) : "memory");
}

/** The same, or nothing; without a branch. */
static __device__ __forceinline__ void ptx_cp_async_16_if(bool wanted, uint32_t to_smem, const void *from_gmem) {
    asm volatile("{\n\t.reg .pred wanted;\n\tsetp.ne.b32 wanted, %0, 0;\n\t"
                 "@wanted cp.async.cg.shared.global [%1], [%2], 16;\n\t}" ::"r"((int)wanted),
                 "r"(to_smem), "l"(from_gmem)
                 : "memory");
}

/** The same; of the 16 bytes only the first `bytes` are read, the others are zeros. */
static __device__ __forceinline__ void ptx_cp_async_16_or_zeros_if(bool wanted, uint32_t to_smem, const void *from_gmem,
                                                                   uint32_t bytes) {
    asm volatile("{\n\t.reg .pred wanted;\n\tsetp.ne.b32 wanted, %0, 0;\n\t"
                 "@wanted cp.async.cg.shared.global [%1], [%2], 16, %3;\n\t}" ::"r"((int)wanted),
                 "r"(to_smem), "l"(from_gmem), "r"(bytes)
                 : "memory");
}

/** The same as the first; `bytes` 0 writes zeros and reads nothing. */
static __device__ __forceinline__ void ptx_cp_async_16_or_zeros(uint32_t to_smem, const void *from_gmem,
                                                                uint32_t bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_smem), "l"(from_gmem), "r"(bytes) : "memory");
}

/** The same of 4 bytes, through L1. */
static __device__ __forceinline__ void ptx_cp_async_4(uint32_t to_smem, const void *from_gmem) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to_smem), "l"(from_gmem) : "memory");
}

/** The same as the first under an L2 eviction policy of ptx_policy_evict_first(). */
static __device__ __forceinline__ void ptx_cp_async_16_policy(uint32_t to_smem, const void *from_gmem,
                                                              uint64_t policy) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to_smem), "l"(from_gmem),
                 "l"(policy)
                 : "memory");
}

/** The same; `bytes` 0 writes zeros and reads nothing. */
static __device__ __forceinline__ void ptx_cp_async_16_or_zeros_policy(uint32_t to_smem, const void *from_gmem,
                                                                       uint32_t bytes, uint64_t policy) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to_smem), "l"(from_gmem),
                 "r"(bytes), "l"(policy)
                 : "memory");
}

/** ld (9.7.9.8) by a generic address: also of a kernel's parameters, which the compiler would read as constants. */
static __device__ __forceinline__ uint64_t ptx_ld_u64(const uint64_t *from) {
    uint64_t value;
    asm("ld.u64 %0, [%1];" : "=l"(value) : "l"(from));
    return value;
}

/** createpolicy (9.7.9.18): data that is read once and must not push other data out of L2. */
static __device__ __forceinline__ uint64_t ptx_policy_evict_first(void) {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

static __device__ __forceinline__ void ptx_cp_async_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/** Waits until at most PENDING of this thread's groups are unfinished. */
template <int PENDING> static __device__ __forceinline__ void ptx_cp_async_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/** bar.sync (9.7.13.1) of `num_threads` threads on barrier `id`. */
static __device__ __forceinline__ void ptx_bar_sync(int id, int num_threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

/** ldmatrix (9.7.14.5.15): four 8x8 matrices of 16-bit elements, one row address per lane. */
static __device__ __forceinline__ void ptx_ldmatrix_x4(uint32_t (&r)[4], uint32_t row_smem) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row_smem)
                 : "memory");
}

static __device__ __forceinline__ void ptx_ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row_smem) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row_smem)
                 : "memory");
}

/** movmatrix (9.7.14.5.17): transposes an 8x8 matrix of 16-bit elements held by the warp. */
static __device__ __forceinline__ uint32_t ptx_movmatrix_trans(uint32_t rows) {
    uint32_t columns;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(columns) : "r"(rows));
    return columns;
}

/** mma (9.7.14.5.14): c += a b, 16x16 by 16x8, bf16 products in float. */
static __device__ __forceinline__ void ptx_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void ptx_mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/** ex2.approx (9.7.3.21): 2^x, exact to 2 ulp; 2^-inf = 0. */
static __device__ __forceinline__ float ptx_ex2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/** cvt.rn (9.7.9.22): two floats to two 16-bit elements, `low` in the low half. */
static __device__ __forceinline__ uint32_t ptx_cvt_bf16x2(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

static __device__ __forceinline__ uint32_t ptx_cvt_f16x2(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/** cvt (9.7.9.22): the 16-bit element in the low half, exactly. */
static __device__ __forceinline__ float ptx_cvt_from_f16(uint32_t element) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((uint16_t)element));
    return x;
}

/** fma.rn (9.7.4.4): a * b + c of two 16-bit elements each. */
static __device__ __forceinline__ uint32_t ptx_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
static __device__ __forceinline__ uint32_t ptx_fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

/** mad.wide (9.7.1.4): base + a * b. NOTE: nvcc 13.0 otherwise takes sums of addresses apart and needs six
 * instructions. */
static __device__ __forceinline__ const char *ptx_mad_wide(uint32_t a, uint32_t b, const char *base) {
    const char *sum;
    asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(sum) : "r"(a), "r"(b), "l"(base));
    return sum;
}

/** %tid.x; volatile: read anew at every call, where a register would have to live through a loop that needs all. */
static __device__ __forceinline__ uint32_t ptx_tid(void) {
    uint32_t tid;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(tid));
    return tid;
}

/** %smid: the SM that this CTA runs on. */
static __device__ __forceinline__ uint32_t ptx_smid(void) {
    uint32_t smid;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(smid));
    return smid;
}

/** %globaltimer: nanoseconds. */
static __device__ __forceinline__ uint64_t ptx_globaltimer(void) {
    uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

#endif
