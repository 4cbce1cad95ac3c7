/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fork_lock.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int error;

void pod__fork_lock(void) {
    pthread_mutex_lock(&mutex);
}

void pod__fork_unlock(void) {
    pthread_mutex_unlock(&mutex);
}

static void watch_forks(void) {
    error = pthread_atfork(pod__fork_lock, pod__fork_unlock, pod__fork_unlock);
}

pod_status pod__fork_lock_open(void) {
    pthread_once(&once, watch_forks);
    if (error != 0) return pod__fail(POD_E_NO_MEMORY, "no memory to be told of forks");
    return POD_OK;
}
