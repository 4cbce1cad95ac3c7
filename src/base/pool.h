/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that help those who call. A caller runs its task itself and opens it to helpers, which join as they come; all
 * draw their share from a counter of the task's own. So nobody waits for a helper that is not there: one that another
 * process keeps off its core, or that could not be started, is one hand less and no more. */
#ifndef POD_BASE_POOL_H
#define POD_BASE_POOL_H

#include "podattn.h"

typedef struct pod_pool pod_pool;

/** `thread` is 0 for the caller, and counts on in the order of joining. `scratch` is the thread's own. A task has to be
 * finished when it returns on the calling thread and on those that joined, however many did. */
typedef void pod_pool_task(void *context, int32_t thread, void *scratch);

/** Room for max_threads - 1 helpers, which start when they are first needed, and scratch for one caller; more callers
 * at the same time get more. `scratch_bytes` is a multiple of 64, to which scratch is aligned; 0: tasks get NULL.
 * POD_E_NO_MEMORY; then `*pool` is left alone. */
pod_status pod__pool_create(int32_t max_threads, size_t scratch_bytes, pod_pool **pool);

/** No call may be under way. NULL is allowed. */
void pod__pool_destroy(pod_pool *pool);

/** Runs the task on this thread and on up to num_threads - 1 helpers, and returns when all of them have. Any number of
 * threads may call at the same time, in a forked child as well. POD_E_NO_MEMORY if there is none for the caller's
 * scratch, which does not happen to one caller at a time, but in a child forked during a call; then nothing ran. A
 * thread cannot be cancelled meanwhile. */
pod_status pod__pool_run(pod_pool *pool, int32_t num_threads, pod_pool_task *task, void *context);

/** Cores that this process may use. */
int32_t pod__pool_num_cores(void);

#endif
