/* SPDX-License-Identifier: Apache-2.0 */
#include "run/scheduler.h"

#include "base/prng.h"
#include "input/batch_spec.h"

#include <stdlib.h>

/* ---- memory ---- */

double scheduler_bytes(const scheduler_config *config, int32_t max_tokens) {
    double row_bytes = sizeof(int32_t) * ((double)max_tokens / config->page_size + 1);
    double per_request = 2 * row_bytes + sizeof(running_request) + 2 * sizeof(void *) + 2 * sizeof(int32_t);
    return per_request * config->max_batch + (double)config->num_pages * sizeof(int32_t);
}

static void deal_pages(scheduler *scheduler) {
    pod_prng random = pod__prng_seed((uint64_t)scheduler->config.seed);
    pod__prng_permute(&random, scheduler->free_pages, scheduler->config.num_pages);
    scheduler->num_free_pages = scheduler->config.num_pages;
}

cli_exit scheduler_make(const scheduler_config *config, const trace *trace, int32_t max_tokens, scheduler *made,
                        cli_error *error) {
    *made = (scheduler){.config = *config, .trace = trace, .batch = pod_batch_init(), .mask = pod_mask_init()};
    made->mask.causal = 1;
    made->batch.num_masks = 1;
    made->batch.masks = &made->mask;
    size_t max_batch = (size_t)config->max_batch;
    made->max_pages = batch_pages(max_tokens, config->page_size);
    size_t table_entries = max_batch * (size_t)made->max_pages;
    made->running = malloc(max_batch * sizeof *made->running);
    made->order = malloc(max_batch * sizeof(int32_t));
    made->free_slots = malloc(max_batch * sizeof *made->free_slots);
    made->free_pages = calloc((size_t)config->num_pages, sizeof(int32_t));
    made->slots = malloc(table_entries * sizeof(int32_t));
    made->page_table = malloc(table_entries * sizeof(int32_t));
    made->q_start = malloc((max_batch + 1) * sizeof(int32_t));
    made->kv_len = malloc(max_batch * sizeof(int32_t));
    if (made->running == NULL || made->order == NULL || made->free_slots == NULL || made->free_pages == NULL ||
        made->slots == NULL || made->page_table == NULL || made->q_start == NULL || made->kv_len == NULL) {
        return cli_fail_memory(error);
    }
    deal_pages(made);
    for (size_t i = 0; i < max_batch; i++) made->free_slots[i] = made->slots + i * (size_t)made->max_pages;
    made->num_free_slots = config->max_batch;
    made->batch.q_start = made->q_start;
    made->batch.kv_len = made->kv_len;
    made->batch.page_table = made->page_table;
    made->batch.page_table_stride = made->batch.max_pages = made->max_pages;
    made->batch.num_pages = config->num_pages;
    return CLI_OK;
}

void scheduler_free(scheduler *scheduler) {
    free(scheduler->running);
    free(scheduler->order);
    free(scheduler->free_slots);
    free(scheduler->free_pages);
    free(scheduler->slots);
    free(scheduler->page_table);
    free(scheduler->q_start);
    free(scheduler->kv_len);
}

/* ---- one step ---- */

/** Gives back what the requests that the last step finished had. */
static void retire(scheduler *scheduler) {
    int32_t kept = 0;
    for (int32_t i = 0; i < scheduler->num_running; i++) {
        running_request *running = &scheduler->running[i];
        if (!scheduler_is_finished(running)) {
            scheduler->running[kept++] = *running;
            continue;
        }
        for (int32_t p = 0; p < running->num_pages; p++) {
            scheduler->free_pages[scheduler->num_free_pages++] = running->pages[p];
        }
        scheduler->free_slots[scheduler->num_free_slots++] = running->pages;
    }
    scheduler->num_running = kept;
}

