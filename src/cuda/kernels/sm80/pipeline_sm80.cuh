/* SPDX-License-Identifier: Apache-2.0 */
/* What the threads of a CTA share: the work at hand, its tiles and the places of its keys. */
#ifndef POD_SM80_PIPELINE_CUH
#define POD_SM80_PIPELINE_CUH

#include "cuda/kernels/params.h"

/* ---- tickets ---- */

enum work_kind { WORK_NONE, WORK_PREFILL, WORK_DECODE };

enum { DECODE_SLICES_PER_CTA = 4 }; /* one per warp */

struct work_ticket {
    int32_t kind;  /* work_kind */
    int32_t index; /* prefill: position in the queue; decode: first of four slices */
};

/* ---- prefill ---- */

enum { PREFILL_THREADS = 128, PREFILL_BARRIER = 1, PREFILL_STAGES = 2 /* of K, and of V */ };

/** What the loop over the KV tiles asks for in every iteration, in tiles from the work's first one. One load. */
struct alignas(16) prefill_range {
    int32_t num_tiles;
    int32_t window_tiles;   /* whose places are looked up at the same time; a power of two */
    int32_t unmasked_begin; /* no row masks a key of the tiles [unmasked_begin, unmasked_end) */
    int32_t unmasked_end;
};

/** Where K or V are copied from. One load. */
struct alignas(16) prefill_source {
    const char *head;
    uint32_t token_chunks;
    int32_t num_run_tiles; /* of the first ones, all keys exist, in runs of 16 */
};

enum { WINDOW_RUNS = 64 };

/** One row tile and KV head. In shared memory, to save registers for the accumulators. */
struct prefill_work {
    pod_request request;
    pod_prefill_item item;
    int32_t num_rows;    /* of this tile */
    int32_t first_key;   /* of the first KV tile */
    int32_t unseen_keys; /* from there on that no row sees: a window is not as far back */
    int32_t num_keys;    /* from there on that exist */
    int32_t run_shift;   /* log2 of a run's keys */
    uint32_t is_last;    /* this CTA finished the last part of its tile */
    uint32_t zero;       /* see new_zero() */
    uint32_t has_lost;   /* something was taken out of V, see hidden_sm80.cuh */
    prefill_range range;
    prefill_source sources[2]; /* of K, of V */
};

/** Tiles of K and V. Products read elements of two bytes where they have landed; codes of one byte are converted first.
 */
template <int HEAD_DIM, int TILE_TOKENS, int KV_BYTES> struct prefill_kv {
    uint16_t stages[2][PREFILL_STAGES][TILE_TOKENS][HEAD_DIM]; /* of K, of V */
};
template <int HEAD_DIM, int TILE_TOKENS> struct prefill_kv<HEAD_DIM, TILE_TOKENS, 1> {
    uint8_t stages[2][PREFILL_STAGES][TILE_TOKENS * HEAD_DIM];
    uint16_t converted[2][TILE_TOKENS][HEAD_DIM];
};

template <int HEAD_DIM, int M_TILES, int TILE_TOKENS, int KV_BYTES> struct alignas(256) prefill_smem {
    uint16_t q[64 * M_TILES][HEAD_DIM];
    prefill_kv<HEAD_DIM, TILE_TOKENS, KV_BYTES> kv;
    alignas(16) uint32_t places[2][2 * WINDOW_RUNS]; /* of K and V: chunks from the head to each run, two windows */
    int32_t pages[2 * WINDOW_RUNS];                  /* of the runs two windows further, under way */
    int32_t positions[64 * M_TILES];                 /* of each row's token, from the work's first key */
    prefill_work work;
};

/* ---- decode ---- */

enum { DECODE_TILE_TOKENS = 64 };

/** An item of a slice. In shared memory, to save registers for the accumulators. */
struct decode_work {
    pod_request request;
    pod_decode_item item;
    int32_t num_rows;
    int32_t first_key, end_key;
    int32_t unseen_keys;    /* from first_key on that no row sees: a window is not as far back. Less than a stage */
    pod_key_range unmasked; /* keys that no row masks */
    uint32_t has_lost;      /* something was taken out of V, see hidden_sm80.cuh */
    const char *heads[2];   /* of K, of V */
};

template <int ROW_BYTES, int STAGE_TOKENS, int RING> struct alignas(256) decode_warp_smem {
    uint8_t ring[RING][STAGE_TOKENS][ROW_BYTES];
    decode_work work;
};

#endif
