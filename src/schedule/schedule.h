/* SPDX-License-Identifier: Apache-2.0 */
/* The schedule's format: what a planner reads, and what it leaves in the workspace for the kernels. Nothing is computed
 * here; schedule_core.h has the arithmetic on it, planner.h makes it.
 *
 *   requests        each request's checked lengths
 *   prefill queue   row tile x KV part, longest first; a ticket is an entry and a KV head, or two heads that two
 *                   workers take side by side
 *   decode queue    all KV tiles of all decode work on one line (KV head, then request, then tile), cut into equal
 *                   slices (stream-K); a ticket is a slice */
#ifndef POD_SCHEDULE_H
#define POD_SCHEDULE_H

#include <stdint.h>

/* ---- what goes in ---- */

/** Candidates for how finely prefill is cut, at most. */
enum { POD_MAX_SHARES = 6 };

/** How CTAs that bind to one kind of work choose it. */
typedef enum pod_policy {
    POD_POLICY_PROPORTIONAL = 0, /**< an SM's tickets alternate in the ratio of the two queues' lengths */
    POD_POLICY_HALF = 1          /**< an SM's tickets alternate one to one: a baseline */
} pod_policy;

/** What the planner has to know of the kernel that will run the plan. */
typedef struct pod_tiling {
    int32_t num_ctas;            /**< workers that take tickets */
    int32_t num_prefill_ctas;    /**< workers that take prefill tickets while decode lasts about as long */
    int32_t num_lone_ctas;       /**< workers that take prefill tickets otherwise */
    int32_t prefill_tile_rows;   /**< query rows of a prefill tile */
    int32_t narrow_rows;         /**< a prefill tile of at most so many takes half of a worker; 0: none does */
    int32_t prefill_tile_tokens; /**< keys per step of a prefill tile */
    int32_t decode_rows;         /**< a request of at most so many rows is decode work */
    int32_t decode_tile_tokens;  /**< keys per step of decode work */
    int32_t max_slices;          /**< at least num_ctas */
    int32_t max_steady_slices;   /**< the same where there is at most one prefill item for each of num_prefill_ctas */
    int32_t min_slice_tiles;     /**< a slice is not made shorter than this once every CTA has one */
    int32_t part_cost_64ths;     /**< what joining a part of a decode takes, beside a decode tile */
    int32_t min_part_tiles;      /**< a part of a split prefill tile is not made shorter than this */
    int32_t keep_cost_16ths;     /**< what splitting a prefill tile takes, beside a prefill tile */
    int32_t join_cost_16ths;     /**< what joining a part of a prefill tile takes, beside a prefill tile */
    int32_t max_parts;           /**< of all split prefill tiles: the most shares that prefill is cut into, or more;
                                      twice as many where tiles may be narrow */
    int32_t partial_columns;     /**< of a row of a partial result; 0: v_head_dim */
    int32_t prefill_tile_cost;   /**< decode lasts longer than prefill where its tiles cost more; in any unit */
    int32_t decode_tile_cost;
    /** Candidates for the number of shares, in eighths of the CTAs that take prefill: beside decode, and without any.
     * The first 0 ends them. */
    int32_t shares_eighths[POD_MAX_SHARES], lone_shares_eighths[POD_MAX_SHARES];
} pod_tiling;

/** Bits of a word of a tree mask: requests of more query tokens have none. */
enum { POD_TREE_TOKENS = 64 };

/** The batch under one of its masks, as the planner sees it. */
typedef struct pod_shape {
    int32_t num_requests;
    int32_t group; /**< query heads per KV head */
    int32_t kv_heads;
    int32_t causal;
    int32_t window_tokens; /**< 0: no window */
    int32_t max_q_tokens;  /**< what a request may reach, for batches that nobody validated before */
    int32_t max_kv_len;
    int32_t right_window_tokens;       /**< 0: no window to the right */
    const int32_t *q_start;            /**< [num_requests + 1] */
    const int32_t *kv_len;             /**< [num_requests] */
    const int32_t *causal_per_request; /**< [num_requests] instead of `causal`, or NULL */
} pod_shape;

/* ---- what comes out ---- */

/** Cells for tickets per SM, more than any chip has SMs; %smid is taken modulo this. */
#define POD_MAX_SMS 1024

