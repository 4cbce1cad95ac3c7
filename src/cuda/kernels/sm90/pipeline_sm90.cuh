/* SPDX-License-Identifier: Apache-2.0 */
/* What the warpgroups of a CTA share: tiles, rings, work slots and the barriers between them.
 *
 *   warp 0            K and V tiles of the prefill work slots into the prefill ring, zeros after their last values
 *   warp 1            ticket -> decode work slot -> its K and V tiles into the decode ring
 *   warp 2            query rows of the prefill work slots, zeros before their first values
 *   warp 3            ticket -> prefill work slot
 *   warpgroups 1, 2   prefill: 64 query rows each
 *   warpgroup 3       decode; a kernel without it has no work for warp 1 either
 *
 * Two CTAs are a cluster. A prefill tile of 256 rows goes to both, 128 each; every K and V tile of it comes once from
 * L2 and lands in both, each loader fetching half of its tokens: decode needs what L2 can deliver. Of a narrow tile, of
 * at most 128 rows, they take a KV head each, and each loader fetches that head's tiles for its own CTA alone. Both
 * have as many, so that the rings stay in step: a slot is filled again once neither CTA reads its own. */
#ifndef POD_SM90_PIPELINE_CUH
#define POD_SM90_PIPELINE_CUH

#include "cuda/kernels/address.cuh"
#include "cuda/kernels/cta.cuh"
#include "cuda/kernels/mask.cuh"
#include "cuda/kernels/ptx/ptx_sm90.cuh"
#include "cuda/kernels/sm90/shape_sm90.cuh"

/* Named barriers; 0 is __syncthreads(). */
enum { BARRIER_PREFILL_0 = 1, BARRIER_PREFILL_1 = 2, BARRIER_DECODE = 3 };

enum { WORK_SLOTS = 2 }; /* the next work is found while this one is done */

/* Tickets that the second CTA may have yet to read. The first is at most two tiles, so two works, ahead of it, and then
 * finds the work after the next. */
enum { TICKET_PLACES = 4 };

/** What a loader asks of a piece of work for every tile. */
struct load_work {
    int32_t request_idx, kv_len, kv_head;
    int32_t first_key, num_tiles;
    int32_t kv_begin;    /* the first key that a row sees, of the first tile or before it */
    uint32_t first_tile; /* how many tiles all works before had; of prefill only */
};

/** Keys of a work's first tile that no row sees, in the box of the first key that one sees; of the boxes before nothing
 * is loaded. `begin` is that box's first key. */
static __device__ __forceinline__ pod_key_range hidden_keys(const pod_kernel_params &params, const load_work &work) {
    int32_t end = max(0, work.kv_begin - work.first_key);
    return {end & -params.box_tokens, end};
}

static __device__ __forceinline__ bool has_hidden_keys(const pod_kernel_params &params, const load_work &work) {
    if (params.shape.window_tokens == 0) return false;
    pod_key_range hidden = hidden_keys(params, work);
    return hidden.begin < hidden.end;
}

/** How far decode is, for prefill's loader. Other warps write it than read it, at any time: by atomics alone. */
struct load_pace {
    int32_t decode_tiles;           /* loaded by this CTA; INT32_MAX once there are no more */
    int32_t prefill_per_decode_f32; /* tiles of prefill that may be loaded for each of decode: a float's bits */
};

/** A CTA's half of a row tile of a prefill request and a KV head, or all of a narrow one, or the end of work. */
struct prefill_work {
    pod_request request;
    pod_prefill_item item; /* kv_head -1: there is no more work */
    load_work load;
    /* Of each warpgroup, the tiles of which no row masks a key; known with the rows. */
    tile_range unmasked[PREFILL_WARPGROUPS];
    uint32_t number;     /* of this CTA's works */
    int32_t row_begin;   /* this CTA's first row */
    row_place first_row; /* where that is */
    int32_t num_rows;    /* of this CTA; none or negative: the other one has all */
    int32_t first_key;   /* of the first KV tile */
};

