/* SPDX-License-Identifier: Apache-2.0 */
/* What the warpgroups of a CTA share: tiles, work slots and the barriers between them.
 *
 *   warpgroup 0       its first warp: ticket -> work slot; all: the work's query rows, and its tiles of keys into a
 *                     ring of two
 *   warpgroups 1, 2   64 query rows. Warpgroup 1 computes scores and probabilities of tiles 0, 2, 4 ..., warpgroup 2
 *                     of tiles 1, 3, 5 ...; each adds all tiles' products to its own half of the output's columns
 *
 *     warpgroup 1   S(0) | softmax | O += P(0) V(0)  S(2)  O += P(1) V(1) | softmax | ...
 *     warpgroup 2          S(1)  O += P(0) V(0) | softmax | O += P(1) V(1)  S(3) ...
 *
 * A thread of one warpgroup has the same rows and keys as that of the other: it hands its probabilities, and the
 * origins that they count from, to that thread alone. Both follow one chain of origins, tile after tile.
 *
 * A tile's values go back in two parts, each once its warpgroup has added them; the columns that are no values once the
 * scores are there. */
#ifndef POD_SM90MLA_PIPELINE_CUH
#define POD_SM90MLA_PIPELINE_CUH

#include "cuda/kernels/address.cuh"
#include "cuda/kernels/cta.cuh"
#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/ptx/ptx_sm90.cuh"
#include "cuda/kernels/sm90mla/shape_sm90mla.cuh"

/* Named barriers; 0 is __syncthreads(). */
enum { BARRIER_ROWS = 1 };

enum { WORK_SLOTS = 2 }; /* the next work is found while this one is done */

/** What joining the parts of an item asks for. */
template <class ITEM> struct item_work {
    pod_request request;
    ITEM item;
};

/** Up to 64 rows of a request and KV head against a run of its KV tiles, or the end of work. */
struct mla_work {
    /* One of the two; the other is not filled in. */
    item_work<pod_decode_item> decode;
    item_work<pod_prefill_item> prefill;
    pod_request request;
    int32_t is_decode;
    int32_t request_idx, kv_head; /* kv_head -1: there is no more work */
    int32_t num_parts;
    row_place first_row;
    int32_t num_rows;
    int32_t first_key, num_tiles;
    int32_t kv_begin;       /* the first key that a row sees, or one before */
    pod_key_range unmasked; /* keys that no row masks */
};

/** A thread's probabilities of a tile, in chunks of 16 bytes, one thread after the other. */
enum { P_REGS = TILE_ROWS / 4, P_CHUNKS = P_REGS / 4 };

template <class SHAPE> struct alignas(GROUP_BYTES) smem_sm90mla {
    uint16_t q[SHAPE::PIECES][TILE_ROWS][PIECE_COLUMNS];
    uint16_t k[SHAPE::SLOTS][SHAPE::PIECES][TILE_ROWS][PIECE_COLUMNS];
    /* Handed over. One place for both warpgroups: a thread has read the other's before it writes its own. */
    uint4 p[P_CHUNKS][WARPGROUP_THREADS];
    float2 origin[WARPGROUP_THREADS];
    float sums[WORK_SLOTS][ROW_WARPGROUPS][TILE_ROWS]; /* of the tiles that a warpgroup turned into probabilities */
    mla_work work[WORK_SLOTS];
    uint32_t is_last; /* this CTA finished the last part of its rows */

    uint64_t q_full, q_empty;
    uint64_t k_full[SHAPE::SLOTS][NUM_PARTS], k_empty[SHAPE::SLOTS][NUM_PARTS];
    uint64_t p_full[ROW_WARPGROUPS]; /* of the warpgroup that computed them */
    uint64_t work_full[WORK_SLOTS], work_empty[WORK_SLOTS];
};

/** Shared-memory address of element `index` of an array of barriers. */
static __device__ __forceinline__ uint32_t barrier_at(const uint64_t *barriers, uint32_t index) {
    return smem_address(barriers) + index * (uint32_t)sizeof(uint64_t);
}

/** One arrival per warp, once all of its lanes are here. */
static __device__ __forceinline__ void warp_arrive(uint32_t barrier_smem) {
    __syncwarp();
    if (ptx_tid() % 32 == 0) ptx_mbarrier_arrive(barrier_smem);
}

/** A barrier of a part of tile `n`, counted through all works: in a ring of slots. */
template <class SHAPE>
static __device__ __forceinline__ uint32_t part_barrier(const uint64_t (*barriers)[NUM_PARTS], uint32_t n, int part) {
    return barrier_at(barriers[n % SHAPE::SLOTS], part);
}
template <class SHAPE> static __device__ __forceinline__ uint32_t ring_parity(uint32_t n) {
    return n / SHAPE::SLOTS % 2;
}

template <class SHAPE> static __device__ void init_barriers(smem_sm90mla<SHAPE> &smem) {
    ptx_mbarrier_init(smem_address(&smem.q_full), WARPGROUP_THREADS);
    ptx_mbarrier_init(smem_address(&smem.q_empty), ROW_WARPGROUPS * WARPGROUP_WARPS);
    for (int slot = 0; slot < SHAPE::SLOTS; slot++) {
        for (int part = 0; part < NUM_PARTS; part++) {
            ptx_mbarrier_init(barrier_at(smem.k_full[slot], part), WARPGROUP_THREADS);
            ptx_mbarrier_init(barrier_at(smem.k_empty[slot], part), WARPGROUP_WARPS); /* of one warpgroup */
        }
    }
    for (int i = 0; i < ROW_WARPGROUPS; i++) ptx_mbarrier_init(barrier_at(smem.p_full, i), WARPGROUP_THREADS);
    for (int i = 0; i < WORK_SLOTS; i++) {
        ptx_mbarrier_init(barrier_at(smem.work_full, i), 1);
        ptx_mbarrier_init(barrier_at(smem.work_empty, i), SHAPE::THREADS);
    }
    ptx_fence_mbarrier_init();
}

#endif