/** Why a request is not computed. */
enum {
    POD_REQUEST_OK = 0,
    POD_REQUEST_Q_START = 1, /**< q_start does not begin with 0, decreases, leaves [0, max_q_tokens] or overlaps:
                                nothing is written */
    POD_REQUEST_KV_LEN = 2,  /**< kv_len outside [0, max_kv_len], or < q_len if causal: zeros are written */
    POD_REQUEST_PAGE = 3     /**< a page number is out of range: zeros are written */
};

/** One request after checking; 16 bytes, one load. */
typedef struct pod_request {
    int32_t q_begin;
    int32_t q_len;
    int32_t kv_len;
    int16_t error;
    int16_t is_causal;
} pod_request;

/** Which KV heads an entry is for: all, one to a ticket; or, where narrow row tiles are worth it (planner.h), heads
 * come in pairs, a ticket to each: a narrow tile takes both at the same time, half of the worker each, and a wide one
 * is listed twice. */
typedef enum pod_entry_heads {
    POD_HEADS_ALL = 0,
    POD_HEADS_FIRST,  /**< of each pair, the first one */
    POD_HEADS_SECOND, /**< of each pair, the second one */
    POD_HEADS_BOTH    /**< narrow: of each pair both */
} pod_entry_heads;

/** A row tile of a prefill request against a range of KV tiles, for some KV heads; 32 bytes. */
typedef struct pod_prefill_entry {
    int32_t request;
    int32_t row_begin;
    int32_t tile_begin; /**< first KV tile; keys from tile_begin * prefill_tile_tokens */
    int32_t num_tiles;  /**< at least 1, also where no key is visible */
    int32_t part;
    int32_t num_parts; /**< 1: whole */
    int32_t slot;      /**< head h keeps part p in partial slot `slot + h * num_parts + p` */
    int32_t heads;     /**< a pod_entry_heads */
} pod_prefill_entry;

/** First bytes of the workspace. Tickets and counters are left at zero by the kernel when it ends. What kernels ask for
 * again and again is in the first 32 bytes, away from the tickets: an atomic takes its sector out of an SM's cache. */
typedef struct pod_schedule_header {
    int64_t
        num_prefill_steps; /**< of num_prefill_tiles, two heads' that one worker takes at the same time counted once */
    int32_t num_prefill_entries;
    int32_t heads_per_ticket; /**< of prefill: 1, or 2 where narrow tiles take pairs of heads */
    int32_t num_slices;
    int32_t num_decode_tiles; /**< tiles x KV heads over all decode work */
    int32_t num_requests;
    int32_t num_prefill_requests;
    uint64_t signature;        /**< of the limits that this workspace was laid out for */
    int64_t num_prefill_tiles; /**< tiles x KV heads over all prefill work */
    int32_t num_decode_requests;
    int32_t first_error; /**< lowest request with an error, or INT32_MAX */
    uint32_t prefill_ticket;
    uint32_t decode_ticket;
    uint32_t ctas_done;
    uint32_t reserved; /**< 0 */
} pod_schedule_header;

/** Where everything stands in the workspace. */
typedef struct pod_schedule {
    pod_schedule_header *header;
    pod_request *requests;           /**< [num_requests] */
    uint32_t *page_errors;           /**< [num_requests] 0, or 1 + the first bad entry of the page table; GPU only */
    int32_t *decode_begin;           /**< [num_requests + 1] first decode tile of each request within a head's line */
    int32_t *row_tile_begin;         /**< [num_requests + 1] first prefill row tile of each request; planner's own */
    pod_prefill_entry *entries;      /**< [num_prefill_entries], longest first */
    pod_prefill_entry *entries_temp; /**< planner's own */
    uint32_t *sm_tickets;            /**< [POD_MAX_SMS] CTAs that have arrived on each SM */
    uint32_t *slice_counters;        /**< [max_slices] finished parts of the work that continues behind this slice */
    uint32_t *part_counters;         /**< [max_parts] finished parts, at the first slot of a tile and head */
    float *decode_partial_out;       /**< [2 * max_slices][decode_rows][columns] */
    float *decode_partial_sum;       /**< [2 * max_slices][decode_rows][2] max, sum */
    float *prefill_partial_out;      /**< [max_parts][prefill_tile_rows][columns] */
    float *prefill_partial_sum;      /**< [max_parts][prefill_tile_rows][2] */
} pod_schedule;

#endif