/** Where the decode loader is on the decode line. */
struct decode_cursor {
    int32_t slice, position, slice_end;
    int32_t next_turn; /* drawn while this slice is loaded */
};

/** A run of KV tiles of a decode request and KV head, or the end of work. */
struct decode_work {
    pod_request request;
    pod_decode_item item; /* kv_head -1: there is no more work */
    load_work load;
    int32_t num_rows;
    int32_t first_key;
    pod_key_range unmasked; /* keys that no row masks */
};

/** An array that may be empty. */
template <class T, int COUNT> struct places { T at[COUNT]; };
template <class T> struct places<T, 0> {};

template <class SHAPE> struct alignas(SWIZZLE_BYTES) smem_sm90 {
    typedef uint16_t decode_tile[SHAPE::DECODE_TOKENS / SWIZZLE_ROWS][SHAPE::HALVES][SWIZZLE_ROWS][HALF_COLUMNS];
    uint16_t q[PREFILL_WARPGROUPS][SHAPE::HALVES][PREFILL_WARPGROUP_ROWS][HALF_COLUMNS];
    /* K(0) V(0) K(1) V(1) …; the last slot can be lent to decode, whose ring follows */
    uint8_t kv[SHAPE::PREFILL_PAIRS][SHAPE::PREFILL_PAIR_BYTES];
    places<decode_tile, SHAPE::DECODE_SLOTS> decode_kv;
    float2 decode_sums[WARPGROUP_WARPS][DECODE_WARP_ROWS]; /* max and sum of each warp's rows */
    prefill_work prefill[WORK_SLOTS];
    decode_work decode[WORK_SLOTS];
    decode_cursor cursor;
    load_pace pace;
    uint32_t is_lent;                         /* prefill's last slot is decode's, for the whole launch */
    uint32_t is_last[PREFILL_WARPGROUPS + 1]; /* that warpgroup finished the last part of its rows */

    uint64_t kv_full[SHAPE::PREFILL_SLOTS], kv_empty[SHAPE::PREFILL_SLOTS];
    uint64_t q_full[PREFILL_WARPGROUPS], q_empty[PREFILL_WARPGROUPS];
    int32_t ticket[TICKET_PLACES]; /* of the prefill queue, drawn by the cluster's first CTA for both */
    uint64_t ticket_full[TICKET_PLACES];
    uint64_t prefill_full[WORK_SLOTS], prefill_empty[WORK_SLOTS];
    uint64_t prefill_ending;           /* the work's last tile is about to be loaded: time to draw the next ticket */
    uint64_t values_clean[WORK_SLOTS]; /* the work's last V tile holds zeros after the request's end */
    /* A first V tile with hidden keys has come; kv_full then says that it is clean. One for each pair, since the
     * loaders may come to the next work's first tile before this one has landed in both CTAs. */
    uint64_t first_values_full[SHAPE::PREFILL_PAIRS];
    places<uint64_t, SHAPE::RING_SLOTS> decode_kv_full, decode_kv_empty;
    uint64_t decode_full[WORK_SLOTS], decode_empty[WORK_SLOTS];
};

/** A place in a ring: the slot, and the parity of the barrier phase that ends when it is filled (for its reader). */
template <int SLOTS> struct ring_place {
    uint32_t slot, parity;
    uint32_t first = 0; /* slot, which comes after the last one */
    __device__ __forceinline__ void advance() {
        if (++slot < SLOTS) return;
        slot = first;
        parity ^= 1;
    }
};

/** Address of V(n) of prefill: in its pair's second slot, or always in the first pair's if that of the last is lent. */
template <class SHAPE>
static __device__ __forceinline__ uint32_t values_smem(smem_sm90<SHAPE> &smem, bool is_lent, uint32_t n) {
    uint32_t pair = is_lent ? 0 : n % SHAPE::PREFILL_PAIRS;
    return smem_address(smem.kv) + pair * SHAPE::PREFILL_PAIR_BYTES + SHAPE::PREFILL_K_BYTES;
}

