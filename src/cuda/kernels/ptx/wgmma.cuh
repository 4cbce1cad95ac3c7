/* SPDX-License-Identifier: Apache-2.0 */
/* wgmma (PTX ISA 9.7.15): d (+)= a b by a warpgroup, 64 rows of d, 16-bit operands, sums in float.
 *
 *   ss      a and b in shared memory, both with the product's inner dimension contiguous
 *   rs_tb   a in registers, b in shared memory with its columns contiguous
 *
 * Operands in shared memory are named by descriptors (wgmma_operand); tiles are as the copy engine's 128-byte swizzle
 * writes them: rows of 128 bytes, the 16-byte chunk's index xor-ed with row % 8, groups of eight rows aligned to 1024
 * bytes. */
#ifndef POD_WGMMA_CUH
#define POD_WGMMA_CUH

#include <stdint.h>

/** An operand in shared memory: the low half of its descriptor, which alone tells where it is. `leading`, between
 * halves of 64 contiguous elements, in bytes. */
static __device__ __forceinline__ uint32_t wgmma_operand(uint32_t smem, uint32_t leading) {
    return (smem & 0x3ffff) >> 4 | (leading >> 4) << 16;
}

/** The descriptor of what is `bytes` after the operand: groups of eight rows GROUP_BYTES apart, 128-byte swizzle.
 */
template <int GROUP_BYTES> static __device__ __forceinline__ uint64_t wgmma_at(uint32_t operand, uint32_t bytes) {
    uint64_t descriptor;
    asm("mov.b64 %0, {%1, %2};" : "=l"(descriptor) : "r"(operand + (bytes >> 4)), "n"(1 << 30 | GROUP_BYTES >> 4));
    return descriptor;
}

/** Orders register and shared-memory accesses before the next product. */
static __device__ __forceinline__ void wgmma_fence(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_commit(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/** Waits until at most PENDING committed groups are unfinished. */
template <int PENDING> static __device__ __forceinline__ void wgmma_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/** Says that a finished product's registers hold something new: nothing that reads them moves before this. */
template <int COUNT> static __device__ __forceinline__ void wgmma_touch(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/* Register lists of an accumulator: names in the instruction, and operands. Each goes on where the shorter one ends. */
#define WGMMA_REGS_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_REGS_32                                                                                                  \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_REGS_64                                                                                                  \
    WGMMA_REGS_32 ", "                                                                                                 \
                  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                   \
                  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_REGS_128                                                                                                 \
    WGMMA_REGS_64 ", "                                                                                                 \
                  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                   \
                  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                   \
                  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "       \
                  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define WGMMA_OPERANDS_16                                                                                              \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),        \
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define WGMMA_OPERANDS_32                                                                                              \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),        \
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),         \
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),        \
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define WGMMA_OPERANDS_64                                                                                              \
    WGMMA_OPERANDS_32, "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]),      \
        "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]),        \
        "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]),        \
        "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),        \
        "+f"(d[63])
#define WGMMA_OPERANDS_128                                                                                             \
    WGMMA_OPERANDS_64, "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]),      \
        "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]),        \
        "+f"(d[79]), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]),        \
        "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]),        \
        "+f"(d[95]), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]),     \
        "+f"(d[103]), "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]),              \
        "+f"(d[110]), "+f"(d[111]), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]),              \
        "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]),              \
        "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

/* One product; COUNT = N / 2 accumulator registers, A and B their operands' places after them. */
#define WGMMA_SS(NAME, TYPE, N, COUNT, A, B, P)                                                                        \
    static __device__ __forceinline__ void NAME(float(&d)[COUNT], uint64_t a, uint64_t b, bool adds) {                 \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P ", 0;\n"                                                  \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #TYPE "." #TYPE " {" WGMMA_REGS_##COUNT         \
                     "}, %" #A ", %" #B ", p, 1, 1, 0, 0;\n}"                                                          \
                     : WGMMA_OPERANDS_##COUNT                                                                          \
                     : "l"(a), "l"(b), "r"((int32_t)adds));                                                            \
    }
#define WGMMA_RS_TB(NAME, TYPE, N, COUNT, A0, A1, A2, A3, B, P)                                                        \
    static __device__ __forceinline__ void NAME(float(&d)[COUNT], const uint32_t *a, uint64_t b, bool adds) {          \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P ", 0;\n"                                                  \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #TYPE "." #TYPE " {" WGMMA_REGS_##COUNT         \
                     "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B ", p, 1, 1, 1;\n}"                            \
                     : WGMMA_OPERANDS_##COUNT                                                                          \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int32_t)adds));                        \
    }

/** The products of one element type. */
#define WGMMA_ELEMENT(ELEMENT, TYPE)                                                                                   \
    struct wgmma_##ELEMENT {                                                                                           \
        WGMMA_SS(ss, TYPE, 128, 64, 64, 65, 66)                                                                        \
        WGMMA_SS(ss, TYPE, 64, 32, 32, 33, 34)                                                                         \
        WGMMA_SS(ss, TYPE, 32, 16, 16, 17, 18)                                                                         \
        WGMMA_RS_TB(rs_tb, TYPE, 256, 128, 128, 129, 130, 131, 132, 133)                                               \
        WGMMA_RS_TB(rs_tb, TYPE, 128, 64, 64, 65, 66, 67, 68, 69)                                                      \
        WGMMA_RS_TB(rs_tb, TYPE, 64, 32, 32, 33, 34, 35, 36, 37)                                                       \
    };
WGMMA_ELEMENT(bf16, bf16)
WGMMA_ELEMENT(f16, f16)

#undef WGMMA_ELEMENT
#undef WGMMA_SS
#undef WGMMA_RS_TB

#endif
