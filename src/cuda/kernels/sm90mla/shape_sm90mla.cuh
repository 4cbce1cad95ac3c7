/* SPDX-License-Identifier: Apache-2.0 */
/* The tiles of absorbed MLA: how large they are, and where their chunks are in shared memory.
 *
 * A tile, of queries or of the cache, is what wgmma calls 128-byte swizzled, in pieces of 64 columns one after the
 * other. As keys its columns are the products' inner dimension; as values its rows are. */
#ifndef POD_SM90MLA_SHAPE_CUH
#define POD_SM90MLA_SHAPE_CUH

#include "cuda/kernels/swizzle.cuh"

enum { WARPGROUP_THREADS = 128, WARPGROUP_WARPS = 4, ROW_WARPGROUPS = 2 };
enum { ROW_THREADS = ROW_WARPGROUPS * WARPGROUP_THREADS };

enum { TILE_ROWS = 64, PIECE_COLUMNS = 64, PIECE_ROW_BYTES = 128, GROUP_BYTES = 8 * PIECE_ROW_BYTES };
enum { PIECE_CHUNKS = PIECE_ROW_BYTES / CHUNK_BYTES };
enum { RING_KEYS = 128 }; /* of all slots together */

/** Parts of a tile of keys that are loaded, and given back, by themselves: the values of each warpgroup, and what is no
 * value. */
enum { PART_LEFT, PART_RIGHT, PART_REST, NUM_PARTS };

/** A row of sm90mla_tiles.def. */
template <int HEAD_DIM> struct tiles_sm90mla;
#define POD_SM90MLA_TILES(JOB, HEAD_DIM, CTAS, V_HEAD_DIM_, THREADS_, ROWS, KEYS, DROWS, DKEYS, SMEM)                  \
    template <> struct tiles_sm90mla<HEAD_DIM> {                                                                       \
        static constexpr int V_HEAD_DIM = V_HEAD_DIM_, THREADS = THREADS_, SMEM_BYTES = SMEM;                          \
        static constexpr int PREFILL_KEYS = KEYS, DECODE_KEYS = DKEYS;                                                 \
        static_assert(ROWS == TILE_ROWS && DROWS == TILE_ROWS, "the rows of a product");                               \
    };
#include "families/sm90mla_tiles.def"

/** Tiles of a kernel, and what follows from them. */
template <int HEAD_DIM_> struct shape_sm90mla : tiles_sm90mla<HEAD_DIM_> {
    typedef tiles_sm90mla<HEAD_DIM_> tiles;
    static constexpr int HEAD_DIM = HEAD_DIM_, PIECES = HEAD_DIM / PIECE_COLUMNS;
    static constexpr int OWN_COLUMNS = tiles::V_HEAD_DIM / ROW_WARPGROUPS, OWN_PIECES = OWN_COLUMNS / PIECE_COLUMNS;
    static_assert(HEAD_DIM % PIECE_COLUMNS == 0 && OWN_COLUMNS % PIECE_COLUMNS == 0, "whole pieces of 64 columns");
    static_assert(OWN_COLUMNS == 256, "the columns of one product");
    static_assert(tiles::THREADS == (1 + ROW_WARPGROUPS) * WARPGROUP_THREADS, "loaders, and who computes");

    /** The first piece of a part of a tile, and how many it has. */
    template <int PART> struct part {
        static constexpr int BEGIN = PART * OWN_PIECES, COUNT = PART == PART_REST ? PIECES - BEGIN : OWN_PIECES;
    };
};

/** A tile of ROWS rows. */
template <class SHAPE, int ROWS_> struct tile_sm90mla {
    static constexpr int ROWS = ROWS_, SLOTS = RING_KEYS / ROWS;
    static constexpr uint32_t PIECE_BYTES = ROWS * PIECE_ROW_BYTES, BYTES = SHAPE::PIECES * PIECE_BYTES;
};

/** Byte offset of a 16-byte chunk of a tile's row, counted through all of its pieces. */
template <class TILE> static __device__ __forceinline__ uint32_t tile_chunk(int row, int chunk) {
    return chunk / PIECE_CHUNKS * TILE::PIECE_BYTES + swizzle_chunk<PIECE_ROW_BYTES>(row, chunk % PIECE_CHUNKS);
}

#endif
