/* SPDX-License-Identifier: Apache-2.0 */
/* The books of a virtual cache. A *slot* is the address range of one request: page r of the layers' caches. It is cut
 * into *places* of page_bytes, the same in every tensor. A *row* is one physical page for each tensor; it is mapped
 * under a place in all of them, or under several places, of requests that share it.
 *
 * The caller's thread decides and keeps the books; what it decided is queued, and carried out by the cache's thread in
 * the same order. While an operation is under way for a place, what the driver's side of the books says of it (steps,
 * num_created, pages) belongs to that thread. */
#ifndef POD_CACHE_VIRTUAL_CACHE_H
#define POD_CACHE_VIRTUAL_CACHE_H

#include "cache/memory_provider.h"
#include "cache/virtual_queue.h"

#include <unistd.h>

typedef struct pod_virtual_place {
    int32_t row;       /**< 0: none */
    int32_t steps;     /**< of mapping it that were done: two for each tensor, map and allow */
    int64_t under_way; /**< the last operation that changes it, 0: none */
} pod_virtual_place;

typedef struct pod_virtual_row {
    int32_t num_refs;    /**< places that have it */
    int32_t num_created; /**< of its pages */
    int32_t next;        /**< in the list of spare or of unborn ones, 0: the last */
    int32_t mark;        /**< of the statistics that counted it last */
} pod_virtual_row;

typedef struct pod_virtual_slot {
    int32_t generation; /**< of the request that has it or had it last */
    int32_t is_open;
    int32_t may_share; /**< some of its rows may have other places, too */
    int32_t kv_len;
    int32_t num_rows, end_row; /**< places with a row; behind the last of them */
    int32_t ready_rows;        /**< at its beginning, that were found mapped */
    int32_t read_rows;         /**< that steps of this request may have read */
    int32_t wanted_rows;       /**< by the ensure that is under way */
    int64_t last_step;         /**< that read it; of closed requests too */
    int64_t earlier_step;      /**< the last that read it for an earlier request */
    int64_t closed_at;         /**< in the order of closing */
    int64_t named_by;          /**< the last ensure that named it */
} pod_virtual_slot;

struct pod_virtual_cache {
    pod_memory_provider provider;
    pod_virtual_config config; /**< defaults filled in */
    pod_virtual_info info;
    pid_t process;
    int32_t places_per_slot;
    int32_t full_steps; /**< of a place that is mapped */
    int32_t max_rows;   /**< that the limit allows */

    pod_virtual_slot *slots;   /**< [max_requests] */
    pod_virtual_place *places; /**< [max_requests][places_per_slot] */
    pod_virtual_row *rows;     /**< [1 + max_rows]; 0 is none */
    uint64_t *pages;           /**< [1 + max_rows][num_tensors] */
    int32_t spare_rows;        /**< with pages, mapped nowhere */
    int32_t unborn_rows;       /**< without */
    int32_t num_born;          /**< rows that were ever taken: those behind are unborn, too */
    int32_t num_alive;         /**< rows with pages, or about to get some */
    int32_t last_mark;

    int32_t num_open;
    int32_t num_draining; /**< closed slots that may share rows */
    int64_t step, finished_step, num_closed, num_calls;
    struct {
        pod_status status;
        char message[POD_VIRTUAL_MESSAGE_BYTES];
    } failed;                /**< the first that did for a request that the last ensure named; POD_OK: none */
    pod_virtual_stats stats; /**< what the caller's thread counts */
    pod_virtual_queue queue;

    pod_virtual_cache *next; /**< of all caches */
};

/* ---- virtual_cache.c ---- */

/** The provider becomes the cache's, on error as well. `*config` was validated. */
pod_status pod__virtual_create(const pod_memory_provider *provider, const pod_virtual_config *config,
                               pod_virtual_cache **cache);
