/* SPDX-License-Identifier: Apache-2.0 */
/* Which outputs are refused because writing them would change what is still to be read, or written twice. */
#ifndef POD_API_OVERLAP_H
#define POD_API_OVERLAP_H

#include "backend/backend.h"

/** POD_E_ARGUMENT, naming both, where out or lse overlaps itself, the other, an input or the workspace. Tensors and
 * cache were taken. */
pod_status pod__check_overlaps(const pod_plan *plan, const pod_tensors *tensors, const pod_cache *cache);

/** The same for an append, which writes the cache and q_out. The job was taken. */
pod_status pod__check_append_overlaps(const pod_plan *plan, const pod_append_job *job);

/** The same for a merge, whose outputs may be parts. They were taken. */
pod_status pod__check_merge_overlaps(const pod_parts *parts);

#endif
