/* SPDX-License-Identifier: Apache-2.0 */
/* The tiles of the sm90 kernels: how large they are, and where their chunks are in shared memory.
 *
 * All tiles are what wgmma and the copy engine call 128-byte swizzled: halves of 64 columns, rows of 128 bytes. In a K
 * or V tile the halves of eight tokens are side by side, so that one box brings both. */
#ifndef POD_SM90_SHAPE_CUH
#define POD_SM90_SHAPE_CUH

#include "cuda/kernels/swizzle.cuh"

enum { WARPGROUP_THREADS = 128, WARPGROUP_WARPS = 4, PREFILL_WARPGROUPS = 2, CLUSTER_CTAS = 2 };

enum { HALF_COLUMNS = 64, HALF_ROW_BYTES = 128, SWIZZLE_ROWS = 8, SWIZZLE_BYTES = SWIZZLE_ROWS * HALF_ROW_BYTES };
enum { PREFILL_WARPGROUP_ROWS = 64 };
enum { DECODE_WARP_ROWS = 8 };

/** A row of sm90_tiles.def. */
template <int HEAD_DIM> struct tiles_sm90;
#define POD_SM90_TILES(JOB, HEAD_DIM, CTAS, VDIM, THREADS_, ROWS, KEYS, DROWS, DKEYS, PAIRS, DSLOTS, SMEM)             \
    template <> struct tiles_sm90<HEAD_DIM> {                                                                          \
        static constexpr int V_HEAD_DIM = VDIM, THREADS = THREADS_, SMEM_BYTES = SMEM;                                 \
        static constexpr int PREFILL_ROWS = ROWS, PREFILL_TOKENS = KEYS, PREFILL_PAIRS = PAIRS;                        \
        static constexpr int DECODE_ROWS = DROWS, DECODE_TOKENS = DKEYS, DECODE_SLOTS = DSLOTS;                        \
    };
#include "families/sm90_tiles.def"

/** A tile of rows of so many columns: of keys, or of values. */
template <int COLUMNS> struct rows_of {
    static constexpr int HALVES = COLUMNS / HALF_COLUMNS, CHUNKS = COLUMNS / CHUNK_ELEMENTS;
    static constexpr uint32_t ROW_BYTES = HALVES * HALF_ROW_BYTES, GROUP_BYTES = HALVES * SWIZZLE_BYTES;
    static_assert(COLUMNS % HALF_COLUMNS == 0, "tiles, tensor maps and products have whole halves of 64 columns");
};

/** Tiles of a kernel, and what follows from them. */
template <int HEAD_DIM_> struct shape_sm90 : tiles_sm90<HEAD_DIM_> {
    typedef tiles_sm90<HEAD_DIM_> tiles;
    static constexpr int HEAD_DIM = HEAD_DIM_, HALVES = HEAD_DIM / HALF_COLUMNS;
    typedef rows_of<HEAD_DIM> k_rows;
    typedef rows_of<tiles::V_HEAD_DIM> v_rows;
    /* A kernel without decode warps computes every request in row tiles. */
    static constexpr bool DECODES = tiles::DECODE_ROWS > 0;
    static constexpr int CTA_ROWS = PREFILL_WARPGROUPS * PREFILL_WARPGROUP_ROWS;
    static constexpr int PREFILL_SLOTS = 2 * tiles::PREFILL_PAIRS;
    static constexpr int LOADER_TOKENS = tiles::PREFILL_TOKENS / CLUSTER_CTAS; /* of a prefill tile */
    static constexpr uint32_t PREFILL_K_BYTES = tiles::PREFILL_TOKENS * k_rows::ROW_BYTES,
                              PREFILL_V_BYTES = tiles::PREFILL_TOKENS * v_rows::ROW_BYTES,
                              PREFILL_PAIR_BYTES = PREFILL_K_BYTES + PREFILL_V_BYTES;
    static constexpr uint32_t DECODE_SLOT_BYTES = tiles::DECODE_TOKENS * k_rows::ROW_BYTES;
    /* What prefill's last slot makes when it is lent: the first slots, in pairs, of a longer decode ring. */
    static constexpr int LENT_SLOTS = DECODES ? PREFILL_V_BYTES / DECODE_SLOT_BYTES / 2 * 2 : 0,
                         RING_SLOTS = LENT_SLOTS + tiles::DECODE_SLOTS;
    static constexpr uint32_t Q_HALF_BYTES = PREFILL_WARPGROUP_ROWS * HALF_ROW_BYTES;
    static_assert(!DECODES || HEAD_DIM == tiles::V_HEAD_DIM, "decode's K and V tiles are alike");
    static_assert(tiles::THREADS == (1 + PREFILL_WARPGROUPS + DECODES) * WARPGROUP_THREADS, "loaders, prefill, decode");
    static_assert(tiles::PREFILL_ROWS == CLUSTER_CTAS * CTA_ROWS, "a row for each thread of the prefill warpgroups");
    static_assert(tiles::DECODE_ROWS <= WARPGROUP_WARPS * DECODE_WARP_ROWS, "eight rows for each warp of decode");
};

/** Byte offset of a 16-byte chunk of a token (of its 8 HALVES ones) in a K or V tile. */
template <class ROWS> static __device__ __forceinline__ uint32_t tile_chunk(int token, int chunk) {
    return token / SWIZZLE_ROWS * ROWS::GROUP_BYTES + chunk / 8 * SWIZZLE_BYTES +
           swizzle_chunk<HALF_ROW_BYTES>(token % SWIZZLE_ROWS, chunk % 8);
}

/** The same of a query row in a warpgroup's tile. */
template <class SHAPE> static __device__ __forceinline__ uint32_t q_chunk(int row, int chunk) {
    return chunk / 8 * SHAPE::Q_HALF_BYTES + swizzle_chunk<HALF_ROW_BYTES>(row, chunk % 8);
}

#endif
