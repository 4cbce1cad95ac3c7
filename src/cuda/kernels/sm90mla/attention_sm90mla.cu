/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of absorbed MLA on Hopper: one persistent CTA per SM, which takes slices of the decode line and then row
 * tiles of the prefill queue. One instantiation per sm90mla row of variants.def. */
#include "cuda/kernels/sm90mla/load_sm90mla.cuh"
#include "cuda/kernels/sm90mla/rows_sm90mla.cuh"
#include "cuda/kernels/variant_row.cuh"

/* Dealt out anew: what the CTA's threads begin with, in eights, is all there is. Who asks for more waits for ever. */
enum { SM_REGISTERS = 65536, WARPGROUPS = 1 + ROW_WARPGROUPS };
enum { BEGIN_REGISTERS = SM_REGISTERS / (WARPGROUPS * WARPGROUP_THREADS) / 8 * 8 };
enum { LOAD_REGISTERS = 40, ROW_REGISTERS = 232 };
static_assert(LOAD_REGISTERS + ROW_WARPGROUPS * ROW_REGISTERS <= WARPGROUPS * BEGIN_REGISTERS, "too many registers");

template <class ELEMENT, int HEAD_DIM> struct kernel_sm90mla {
    typedef shape_sm90mla<HEAD_DIM> shape;
    typedef smem_sm90mla<shape> smem_type;

    static __device__ __forceinline__ void fused(const pod_kernel_params &params, smem_type &smem) {
        if (ptx_tid() == 0) {
            init_barriers(smem);
            if (params.box_tokens > 0) ptx_prefetch_map(&params.k_map);
        }
        __syncthreads();
        int warpgroup = ptx_tid() / WARPGROUP_THREADS;
        if (warpgroup == 0) {
            ptx_give_registers<LOAD_REGISTERS>();
            load_sm90mla<shape>{params, smem}.produce();
        } else {
            ptx_take_registers<ROW_REGISTERS>();
            compute_rows<ELEMENT, shape>(params, smem, warp_uniform(warpgroup) - 1);
        }
    }
};

#define KERNEL_sm80_fused(...)
#define KERNEL_sm80_padded(...)
#define KERNEL_sm80_hfuse(...)
#define KERNEL_sm90_fused(...)
#define KERNEL_sm90mla_fused(NAME, DTYPE, HEAD_DIM, CTAS)                                                              \
    extern "C" __global__ void __launch_bounds__(shape_sm90mla<HEAD_DIM>::THREADS, CTAS)                               \
        NAME(const __grid_constant__ pod_kernel_params params) {                                                       \
        typedef kernel_sm90mla<sm90mla_##DTYPE, HEAD_DIM> kernel;                                                      \
        (void)sizeof(smem_matches<sizeof(kernel::smem_type), kernel::shape::SMEM_BYTES>);                              \
        kernel::fused(params, *(kernel::smem_type *)dynamic_smem);                                                     \
    }

#include "families/variants.def"