/** Decodes first, then what is left of prompts; returns the budget that remains. */
static int32_t serve_running(scheduler *scheduler) {
    int32_t budget = scheduler->config.chunk_tokens;
    for (int32_t i = 0; i < scheduler->num_running; i++) {
        running_request *running = &scheduler->running[i];
        running->q_len = running->kv_len >= running->prefill_tokens;
        budget -= running->q_len;
    }
    for (int32_t i = 0; i < scheduler->num_running; i++) {
        running_request *running = &scheduler->running[i];
        int32_t left = running->prefill_tokens - running->kv_len;
        if (left <= 0) continue;
        running->q_len = left < budget ? left : budget;
        budget -= running->q_len;
    }
    return budget;
}

/** Takes the next request of the trace in, if there is room, with a first chunk of at most `budget`. Returns the chunk,
 * 0 if it was not admitted. */
static int32_t admit(scheduler *scheduler, int32_t budget) {
    if (budget == 0 || scheduler->next_request == scheduler->trace->num_requests) return 0;
    if (scheduler->num_running == scheduler->config.max_batch) return 0;
    const trace_request *request = &scheduler->trace->requests[scheduler->next_request];
    int32_t num_pages = batch_pages(scheduler_tokens(request), scheduler->config.page_size);
    if (num_pages > scheduler->num_free_pages) return 0;
    running_request *running = &scheduler->running[scheduler->num_running++];
    *running = (running_request){.prefill_tokens = request->prefill_tokens,
                                 .final_tokens = request->prefill_tokens,
                                 .num_pages = num_pages,
                                 .pages = scheduler->free_slots[--scheduler->num_free_slots]};
    if (request->decode_tokens > 1) running->final_tokens += request->decode_tokens - 1;
    for (int32_t p = 0; p < num_pages; p++) running->pages[p] = scheduler->free_pages[--scheduler->num_free_pages];
    running->q_len = request->prefill_tokens < budget ? request->prefill_tokens : budget;
    scheduler->next_request++;
    return running->q_len;
}

/** Orders this step's requests by q_len, longest first; equals stay in order of admission. */
static int32_t order_requests(scheduler *scheduler) {
    int32_t count = 0;
    for (int32_t i = 0; i < scheduler->num_running; i++) {
        running_request *running = &scheduler->running[i];
        if (running->q_len == 0) continue;
        int32_t at = count++;
        for (; at > 0 && scheduler->running[scheduler->order[at - 1]].q_len < running->q_len; at--) {
            scheduler->order[at] = scheduler->order[at - 1];
        }
        scheduler->order[at] = i;
    }
    return count;
}

/** Counts this step's tokens as being in the cache, and writes the batch's arrays. */
static void fill_batch(scheduler *scheduler, int32_t num_requests) {
    scheduler->prefill_tokens = scheduler->decode_tokens = 0;
    scheduler->batch.num_requests = num_requests;
    scheduler->q_start[0] = 0;
    for (int32_t r = 0; r < num_requests; r++) {
        running_request *running = &scheduler->running[scheduler->order[r]];
        if (running->kv_len >= running->prefill_tokens) {
            scheduler->decode_tokens += running->q_len;
        } else {
            scheduler->prefill_tokens += running->q_len;
        }
        running->kv_len += running->q_len;
        scheduler->num_finished += scheduler_is_finished(running);
        scheduler->q_start[r + 1] = scheduler->q_start[r] + running->q_len;
        scheduler->kv_len[r] = running->kv_len;
        memcpy(scheduler->page_table + (int64_t)r * scheduler->max_pages, running->pages,
               (size_t)running->num_pages * sizeof(int32_t));
    }
}

int scheduler_next(scheduler *scheduler) {
    retire(scheduler);
    int32_t budget = serve_running(scheduler), chunk;
    while ((chunk = admit(scheduler, budget)) > 0) budget -= chunk;
    int32_t num_requests = order_requests(scheduler);
    fill_batch(scheduler, num_requests);
    return num_requests > 0;
}

int scheduler_is_last(const scheduler *scheduler) {
    return scheduler->num_finished == scheduler->trace->num_requests;
}