/** The first slot of the decode ring; those before it are not decode's. */
template <class SHAPE> static __device__ __forceinline__ uint32_t first_decode_slot(const smem_sm90<SHAPE> &smem) {
    return smem.is_lent ? 0 : SHAPE::LENT_SLOTS;
}

/** The decode ring, whose first slots are prefill's last one. */
template <class SHAPE> static __device__ __forceinline__ char *decode_ring(smem_sm90<SHAPE> &smem) {
    static_assert(offsetof(smem_sm90<SHAPE>, decode_kv) == offsetof(smem_sm90<SHAPE>, kv) + sizeof smem.kv,
                  "the rings are neighbours");
    return (char *)smem.decode_kv.at - SHAPE::LENT_SLOTS * SHAPE::DECODE_SLOT_BYTES;
}

/** Shared-memory address of element `index` of an array of barriers. */
static __device__ __forceinline__ uint32_t barrier_at(const uint64_t *barriers, uint32_t index) {
    return smem_address(barriers) + index * (uint32_t)sizeof(uint64_t);
}

/** An arrival at a barrier of both CTAs. */
static __device__ __forceinline__ void cluster_arrive(uint32_t barrier_smem) {
#pragma unroll
    for (uint32_t cta = 0; cta < CLUSTER_CTAS; cta++) ptx_mbarrier_arrive_at(barrier_smem, cta);
}

/** One arrival per warp, once all of its lanes are here. */
static __device__ __forceinline__ void warp_arrive(uint32_t barrier_smem) {
    __syncwarp();
    if (ptx_tid() % 32 == 0) ptx_mbarrier_arrive(barrier_smem);
}

/** One arrival per thread, where each has written or read what others use with plain loads and stores: racecheck does
 * not see that a warp's one arrival speaks for all of its lanes. */
static __device__ __forceinline__ void threads_arrive(uint32_t barrier_smem) {
    __syncwarp();
    ptx_mbarrier_arrive(barrier_smem);
}

template <class SHAPE> static __device__ void init_barriers(smem_sm90<SHAPE> &smem) {
    constexpr int PREFILL_WARPS = PREFILL_WARPGROUPS * WARPGROUP_WARPS;
    for (int i = 0; i < SHAPE::PREFILL_SLOTS; i++) {
        ptx_mbarrier_init(barrier_at(smem.kv_full, i), 1);
        ptx_mbarrier_init(barrier_at(smem.kv_empty, i), CLUSTER_CTAS * PREFILL_WARPS);
    }
    if constexpr (SHAPE::DECODES) {
        for (int i = 0; i < SHAPE::RING_SLOTS; i++) {
            ptx_mbarrier_init(barrier_at(smem.decode_kv_full.at, i), 1);
            ptx_mbarrier_init(barrier_at(smem.decode_kv_empty.at, i), WARPGROUP_WARPS);
        }
    }
    for (int i = 0; i < WORK_SLOTS; i++) {
        ptx_mbarrier_init(barrier_at(smem.prefill_full, i), 1);
        ptx_mbarrier_init(barrier_at(smem.prefill_empty, i), (PREFILL_WARPS + 2) * 32);
        ptx_mbarrier_init(barrier_at(smem.values_clean, i), 1);
        ptx_mbarrier_init(barrier_at(smem.decode_full, i), 1);
        ptx_mbarrier_init(barrier_at(smem.decode_empty, i), WARPGROUP_THREADS);
    }
    for (int i = 0; i < TICKET_PLACES; i++) ptx_mbarrier_init(barrier_at(smem.ticket_full, i), 1);
    ptx_mbarrier_init(smem_address(&smem.prefill_ending), 1);
    for (int i = 0; i < SHAPE::PREFILL_PAIRS; i++) ptx_mbarrier_init(barrier_at(smem.first_values_full, i), 1);
    for (int i = 0; i < PREFILL_WARPGROUPS; i++) {
        ptx_mbarrier_init(barrier_at(smem.q_full, i), 1 + 32); /* the tile's and the loading warp's threads' */
        ptx_mbarrier_init(barrier_at(smem.q_empty, i), WARPGROUP_THREADS);
    }
    ptx_fence_mbarrier_init();
}

#endif
