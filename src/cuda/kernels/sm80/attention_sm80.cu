/* SPDX-License-Identifier: Apache-2.0 */
/* The attention kernels of sm_80 and later: `fused` binds CTAs to prefill or decode by tickets (POD), `hfuse` is the
 * baseline that puts both into every CTA in fixed pairs. One instantiation per row of variants.def. */
#include "cuda/kernels/cta.cuh"
#include "cuda/kernels/sm80/decode_sm80.cuh"
#include "cuda/kernels/sm80/find_sm80.cuh"
#include "cuda/kernels/sm80/prefill_sm80.cuh"
#include "cuda/kernels/variant_row.cuh"

/** Tile sizes by CTAs per SM: what fits in half or a quarter of an SM's registers and shared memory. */
template <int CTAS_PER_SM> struct shape_sm80;
template <> struct shape_sm80<2> {
    static constexpr int M_TILES = 2, TILE_TOKENS = 64;
    static constexpr int DECODE_STAGE_TOKENS = 32, DECODE_RING = 3, DECODE_N_TILES = 2;
};
template <> struct shape_sm80<4> {
    static constexpr int M_TILES = 1, TILE_TOKENS = 32;
    static constexpr int DECODE_STAGE_TOKENS = 16, DECODE_RING = 3, DECODE_N_TILES = 1;
};

template <class ELEMENT, int HEAD_DIM, int CTAS_PER_SM> struct kernel_sm80 {
    typedef shape_sm80<CTAS_PER_SM> shape;
    typedef prefill_sm80<ELEMENT, HEAD_DIM, shape> prefill;
    typedef decode_sm80<ELEMENT, HEAD_DIM, shape> decode;

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

    static __device__ __forceinline__ void prefill_ticket(const pod_kernel_params &params,
                                                          typename prefill::smem_type &smem, int32_t ticket) {
        prefill{params, smem, (uint32_t)warp_uniform(smem_address(&smem))}.work_on(ticket);
    }

    static __device__ __forceinline__ void decode_ticket(const pod_kernel_params &params,
                                                         typename decode::smem_type *smem, int32_t first_turn,
                                                         int32_t num_slices) {
        int warp = ptx_tid() / 32 % DECODE_SLICES_PER_CTA;
        int32_t turn = first_turn + warp;
        if (turn < num_slices) decode{params, smem[warp], (int)(ptx_tid() % 32)}.work_on(turn);
    }

    static __device__ __forceinline__ void fused(const pod_kernel_params &params, fused_smem &smem) {
        for (;;) {
            if (ptx_tid() == 0) smem.work = take_ticket(params);
            __syncthreads();
            work_ticket work = smem.work;
            if (work.kind == WORK_NONE) break;
            if (work.kind == WORK_PREFILL)
                prefill_ticket(params, smem.prefill, work.index);
            else
                decode_ticket(params, smem.decode, work.index, params.schedule.header->num_slices);
            __syncthreads(); /* all are done with the shared memory */
        }
        leave(params);
    }

    static __device__ __forceinline__ void hfuse(const pod_kernel_params &params, hfuse_smem &smem) {
        int32_t prefills = pod_core_num_prefill_tickets(&params.shape, params.schedule.header),
                decodes = num_decode_tickets(params);
        for (int32_t pair = blockIdx.x; pair < max(prefills, decodes); pair += gridDim.x) {
            if (ptx_tid() < PREFILL_THREADS) {
                if (pair < prefills) prefill_ticket(params, smem.prefill, pair);
            } else if (pair < decodes) {
                decode_ticket(params, smem.decode, pair * DECODE_SLICES_PER_CTA, new_header(params)->num_slices);
            }
            __syncthreads(); /* the pair ends together: that is what a static fusion costs */
        }
        leave(params);
    }
};

#define CHECK_ROW(TILE_ROWS, TILE_KEYS, DECODE_ROWS, SMEM_TYPE, SMEM_BYTES)                                            \
    (void)sizeof(row_matches<kernel::prefill::ROWS, TILE_ROWS>);                                                       \
    (void)sizeof(row_matches<kernel::shape::TILE_TOKENS, TILE_KEYS>);                                                  \
    (void)sizeof(row_matches<8 * kernel::shape::DECODE_N_TILES, DECODE_ROWS>);                                         \
    (void)sizeof(row_matches<sizeof(kernel::SMEM_TYPE), SMEM_BYTES>)

#define KERNEL_sm80_fused(NAME, DTYPE, HEAD_DIM, CTAS, THREADS, ROWS, KEYS, DROWS, SMEM)                               \
    extern "C" __global__ void __launch_bounds__(THREADS, CTAS)                                                        \
        NAME(const __grid_constant__ pod_kernel_params params) {                                                       \
        typedef kernel_sm80<pod_element_##DTYPE, HEAD_DIM, CTAS> kernel;                                               \
        CHECK_ROW(ROWS, KEYS, DROWS, fused_smem, SMEM);                                                                \
        kernel::fused(params, *(kernel::fused_smem *)dynamic_smem);                                                    \
    }
#define KERNEL_sm80_hfuse(NAME, DTYPE, HEAD_DIM, CTAS, THREADS, ROWS, KEYS, DROWS, SMEM)                               \
    extern "C" __global__ void __launch_bounds__(THREADS, CTAS)                                                        \
        NAME(const __grid_constant__ pod_kernel_params params) {                                                       \
        typedef kernel_sm80<pod_element_##DTYPE, HEAD_DIM, 2> kernel;                                                  \
        CHECK_ROW(ROWS, KEYS, DROWS, hfuse_smem, SMEM);                                                                \
        kernel::hfuse(params, *(kernel::hfuse_smem *)dynamic_smem);                                                    \
    }
#define KERNEL_sm90_fused(...)

#include "cuda/kernels/variants.def"
