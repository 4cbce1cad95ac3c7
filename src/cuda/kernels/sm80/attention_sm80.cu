/* SPDX-License-Identifier: Apache-2.0 */
/* The attention kernels of sm_80 and later: `fused` binds CTAs to prefill or decode by tickets (POD), `hfuse` is the
 * baseline that puts both into every CTA in fixed pairs; `padded` is `fused` for heads that do not fill its tiles and
 * for all masks. One instantiation per row of variants.def. Each job is compiled by itself, with ONLY_JOB_<job>
 * defined, since together they take minutes. */
#include "cuda/kernels/cta.cuh"
#include "cuda/kernels/sm80/decode_sm80.cuh"
#include "cuda/kernels/sm80/find_sm80.cuh"
#include "cuda/kernels/sm80/prefill_sm80.cuh"
#include "cuda/kernels/variant_row.cuh"

enum job_sm80 { JOB_fused, JOB_padded, JOB_hfuse };

/** A row of sm80_tiles.def. Each prefill warp has m-tiles of 16 rows; decode has n-tiles of 8. */
template <int JOB, int HEAD_DIM, int CTAS_PER_SM> struct shape_sm80;
#define POD_SM80_TILES(JOB, HEAD_DIM, CTAS, THREADS_, ROWS, KEYS, DROWS, DKEYS, STAGE, RING, SMEM)                     \
    template <> struct shape_sm80<JOB_##JOB, HEAD_DIM, CTAS> {                                                         \
        static constexpr bool PADS = JOB_##JOB == JOB_padded, ALL_MASKS = PADS;                                        \
        static constexpr int THREADS = THREADS_, SMEM_BYTES = SMEM;                                                    \
        static constexpr int M_TILES = ROWS / (PREFILL_THREADS / 2), TILE_TOKENS = KEYS;                               \
        static constexpr int DECODE_STAGE_TOKENS = STAGE, DECODE_RING = RING, DECODE_N_TILES = DROWS / 8;              \
        static_assert(ROWS % (PREFILL_THREADS / 2) == 0 && DROWS % 8 == 0, "whole m-tiles and n-tiles");               \
        static_assert((KEYS & (KEYS - 1)) == 0, "a window is a power of two of tiles");                                \
        static_assert(DKEYS == DECODE_TILE_TOKENS, "decode's kernel and its plan count the same tiles");               \
    };
#include "families/sm80_tiles.def"

template <int JOB, class ELEMENT, int HEAD_DIM, int CTAS_PER_SM> struct kernel_sm80 {
    typedef shape_sm80<JOB, HEAD_DIM, CTAS_PER_SM> shape;
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

    typedef fused_smem padded_smem;
    static __device__ __forceinline__ void padded(const pod_kernel_params &params, padded_smem &smem) {
        fused(params, smem);
    }

    static __device__ __forceinline__ void hfuse(const pod_kernel_params &params, hfuse_smem &smem) {
        int32_t prefills = pod_core_num_prefill_tickets(&params.shape, params.schedule.header, 1),
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

#define KERNEL_SM80(NAME, JOB, DTYPE, HEAD_DIM, CTAS)                                                                  \
    extern "C" __global__ void __launch_bounds__((shape_sm80<JOB_##JOB, HEAD_DIM, CTAS>::THREADS), CTAS)               \
        NAME(const __grid_constant__ pod_kernel_params params) {                                                       \
        typedef kernel_sm80<JOB_##JOB, pod_element_##DTYPE, HEAD_DIM, CTAS> kernel;                                    \
        (void)sizeof(smem_matches<sizeof(kernel::JOB##_smem), kernel::shape::SMEM_BYTES>);                             \
        kernel::JOB(params, *(kernel::JOB##_smem *)dynamic_smem);                                                      \
    }
#if defined(ONLY_JOB_padded) || defined(ONLY_JOB_hfuse)
#define KERNEL_sm80_fused(...)
#else
#define KERNEL_sm80_fused(NAME, DTYPE, HEAD_DIM, CTAS) KERNEL_SM80(NAME, fused, DTYPE, HEAD_DIM, CTAS)
#endif
#if defined(ONLY_JOB_fused) || defined(ONLY_JOB_hfuse)
#define KERNEL_sm80_padded(...)
#else
#define KERNEL_sm80_padded(NAME, DTYPE, HEAD_DIM, CTAS) KERNEL_SM80(NAME, padded, DTYPE, HEAD_DIM, CTAS)
#endif
#if defined(ONLY_JOB_fused) || defined(ONLY_JOB_padded)
#define KERNEL_sm80_hfuse(...)
#else
#define KERNEL_sm80_hfuse(NAME, DTYPE, HEAD_DIM, CTAS) KERNEL_SM80(NAME, hfuse, DTYPE, HEAD_DIM, CTAS)
#endif
#define KERNEL_sm90_fused(...)
#define KERNEL_sm90mla_fused(...)

#include "families/variants.def"
