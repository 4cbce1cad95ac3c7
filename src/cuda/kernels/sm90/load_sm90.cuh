/* SPDX-License-Identifier: Apache-2.0 */
/* The loaders: two warps that keep the rings of K and V tiles full.
 *
 * A tile is a number of boxes, each in one page; a lane owns one box, looks its page up a tile ahead and issues
 * its own copy. Boxes that no key of the request is in name page -1, which the copy engine answers with zeros. */
#ifndef POD_SM90_LOAD_CUH
#define POD_SM90_LOAD_CUH

#include "cuda/kernels/sm90/find_sm90.cuh"
#include "cuda/kernels/sm90/pace_sm90.cuh"

/** Where a box of tokens is in the cache. */
struct box_place {
    int32_t page, slot;
};

/** A slot of a ring, and its two barriers. */
struct load_slot {
    uint32_t smem, full, empty, parity;
};

/** A ring of slots. */
struct load_ring {
    uint32_t smem;
    const uint64_t *full, *empty;
};

/** K or V of a head. */
struct load_source {
    const pod_tensor_map *map;
    int32_t head; /* as the map counts */
};

/** Whose tiles: SHARED ones of prefill go into both CTAs, each loader fetching half of their tokens; those of NARROW
 * work, and of DECODE, into its own. */
enum load_kind { LOAD_SHARED, LOAD_NARROW, LOAD_DECODE };

