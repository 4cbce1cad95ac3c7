/* SPDX-License-Identifier: Apache-2.0 */
/* The attention kernels of sm_80 and later: `fused` binds CTAs to prefill or decode by tickets (POD), `hfuse` is the
 * baseline that puts both into every CTA in fixed pairs. One instantiation per row of variants.def. */
#include "decode_sm80.cuh"
#include "prefill_sm80.cuh"
#include "ticket_sm80.cuh"

/** Tile sizes by CTAs per SM: what fits in half or a quarter of an SM's registers and shared memory. */
template <int CTAS_PER_SM> struct shape_sm80;
template <> struct shape_sm80<2> {
    static constexpr int M_TILES = 2, TILE_TOKENS = 64, DECODE_RING = 4;
};
template <> struct shape_sm80<4> {
    static constexpr int M_TILES = 1, TILE_TOKENS = 32, DECODE_RING = 2;
};

template <class ELEMENT, int HEAD_DIM, int CTAS_PER_SM> struct kernel_sm80 {
    typedef shape_sm80<CTAS_PER_SM> shape;
    typedef prefill_sm80<ELEMENT, HEAD_DIM, shape::M_TILES, shape::TILE_TOKENS> prefill;
    typedef decode_sm80<ELEMENT, HEAD_DIM, shape::DECODE_RING> decode;

    struct fused_smem {
        union {
            typename prefill::smem_type prefill;
            typename decode::smem_type decode[DECODE_SLICES_PER_CTA];
        };
        work_ticket work;
    };
    struct hfuse_smem {
        typename prefill::smem_type prefill;
        typename decode::smem_type decode[DECODE_SLICES_PER_CTA];
    };

    static __device__ __forceinline__ void decode_ticket(const pod_kernel_params &params,
                                                         typename decode::smem_type *smem, int32_t first_slice) {
        int warp = threadIdx.x / 32 % DECODE_SLICES_PER_CTA;
        int32_t slice = first_slice + warp;
        if (slice < params.schedule.header->num_slices) decode::work_on(params, smem[warp], slice, threadIdx.x % 32);
    }

    static __device__ __forceinline__ void fused(const pod_kernel_params &params, fused_smem &smem) {
        for (;;) {
            if (threadIdx.x == 0) smem.work = take_ticket(params);
            __syncthreads();
            work_ticket work = smem.work;
            if (work.kind == WORK_NONE) break;
            if (work.kind == WORK_PREFILL) prefill::work_on(params, smem.prefill, work.index);
            else decode_ticket(params, smem.decode, work.index);
            __syncthreads(); /* all are done with the shared memory */
        }
        leave(params);
    }

    static __device__ __forceinline__ void hfuse(const pod_kernel_params &params, hfuse_smem &smem) {
        int32_t prefills = num_prefill_tickets(params), decodes = num_decode_tickets(params);
        bool is_prefill_warp = threadIdx.x < PREFILL_THREADS;
        for (int32_t i = blockIdx.x; i < max(prefills, decodes); i += gridDim.x) {
            if (is_prefill_warp && i < prefills) prefill::work_on(params, smem.prefill, i);
            if (!is_prefill_warp && i < decodes) decode_ticket(params, smem.decode, i * DECODE_SLICES_PER_CTA);
            __syncthreads(); /* the pair ends together: that is what a static fusion costs */
        }
        leave(params);
    }
};

extern __shared__ __align__(256) char dynamic_smem[];

#define FUSED_KERNEL(DTYPE, HEAD_DIM, CTAS)                                                                            \
    extern "C" __global__ void __launch_bounds__(128, CTAS)                                                            \
        pod_sm80_fused_##DTYPE##_d##HEAD_DIM##_c##CTAS(const __grid_constant__ pod_kernel_params params) {             \
        typedef kernel_sm80<pod_element_##DTYPE, HEAD_DIM, CTAS> kernel;                                               \
        kernel::fused(params, *(kernel::fused_smem *)dynamic_smem);                                                    \
    }
#define HFUSE_KERNEL(DTYPE, HEAD_DIM)                                                                                  \
    extern "C" __global__ void __launch_bounds__(256, 1)                                                               \
        pod_sm80_hfuse_##DTYPE##_d##HEAD_DIM(const __grid_constant__ pod_kernel_params params) {                       \
        typedef kernel_sm80<pod_element_##DTYPE, HEAD_DIM, 2> kernel;                                                  \
        kernel::hfuse(params, *(kernel::hfuse_smem *)dynamic_smem);                                                    \
    }

FUSED_KERNEL(bf16, 128, 2)
FUSED_KERNEL(bf16, 128, 4)
HFUSE_KERNEL(bf16, 128)
#ifndef POD_ONE_VARIANT
FUSED_KERNEL(bf16, 64, 2)
FUSED_KERNEL(bf16, 64, 4)
HFUSE_KERNEL(bf16, 64)
FUSED_KERNEL(f16, 64, 2)
FUSED_KERNEL(f16, 64, 4)
HFUSE_KERNEL(f16, 64)
FUSED_KERNEL(f16, 128, 2)
FUSED_KERNEL(f16, 128, 4)
HFUSE_KERNEL(f16, 128)
#endif
