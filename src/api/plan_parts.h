/* SPDX-License-Identifier: Apache-2.0 */
/* Whose plan was built last in which memory. A plan part of a workspace is one plan's; the host cannot see in a GPU's
 * memory that another plan was built there, so it keeps a list. */
#ifndef POD_API_PLAN_PARTS_H
#define POD_API_PLAN_PARTS_H

#include "backend/backend.h"

/** Into the list (POD_E_NO_MEMORY), and out of it. */
pod_status pod__plan_parts_add(pod_plan *plan);
void pod__plan_parts_remove(pod_plan *plan);

/** Gives a plan its workspace. */
void pod__plan_parts_attach(pod_plan *plan, const pod_workspace *workspace);

/** The plan is about to be built: every other one whose plan part shares a byte with its own is overwritten. */
void pod__plan_parts_claim(pod_plan *plan);

/** POD_E_WORKSPACE if another plan was built there since this one. */
pod_status pod__plan_parts_check(const pod_plan *plan);

#endif