template <class SHAPE> struct load_sm90 {
    typedef smem_sm90<SHAPE> smem_type;
    typedef find_sm90<SHAPE> find;

    static __device__ __forceinline__ box_place locate_box(const pod_kernel_params &params, int32_t request,
                                                           int32_t kv_len, int32_t token) {
        if (token >= kv_len) return {-1, token};
        pod_key_slot at = key_slot(params, token);
        return {load_page(params, request, at.page_idx), at.slot};
    }

    /** This lane's box of every tile of TOKENS tokens; of narrow maps, whose boxes are of one half, maybe several. */
    template <int TOKENS> struct lane_box {
        int32_t token; /* first one, within the tile */
        int32_t half, halves_at_once;
        bool exists;
        static constexpr int MOST_PER_HALF = TOKENS / SWIZZLE_ROWS;
        __device__ __forceinline__ lane_box(const pod_kernel_params &params, int lane) {
            int boxes_shift = __ffs(TOKENS) - 1 - params.box_shift;
            token = (lane & ((1 << boxes_shift) - 1)) << params.box_shift;
            half = lane >> boxes_shift;
            halves_at_once = 32 >> boxes_shift;
            exists = half < (params.is_wide ? 1 : SHAPE::HALVES);
        }
    };

    /** Fills one slot: waits until it is empty, then every lane copies its box, of SHARED tiles one of its loader's
     * half. NARROW ones stay in L2 only where `is_kept`. */
    template <class ROWS, int TOKENS, load_kind KIND, class BOX>
    static __device__ __forceinline__ void fill_slot(const pod_kernel_params &params, const BOX &box, box_place place,
                                                     load_source from, load_slot slot, bool is_kept, int lane) {
        ptx_mbarrier_wait(slot.empty, slot.parity ^ 1);
        if (lane == 0) ptx_mbarrier_arrive_expect(slot.full, TOKENS * ROWS::ROW_BYTES);
        __syncwarp();
        if (!box.exists) return;
        constexpr int ROUNDS = (BOX::MOST_PER_HALF * ROWS::HALVES + 31) / 32;
#pragma unroll
        for (int round = 0; round < ROUNDS; round++) {
            int half = box.half + round * box.halves_at_once;
            if (round > 0 && params.is_wide) return;
            if ((round > 0 || ROWS::HALVES < SHAPE::HALVES) && half >= ROWS::HALVES) return;
            uint32_t to = slot.smem + box.token / SWIZZLE_ROWS * ROWS::GROUP_BYTES + half * SWIZZLE_BYTES;
            const int32_t at[5] = {half * HALF_COLUMNS, params.is_wide ? 0 : place.slot, from.head,
                                   params.is_wide ? place.slot / SWIZZLE_ROWS : place.page,
                                   params.is_wide ? place.page : 0};
            if (KIND == LOAD_SHARED)
                ptx_tma_load_5d_to((1 << CLUSTER_CTAS) - 1, to, from.map, slot.full, at, ptx_policy_evict_last());
            else if (KIND == LOAD_NARROW)
                ptx_tma_load_5d(to, from.map, slot.full, at,
                                is_kept ? ptx_policy_evict_last() : ptx_policy_evict_first());
            else
                ptx_tma_load_5d(to, from.map, slot.full, at, ptx_policy_evict_first());
        }
    }

    /** Where V(n) of prefill takes the place of V(n - 1), waits until that is done with. */
    static __device__ __forceinline__ void wait_values_before(smem_type &smem, uint32_t n) {
        constexpr uint32_t PAIRS = SHAPE::PREFILL_PAIRS;
        if (!smem.is_lent || n == 0) return;
        ptx_mbarrier_wait(barrier_at(smem.kv_empty, (n - 1) % PAIRS * 2 + 1), (n - 1) / PAIRS % 2);
    }

    /** The tiles of a piece of work through a ring of pairs, K(0) V(0) K(1) V(1) …; of prefill, K(1) comes
     * before V(0) and so on, as their slots become empty in that order. The work is read anew for every tile, which
     * costs less than registers that live that long. */
    template <int TOKENS, load_kind KIND, int PAIRS>
    static __device__ __forceinline__ void load_tiles(const pod_kernel_params &params, const load_work &work,
                                                      bool is_kept, load_ring ring, ring_place<PAIRS> &at,
                                                      smem_type &smem, int lane) {
        typedef typename SHAPE::k_rows k_rows;
        typedef typename SHAPE::v_rows v_rows;
        constexpr uint32_t K_BYTES = TOKENS * k_rows::ROW_BYTES, PAIR_BYTES = K_BYTES + TOKENS * v_rows::ROW_BYTES;
        constexpr bool IS_PREFILL = KIND != LOAD_DECODE;
        constexpr int OWN_TOKENS = KIND == LOAD_SHARED ? SHAPE::LOADER_TOKENS : TOKENS;
        lane_box<OWN_TOKENS> box(params, lane);
        if (KIND == LOAD_SHARED) box.token += ptx_cta_rank() * OWN_TOKENS;
        int32_t token = work.first_key + box.token;
        auto locate = [&](int32_t tile) {
            box_place none = {-1, 0};
            if (tile >= work.num_tiles) return none;
            return locate_box(params, work.request_idx, work.kv_len, token + tile * TOKENS);
        };
        auto load_k = [&](box_place place, ring_place<PAIRS> pair) {
            uint32_t slot = pair.slot * 2;
            fill_slot<k_rows, TOKENS, KIND>(params, box, place, {&params.k_map, work.kv_head * params.k_head_halves},
                                            {ring.smem + pair.slot * PAIR_BYTES, barrier_at(ring.full, slot),
                                             barrier_at(ring.empty, slot), pair.parity},
                                            is_kept, lane);
        };
        auto load_v = [&](box_place place, ring_place<PAIRS> pair, int32_t tile) {
            uint32_t slot = pair.slot * 2 + 1, full = barrier_at(ring.full, slot);
            if (IS_PREFILL && tile == 0 && has_hidden_keys(params, work))
                full = barrier_at(smem.first_values_full, pair.slot);
            uint32_t slot_smem =
                IS_PREFILL ? values_smem(smem, smem.is_lent, pair.slot) : ring.smem + slot * K_BYTES; /* alike */
            fill_slot<v_rows, TOKENS, KIND>(params, box, place, {&params.v_map, work.kv_head * params.v_head_halves},
                                            {slot_smem, full, barrier_at(ring.empty, slot), pair.parity}, is_kept,
                                            lane);
        };
        /* Of the first tile, boxes whose keys no row sees are nowhere: what the table says of them may be anything. */
        bool is_hidden = token + (1 << params.box_shift) <= work.kv_begin;
        box_place place = locate(is_hidden ? work.num_tiles : 0), next = locate(1);
        if (IS_PREFILL) load_k(place, at);
        for (int32_t tile = 0; tile < work.num_tiles; tile++) {
            if (IS_PREFILL && tile == work.num_tiles - 1 && ptx_cta_rank() == 0)
                warp_arrive(smem_address(&smem.prefill_ending));
            if (IS_PREFILL)
                pace_sm90<SHAPE>::keep(smem, work.first_tile + tile, lane);
            else if (lane == 0)
                atomicAdd(&smem.pace.decode_tiles, 1);
            box_place after_next = locate(tile + 2);
            ring_place<PAIRS> next_at = at;
            next_at.advance();
            if (!IS_PREFILL) load_k(place, at);
            if (IS_PREFILL && tile + 1 < work.num_tiles) load_k(next, next_at);
            if (IS_PREFILL) wait_values_before(smem, work.first_tile + tile);
            load_v(place, at, tile);
            at = next_at;
            place = next;
            next = after_next;
        }
    }

    /** Values after the end of a request are whatever the cache holds there, also NaN: in the work's last V tile they
     * become zeros. The loader does it, since no other warp may wait for a tile without keeping pace with the ring;
     * warpgroups that have rows keep the tile until it is clean. */
    static __device__ __forceinline__ void clear_values(smem_type &smem, const prefill_work &work, int lane) {
        constexpr int PAIRS = SHAPE::PREFILL_PAIRS, ROW_CHUNKS = SHAPE::v_rows::CHUNKS;
        int32_t last_tile = work.item.entry.num_tiles - 1;
        int32_t num_keys = max(0, work.request.kv_len - work.first_key - last_tile * SHAPE::PREFILL_TOKENS);
        if (num_keys >= SHAPE::PREFILL_TOKENS || work.num_rows <= 0) return;
        uint32_t n = work.load.first_tile + last_tile, v_smem = values_smem(smem, smem.is_lent, n);
        ptx_mbarrier_wait(barrier_at(smem.kv_full, n % PAIRS * 2 + 1), n / PAIRS % 2);
        for (int row = num_keys + lane / ROW_CHUNKS; row < SHAPE::PREFILL_TOKENS; row += 32 / ROW_CHUNKS) {
            ptx_st_smem_zeros(v_smem + tile_chunk<typename SHAPE::v_rows>(row, lane % ROW_CHUNKS));
        }
        ptx_fence_async_smem();
    }

    /** Warp 0: the tiles of the work that warp 3 finds. */
    static __device__ void prefill(const pod_kernel_params &params, smem_type &smem, int lane) {
        const load_ring ring = {smem_address(smem.kv), smem.kv_full, smem.kv_empty};
        ring_place<SHAPE::PREFILL_PAIRS> at = {0, 0};
        for (ring_place<WORK_SLOTS> slot = {0, 0};; slot.advance()) {
            ptx_mbarrier_wait(barrier_at(smem.prefill_full, slot.slot), slot.parity);
            const prefill_work &work = smem.prefill[slot.slot];
            if (work.item.kv_head < 0) break;
            bool is_kept = work.item.entry.row_begin > 0; /* for the request's other tiles */
            if (work.item.entry.heads == POD_HEADS_BOTH)
                load_tiles<SHAPE::PREFILL_TOKENS, LOAD_NARROW>(params, work.load, is_kept, ring, at, smem, lane);
            else
                load_tiles<SHAPE::PREFILL_TOKENS, LOAD_SHARED>(params, work.load, false, ring, at, smem, lane);
            clear_values(smem, work, lane);
            warp_arrive(barrier_at(smem.values_clean, slot.slot));
            threads_arrive(barrier_at(smem.prefill_empty, slot.slot));
        }
    }

    /** Warp 1: finds decode work, slice after slice, item after item, and loads its tiles. The first is there. */
    static __device__ void decode(const pod_kernel_params &params, smem_type &smem, int lane) {
        const load_ring ring = {smem_address(decode_ring(smem)), smem.decode_kv_full.at, smem.decode_kv_empty.at};
        const uint32_t first_pair = warp_uniform(first_decode_slot(smem)) / 2;
        ring_place<SHAPE::RING_SLOTS / 2> at = {first_pair, 0, first_pair};
        for (ring_place<WORK_SLOTS> slot = {0, 0};;) {
            const decode_work &work = smem.decode[slot.slot];
            warp_arrive(barrier_at(smem.decode_full, slot.slot));
            if (work.item.kv_head < 0) break;
            load_tiles<SHAPE::DECODE_TOKENS, LOAD_DECODE>(params, work.load, false, ring, at, smem, lane);
            slot.advance();
            ptx_mbarrier_wait(barrier_at(smem.decode_empty, slot.slot), slot.parity ^ 1);
            find::next_decode(params, smem.cursor, smem.decode[slot.slot], lane);
        }
        if (lane == 0) atomicExch(&smem.pace.decode_tiles, INT32_MAX); /* prefill no longer waits for it */
    }
};

#endif
