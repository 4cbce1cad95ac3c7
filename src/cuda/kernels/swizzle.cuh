/* SPDX-License-Identifier: Apache-2.0 */
/* Rows in shared memory, swizzled in chunks of 16 bytes: eight neighbouring rows begin at different banks, so that
 * ldmatrix reads a column of chunks without a conflict. */
#ifndef POD_CUDA_SWIZZLE_CUH
#define POD_CUDA_SWIZZLE_CUH

#include <stdint.h>

enum { CHUNK_ELEMENTS = 8 /* of 16 bits */, CHUNK_BYTES = 16 }; /* every copy moves 16 bytes */

/** How many bytes of a chunk a row of `row_bytes` has. */
static __device__ __forceinline__ uint32_t chunk_bytes(int chunk, int row_bytes) {
    int left = row_bytes - chunk * CHUNK_BYTES;
    return left < 0 ? 0 : left < CHUNK_BYTES ? left : CHUNK_BYTES;
}

/** Byte offset of a chunk in a tile of rows of ROW_BYTES. */
template <int ROW_BYTES> static __device__ __forceinline__ uint32_t swizzle_chunk(int row, int chunk) {
    if constexpr (ROW_BYTES == 4 * CHUNK_BYTES) { /* two rows share what all banks hold */
        return row * ROW_BYTES + ((chunk ^ (row >> 1 & 3)) * CHUNK_BYTES);
    } else {
        static_assert(ROW_BYTES % (8 * CHUNK_BYTES) == 0, "the swizzle would move chunks out of their row");
        return row * ROW_BYTES + ((chunk ^ (row & 7)) * CHUNK_BYTES);
    }
}

/** Chunks 2 * step and 2 * step + 1 of a lane's row, from the address of the row's first two. The swizzle changes the
 * low three bits of a chunk's number, or two of four; to the next eight chunks it is `eight_bytes`, added at the end,
 * which costs no instruction. */
static __device__ __forceinline__ uint32_t step_chunk(uint32_t first_smem, int step,
                                                      uint32_t eight_bytes = 8 * CHUNK_BYTES) {
    return (first_smem ^ (step % 4 * 2 * CHUNK_BYTES)) + step / 4 * eight_bytes;
}

#endif
