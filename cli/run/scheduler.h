/* SPDX-License-Identifier: Apache-2.0 */
/* Chunked-prefill scheduling as Sarathi-Serve does it: a step has a budget of tokens; every running decode takes one,
 * and what is left goes to chunks of prompts, first come, first served. A request is admitted only when pages for its
 * whole prompt and answer are free, so none is ever preempted. All requests wait from the beginning: arrival times are
 * not looked at.
 *
 * The token that ends a prefill is the answer's first; each decode step puts one token into the cache and makes the
 * next, so an answer of G tokens takes G - 1 of them. */
#ifndef CLI_SCHEDULER_H
#define CLI_SCHEDULER_H

#include "input/trace.h"
#include "podattn.h"

typedef struct scheduler_config {
    int32_t chunk_tokens; /**< budget of a step */
    int32_t max_batch;    /**< requests that run at the same time, at most chunk_tokens */
    int32_t page_size;
    int32_t num_pages; /**< of the KV cache */
    int64_t seed;      /**< of the order in which pages are dealt */
} scheduler_config;

/** A request that has been admitted. */
typedef struct running_request {
    int32_t prefill_tokens;
    int32_t final_tokens; /**< in the cache when it is finished */
    int32_t kv_len;       /**< in the cache after this step */
    int32_t q_len;        /**< of them new in this step */
    int32_t num_pages;
    int32_t *pages; /**< a row of the slots */
} running_request;

typedef struct scheduler {
    scheduler_config config;
    const trace *trace;
    int32_t next_request; /**< of the trace, to be admitted */
    int32_t num_running, num_finished;
    running_request *running; /**< [max_batch], in order of admission */
    int32_t *free_pages, num_free_pages;
    int32_t **free_slots, num_free_slots;
    int32_t *slots;    /**< [max_batch][max_pages] */
    int32_t max_pages; /**< of the longest request */

    /* The current step. */
    pod_batch batch; /**< longest queries first; points to what is below */
    pod_mask mask;   /**< causal; may be changed */
    int32_t *q_start, *kv_len, *page_table;
    int32_t *order;                        /**< this step's requests among the running ones */
    int64_t prefill_tokens, decode_tokens; /**< of this step */
} scheduler;

/** Tokens that a request reserves in the cache. */
static inline int32_t scheduler_tokens(const trace_request *request) {
    return request->prefill_tokens + request->decode_tokens;
}

/** Whether it ends with the current step. */
static inline int scheduler_is_finished(const running_request *running) {
    return running->kv_len == running->final_tokens;
}

/** Bytes that scheduler_make() takes. */
double scheduler_bytes(const scheduler_config *config, int32_t max_tokens);

/** Every request of the trace must fit the cache, and `max_tokens` is the longest. Free it also on error. */
cli_exit scheduler_make(const scheduler_config *config, const trace *trace, int32_t max_tokens, scheduler *made,
                        cli_error *error);
void scheduler_free(scheduler *scheduler);

/** Forms the next step. Returns 0 when all requests are finished. */
int scheduler_next(scheduler *scheduler);

/** Whether the current step is the last. */
int scheduler_is_last(const scheduler *scheduler);

#endif
