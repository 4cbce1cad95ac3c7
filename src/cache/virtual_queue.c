/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/virtual_queue.h"

#include "base/status.h"
#include "cache/virtual_cache.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

enum { STACK_BYTES = 512 << 10 }; /* the driver's calls are made on it */

/* ---- the thread ---- */

static void sleep_on(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0 && errno == EINTR) {
    }
}

static void carry_out_next(pod_virtual_cache *cache) {
    pod_virtual_queue *queue = &cache->queue;
    int64_t number = queue->num_done + 1;
    pod__virtual_carry_out(cache, pod__virtual_queue_at(queue, number));
    /* Sequentially consistent, as what the caller does: one of the two sees the other. */
    __atomic_store_n(&queue->num_done, number, __ATOMIC_SEQ_CST);
}

static void wake_caller(pod_virtual_queue *queue) {
    int64_t awaited = __atomic_load_n(&queue->awaited, __ATOMIC_SEQ_CST);
    if (queue->num_done < awaited) return;
    if (__atomic_compare_exchange_n(&queue->awaited, &awaited, INT64_MAX, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        sem_post(&queue->done);
}

/** Returns when there is something to do. The caller wakes a thread that sleeps, once, and no other: that takes a call
 * of the system. */
static void wait_for_work(pod_virtual_queue *queue) {
    __atomic_store_n(&queue->is_idle, 1, __ATOMIC_SEQ_CST);
    int32_t expected = 1;
    int has_work = __atomic_load_n(&queue->num_queued, __ATOMIC_SEQ_CST) > queue->num_done;
    has_work |= __atomic_load_n(&queue->is_closing, __ATOMIC_SEQ_CST);
    /* If the caller took the flag first, its post has to be taken, too. */
    if (has_work && __atomic_compare_exchange_n(&queue->is_idle, &expected, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
    sleep_on(&queue->work);
}

static void wake_thread(pod_virtual_queue *queue) {
    int32_t expected = 1;
    if (__atomic_compare_exchange_n(&queue->is_idle, &expected, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        sem_post(&queue->work);
}

static void *work(void *argument) {
    pod_virtual_cache *cache = argument;
    pod_virtual_queue *queue = &cache->queue;
    while (!__atomic_load_n(&queue->is_closing, __ATOMIC_ACQUIRE)) {
        if (__atomic_load_n(&queue->num_queued, __ATOMIC_ACQUIRE) == queue->num_done) {
            wait_for_work(queue);
            continue;
        }
        carry_out_next(cache);
        wake_caller(queue);
    }
    return NULL;
}

/** Signals are for the program's own threads, but for those that a thread causes itself. */
static int start_thread(pod_virtual_cache *cache) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    pthread_attr_t attributes;
    sigset_t blocked, before;
    if (pthread_attr_init(&attributes) != 0) return 0;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    int error = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (error == 0) error = pthread_create(&cache->queue.thread, &attributes, work, cache);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

pod_status pod__virtual_queue_start(pod_virtual_cache *cache) {
    pod_virtual_queue *queue = &cache->queue;
    queue->awaited = INT64_MAX;
    queue->operations = malloc(POD_VIRTUAL_QUEUE_LENGTH * sizeof *queue->operations);
    if (queue->operations == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for the queue of a virtual cache");
    if (cache->config.has_no_thread) return POD_OK;
    sem_init(&queue->work, 0, 0);
    sem_init(&queue->done, 0, 0);
    if (!start_thread(cache)) return pod__fail(POD_E_NO_MEMORY, "the system gives no thread for a virtual cache");
    queue->has_thread = 1;
    return POD_OK;
}

void pod__virtual_queue_stop(pod_virtual_cache *cache, int is_child) {
    pod_virtual_queue *queue = &cache->queue;
    if (queue->has_thread && !is_child) {
        __atomic_store_n(&queue->is_closing, 1, __ATOMIC_SEQ_CST);
        wake_thread(queue);
        pthread_join(queue->thread, NULL);
        sem_destroy(&queue->work);
        sem_destroy(&queue->done);
    }
    free(queue->operations);
}

/* ---- the caller ---- */

int pod__virtual_queue_has_room(const pod_virtual_cache *cache) {
    return cache->queue.num_queued - cache->queue.num_collected < POD_VIRTUAL_QUEUE_LENGTH;
}

int64_t pod__virtual_queue_add(pod_virtual_cache *cache, pod_virtual_operation operation) {
    pod_virtual_queue *queue = &cache->queue;
    int64_t number = queue->num_queued + 1;
    pod_virtual_operation *entry = pod__virtual_queue_at(queue, number);
    entry->row = operation.row;
    entry->from = operation.from;
    entry->to = operation.to;
    entry->releases = operation.releases;
    entry->status = POD_OK;
    __atomic_store_n(&queue->num_queued, number, __ATOMIC_SEQ_CST);
    if (queue->has_thread) wake_thread(queue);
    return number;
}

void pod__virtual_queue_wait(pod_virtual_cache *cache, int64_t number) {
    pod_virtual_queue *queue = &cache->queue;
    if (!queue->has_thread) {
        while (queue->num_done < number) carry_out_next(cache);
        return;
    }
    while (pod__virtual_queue_done(queue) < number) {
        __atomic_store_n(&queue->awaited, number, __ATOMIC_SEQ_CST);
        int64_t expected = number;
        int is_done = __atomic_load_n(&queue->num_done, __ATOMIC_SEQ_CST) >= number;
        /* If the thread took the number first, its post has to be taken, too. */
        if (is_done &&
            __atomic_compare_exchange_n(&queue->awaited, &expected, INT64_MAX, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return;
        sleep_on(&queue->done);
    }
}