void pod__virtual_destroy(pod_virtual_cache *cache);
void pod__virtual_get_layer(const pod_virtual_cache *cache, int32_t layer, pod_cache *made);
/** Whose ranges an address is of, mapped or not: pod_memory_provider.gpu of the cache; -1 if it is of none. */
int32_t pod__virtual_find_gpu(const void *address);

/* ---- virtual_requests.c ---- */

pod_status pod__virtual_open(pod_virtual_cache *cache, int64_t *request);
pod_status pod__virtual_fork(pod_virtual_cache *cache, int64_t parent, int32_t num_tokens, pod_stream stream,
                             int64_t *request);
pod_status pod__virtual_close(pod_virtual_cache *cache, int64_t request);
/** The slot of an open request; POD_E_ARGUMENT that names `field`. */
pod_status pod__virtual_find(pod_virtual_cache *cache, const char *field, int32_t index, int64_t request,
                             int32_t *slot);

/* ---- virtual_steps.c ---- */

pod_status pod__virtual_expect(pod_virtual_cache *cache, int32_t num_requests, const int64_t *requests,
                               const int32_t *kv_len);
pod_status pod__virtual_ensure(pod_virtual_cache *cache, int64_t step, int32_t num_requests, const int64_t *requests,
                               const int32_t *kv_len);
pod_status pod__virtual_finished(pod_virtual_cache *cache, int64_t step);
pod_status pod__virtual_trim(pod_virtual_cache *cache, int64_t bytes, int64_t *freed_bytes);

/* ---- virtual_stats.c ---- */

void pod__virtual_get_stats(pod_virtual_cache *cache, pod_virtual_stats *stats);

/* ---- virtual_rows.c ---- */

/** Who may be asked for a row. */
typedef enum pod_virtual_need {
    POD_VIRTUAL_HINT, /**< spare ones, closed requests, the system */
    POD_VIRTUAL_NEED  /**< also rows of open requests that do not need them yet */
} pod_virtual_need;

static inline pod_virtual_place *pod__virtual_place(const pod_virtual_cache *cache, int32_t slot, int32_t index) {
    return &cache->places[(int64_t)slot * cache->places_per_slot + index];
}

static inline int pod__virtual_is_mapped(const pod_virtual_cache *cache, const pod_virtual_place *place) {
    return place->row != 0 && place->under_way == 0 && place->steps == cache->full_steps;
}

/** Places that a request of this length needs. */
int32_t pod__virtual_rows_of(const pod_virtual_cache *cache, int32_t kv_len);
/** Queues what maps a place that has no row, or only a part of one. 0: there is no row, or no room in the queue. */
int pod__virtual_map_place(pod_virtual_cache *cache, int32_t slot, int32_t index, pod_virtual_need need);
/** Queues the mapping of another place's row, which is mapped there. */
void pod__virtual_share_place(pod_virtual_cache *cache, int32_t slot, int32_t index, int32_t row);
/** Queues the unmapping of a place that has a row and no operation under way. */
void pod__virtual_unmap_place(pod_virtual_cache *cache, int32_t slot, int32_t index, int releases);
/** Queues the return of one row to the system. 0: there is none that could go, or no room in the queue. */
int pod__virtual_release_row(pod_virtual_cache *cache);
/** Unmaps what closed requests share, where no step may read it. */
void pod__virtual_drain(pod_virtual_cache *cache);
/** Whether rows of the slot have other places, too. */
int pod__virtual_shares(const pod_virtual_cache *cache, int32_t slot);

/** Enters what was carried out since. */
void pod__virtual_collect(pod_virtual_cache *cache);
/** Waits until operation `number` was carried out, and collects. Returns whether it had to wait. */
int pod__virtual_wait(pod_virtual_cache *cache, int64_t number);
static inline int64_t pod__virtual_last_operation(const pod_virtual_cache *cache) {
    return cache->queue.num_queued;
}

/* ---- virtual_driver.c ---- */

/** Carries an operation out. The only calls of the driver between create and destroy, but for copies. */
void pod__virtual_carry_out(pod_virtual_cache *cache, pod_virtual_operation *operation);

#endif
