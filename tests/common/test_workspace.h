/* SPDX-License-Identifier: Apache-2.0 */
/* A workspace on the host between guards: exactly as large as the library asks for. */
#ifndef POD_TEST_WORKSPACE_H
#define POD_TEST_WORKSPACE_H

#include "guarded.h"
#include "podattn.h"

typedef struct test_workspace {
    guarded plan, scratch;
    pod_workspace given; /**< for pod_plan_attach() */
} test_workspace;

/** Every byte is `fill`. POD_E_NO_MEMORY; otherwise as pod_workspace_size(). Free it also on error. */
pod_status test_workspace_make(const pod_device *device, const pod_limits *limits, int fill, test_workspace *made);
void test_workspace_free(test_workspace *workspace);

/** 1 if nothing around either part was written. */
int test_workspace_intact(const test_workspace *workspace);

/** 1 if every byte is still `fill`. */
int test_workspace_untouched(const test_workspace *workspace, int fill);

/** A plan with a workspace of its own attached. Free both also on error. */
pod_status test_workspace_plan(pod_device *device, const pod_limits *limits, int fill, test_workspace *workspace,
                               pod_plan **plan);

#endif
