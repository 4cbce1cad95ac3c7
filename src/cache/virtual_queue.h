/* SPDX-License-Identifier: Apache-2.0 */
/* Operations from the caller's thread to the cache's, one after the other, without a lock: each counter has one thread
 * that writes it. */
#ifndef POD_CACHE_VIRTUAL_QUEUE_H
#define POD_CACHE_VIRTUAL_QUEUE_H

#include "podattn.h"

#include <pthread.h>
#include <semaphore.h>

enum { POD_VIRTUAL_QUEUE_LENGTH = 1024, POD_VIRTUAL_MESSAGE_BYTES = 256 };

/** Unmaps `row` from one place, maps it at another, gives its pages back: each if it is asked for. */
typedef struct pod_virtual_operation {
    int32_t row;
    int32_t from, to; /**< numbers of places, -1: none */
    int32_t releases;
    pod_status status; /**< out: of what failed first; the rest was then not tried */
    char message[POD_VIRTUAL_MESSAGE_BYTES];
} pod_virtual_operation;

/** What the driver was asked for; written by the thread that asks it. */
typedef struct pod_virtual_counts {
    int64_t num_creates, num_releases, num_maps, num_unmaps, num_pages, most_pages, driver_ns;
} pod_virtual_counts;

typedef struct pod_virtual_queue {
    pod_virtual_operation *operations; /**< [POD_VIRTUAL_QUEUE_LENGTH] */
    int64_t num_queued;                /**< ever, written by the caller; operation n is in place n - 1 of the ring */
    int64_t num_done;                  /**< written by the thread */
    int64_t num_collected;
    int64_t awaited; /**< the caller sleeps until so many are done; INT64_MAX: it does not */
    int32_t is_closing, has_thread;
    int32_t is_idle; /**< the thread sleeps, or is about to */
    pthread_t thread;
    sem_t work, done;
    pod_virtual_counts counts;
} pod_virtual_queue;

/** Starts the thread, unless the config has none. POD_E_NO_MEMORY. */
pod_status pod__virtual_queue_start(pod_virtual_cache *cache);
/** Ends the thread after the operation that is under way; what is queued behind is not carried out. `is_child`: in a
 * forked child, which has no such thread. */
void pod__virtual_queue_stop(pod_virtual_cache *cache, int is_child);

/** Whether another operation has room. */
int pod__virtual_queue_has_room(const pod_virtual_cache *cache);
/** Queues one, for which there is room. Returns its number. */
int64_t pod__virtual_queue_add(pod_virtual_cache *cache, pod_virtual_operation operation);
/** Returns when operation `number` is done. */
void pod__virtual_queue_wait(pod_virtual_cache *cache, int64_t number);

static inline int64_t pod__virtual_queue_done(const pod_virtual_queue *queue) {
    return __atomic_load_n(&queue->num_done, __ATOMIC_ACQUIRE);
}

/** The ring's entry of operation `number`. */
static inline pod_virtual_operation *pod__virtual_queue_at(const pod_virtual_queue *queue, int64_t number) {
    return &queue->operations[(number - 1) % POD_VIRTUAL_QUEUE_LENGTH];
}

#endif
