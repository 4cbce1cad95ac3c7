/* SPDX-License-Identifier: Apache-2.0 */
/* The attention kernels of Hopper: one persistent CTA per SM, in clusters of two, whose warpgroups do prefill and
 * decode at the same time (docs/sm90-pipeline.md). One instantiation per sm90 row of variants.def. */
#include "cuda/kernels/sm90/decode_sm90.cuh"
#include "cuda/kernels/sm90/find_sm90.cuh"
#include "cuda/kernels/sm90/load_sm90.cuh"
#include "cuda/kernels/sm90/pace_sm90.cuh"
#include "cuda/kernels/sm90/prefill_sm90.cuh"
#include "cuda/kernels/sm90/rows_sm90.cuh"
#include "cuda/kernels/variant_row.cuh"

/* 40 + 2 * 192 + 88 = 512 registers, times 128 threads: the whole file. Without decode a CTA begins with 168 for each
 * of its 384 threads: 56 + 2 * 224 = 3 * 168. */
enum {
    LOAD_REGISTERS = 40,
    PREFILL_REGISTERS = 192,
    DECODE_REGISTERS = 88,
    LONE_LOAD_REGISTERS = 56,
    LONE_PREFILL_REGISTERS = 224
};

template <class ELEMENT, int HEAD_DIM> struct kernel_sm90 {
    typedef shape_sm90<HEAD_DIM> shape;
    typedef smem_sm90<shape> smem_type;

    static __device__ __forceinline__ void load(const pod_kernel_params &params, smem_type &smem) {
        int lane = ptx_tid() % 32;
        switch (ptx_tid() / 32) {
        case 0:
            load_sm90<shape>::prefill(params, smem, lane);
            break;
        case 1:
            if constexpr (shape::DECODES) load_sm90<shape>::decode(params, smem, lane);
            if (lane == 0) find_sm90<shape>::leave(params);
            break;
        case 2:
            rows_sm90<shape>::prefill(params, smem, lane);
            break;
        case 3:
            find_sm90<shape>::prefill(params, smem, lane);
            if (lane == 0) find_sm90<shape>::leave(params);
        }
        __syncwarp();
    }

    /** Barriers, and the first work of both kinds meanwhile. */
    static __device__ __forceinline__ void begin(const pod_kernel_params &params, smem_type &smem) {
        int lane = ptx_tid() % 32;
        switch (ptx_tid() / 32) {
        case 0:
            if (lane > 0) break;
            init_barriers(smem);
            smem.pace = {0, 0};
            ptx_prefetch_map(&params.k_map);
            ptx_prefetch_map(&params.v_map);
            ptx_prefetch_map(&params.q_map);
            break;
        case 1:
            if constexpr (shape::DECODES) find_sm90<shape>::first_decode(params, smem, lane);
            break;
        case 3:
            if (lane > 0) break;
            pace_sm90<shape>::lend(params, smem);
            find_sm90<shape>::first_prefill(params, smem);
        }
        __syncwarp();
    }

    static __device__ __forceinline__ void fused(const pod_kernel_params &params, smem_type &smem) {
        begin(params, smem);
        ptx_cluster_sync();
        int warpgroup = ptx_tid() / WARPGROUP_THREADS;
        if (warpgroup == 0) {
            ptx_give_registers<shape::DECODES ? LOAD_REGISTERS : LONE_LOAD_REGISTERS>();
            load(params, smem);
        } else if (warpgroup <= PREFILL_WARPGROUPS) {
            ptx_take_registers<shape::DECODES ? PREFILL_REGISTERS : LONE_PREFILL_REGISTERS>();
            prefill_sm90<ELEMENT, shape>{params, smem, warp_uniform(warpgroup) - 1, warp_uniform(smem.is_lent) != 0}
                .consume();
        } else if constexpr (shape::DECODES) {
            ptx_give_registers<DECODE_REGISTERS>();
            decode_sm90<ELEMENT, shape>{params, smem}.consume();
        }
        ptx_cluster_sync(); /* the other CTA may still write here and arrive at barriers */
    }
};

#define KERNEL_sm80_fused(...)
#define KERNEL_sm80_padded(...)
#define KERNEL_sm80_hfuse(...)
#define KERNEL_sm90mla_fused(...)
#define KERNEL_sm90_fused(NAME, DTYPE, HEAD_DIM, CTAS)                                                                 \
    extern "C" __global__ void __cluster_dims__(CLUSTER_CTAS, 1, 1)                                                    \
        __launch_bounds__(shape_sm90<HEAD_DIM>::THREADS, CTAS)                                                         \
            NAME(const __grid_constant__ pod_kernel_params params) {                                                   \
        typedef kernel_sm90<sm90_##DTYPE, HEAD_DIM> kernel;                                                            \
        (void)sizeof(smem_matches<sizeof(kernel::smem_type), kernel::shape::SMEM_BYTES>);                              \
        kernel::fused(params, *(kernel::smem_type *)dynamic_smem);                                                     \
    }

#include "families/variants.def"
