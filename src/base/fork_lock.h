/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of what a process keeps lists of: its plans, its virtual caches. A fork waits until no thread holds it,
 * since a child would find it locked for good. Held for a walk along a list, never while something is called that may
 * wait. */
#ifndef POD_BASE_FORK_LOCK_H
#define POD_BASE_FORK_LOCK_H

#include "base/status.h"

/** Before a list gets its first entry. POD_E_NO_MEMORY if the process cannot be told of forks. */
pod_status pod__fork_lock_open(void);

void pod__fork_lock(void);
void pod__fork_unlock(void);

#endif
