/* SPDX-License-Identifier: Apache-2.0 */
/* What the warpgroups of a CTA share: tiles, work slots and the barriers between them.
 *
 *   warpgroup 0       its first warp: ticket -> work slot; all: the work's query rows, and its tiles of keys into a
 *                     ring
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
    int32_t first_key, num_tiles; /* prefill's and decode's tiles have not the same keys */
    int32_t kv_begin;             /* the first key that a row sees, or one before */
    pod_key_range unmasked;       /* keys that no row masks */
};

/** The barriers of a ring's parts, for as many slots as the tiles of one kind make of it. */
template <int SLOTS> struct ring_barriers { uint64_t full[SLOTS][NUM_PARTS], empty[SLOTS][NUM_PARTS]; };

template <class SHAPE> struct alignas(GROUP_BYTES) smem_sm90mla {
    uint16_t q[SHAPE::PIECES][TILE_ROWS][PIECE_COLUMNS];
    uint16_t k[RING_KEYS][SHAPE::HEAD_DIM]; /* slots of decode's tiles, then of prefill's */
    /* Probabilities, handed over: 16 bytes of each thread side by side. One place for both warpgroups: a thread has
     * read the other's before it writes its own. */
    uint4 p[SHAPE::PREFILL_KEYS / 16][WARPGROUP_THREADS];
    float2 origin[WARPGROUP_THREADS];
    float sums[WORK_SLOTS][ROW_WARPGROUPS][TILE_ROWS]; /* of the tiles that a warpgroup turned into probabilities */
    mla_work work[WORK_SLOTS];
    uint32_t is_last; /* this CTA finished the last part of its rows */

    uint64_t q_full, q_empty;
    ring_barriers<RING_KEYS / SHAPE::DECODE_KEYS> decode_ring;
    ring_barriers<RING_KEYS / SHAPE::PREFILL_KEYS> prefill_ring;
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

/** A barrier of a part of tile `n` of a kind, counted through all works. */
template <int SLOTS>
static __device__ __forceinline__ uint32_t part_barrier(const uint64_t (&barriers)[SLOTS][NUM_PARTS], uint32_t n,
                                                        int part) {
    return barrier_at(barriers[n % SLOTS], part);
}
template <int SLOTS> static __device__ __forceinline__ uint32_t ring_parity(const ring_barriers<SLOTS> &, uint32_t n) {
    return n / SLOTS % 2;
}

template <int SLOTS> static __device__ void init_ring(ring_barriers<SLOTS> &ring) {
    for (int slot = 0; slot < SLOTS; slot++) {
        for (int part = 0; part < NUM_PARTS; part++) {
            ptx_mbarrier_init(barrier_at(ring.full[slot], part), WARPGROUP_THREADS);
            ptx_mbarrier_init(barrier_at(ring.empty[slot], part), WARPGROUP_WARPS); /* of one warpgroup */
        }
    }
}

template <class SHAPE> static __device__ void init_barriers(smem_sm90mla<SHAPE> &smem) {
    ptx_mbarrier_init(smem_address(&smem.q_full), WARPGROUP_THREADS);
    ptx_mbarrier_init(smem_address(&smem.q_empty), ROW_WARPGROUPS * WARPGROUP_WARPS);
    init_ring(smem.decode_ring);
    init_ring(smem.prefill_ring);
    for (int i = 0; i < ROW_WARPGROUPS; i++) ptx_mbarrier_init(barrier_at(smem.p_full, i), WARPGROUP_THREADS);
    for (int i = 0; i < WORK_SLOTS; i++) {
        ptx_mbarrier_init(barrier_at(smem.work_full, i), 1);
        ptx_mbarrier_init(barrier_at(smem.work_empty, i), SHAPE::THREADS);
    }
    ptx_fence_mbarrier_init();
}

#endif
