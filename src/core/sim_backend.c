/* SPDX-License-Identifier: Apache-2.0 */
/* Plans as another device would, and computes nothing: for looking at schedules on any machine. */
#include "backend.h"
#include "status.h"
#include "tilings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct sim_device {
    pod_device base;
    pod_tiling tiling;
    char target[32];
} sim_device;

static pod_status sim_check_limits(const pod_device *device, const pod_limits *limits) {
    (void)device;
    (void)limits;
    return POD_OK;
}

static void sim_choose_tiling(const pod_device *device, const pod_limits *limits, pod_tiling *tiling) {
    (void)limits;
    *tiling = ((const sim_device *)device)->tiling;
}

static pod_status sim_check_tensors(const pod_device *device, const pod_limits *limits, const pod_tensors *tensors) {
    (void)limits;
    (void)tensors;
    return pod__fail(POD_E_UNSUPPORTED, "device sim:%s plans only; it computes no attention",
                     ((const sim_device *)device)->target);
}

static pod_status sim_attention(const pod_plan *plan, const pod_tensors *tensors, pod_stream stream) {
    (void)stream;
    return sim_check_tensors(plan->device, &plan->limits, tensors);
}

static void sim_get_info(const pod_device *device, pod_device_info *info) {
    const sim_device *sim = (const sim_device *)device;
    snprintf(info->backend, sizeof info->backend, "sim");
    snprintf(info->name, sizeof info->name, "%s", sim->target);
    snprintf(info->kernel, sizeof info->kernel, "none");
    info->num_ctas = sim->tiling.num_ctas;
}

static void sim_close(pod_device *device) {
    free(device);
}

static const pod_backend sim_backend = {
    .check_limits = sim_check_limits,
    .choose_tiling = sim_choose_tiling,
    .check_tensors = sim_check_tensors,
    .plan_build = NULL,
    .attention = sim_attention,
    .get_info = sim_get_info,
    .close = sim_close,
};

/** The tiling of a target's name; "sms=N" is an H100's with N SMs. */
static pod_status find_tiling(const char *target, pod_tiling *tiling) {
    if (strcmp(target, "h100") == 0) {
        *tiling = pod__tiling_sm90(132);
        return POD_OK;
    }
    if (strcmp(target, "a100") == 0) {
        *tiling = pod__tiling_sm80(108);
        return POD_OK;
    }
    if (strcmp(target, "cpu") == 0) {
        *tiling = pod__tiling_cpu();
        return POD_OK;
    }
    if (strncmp(target, "sms=", 4) == 0 && target[4] >= '0' && target[4] <= '9') {
        char *end;
        errno = 0;
        long sms = strtol(target + 4, &end, 10);
        if (*end == '\0' && errno == 0 && sms >= 1 && sms <= 1024) {
            *tiling = pod__tiling_sm90((int32_t)sms);
            return POD_OK;
        }
    }
    return pod__fail(POD_E_ARGUMENT, "sim target \"%.32s\" is none of h100, a100, cpu, sms=N (N from 1 to 1024)",
                     target);
}

pod_status pod__sim_open(const char *argument, pod_device **device) {
    pod_tiling tiling;
    POD_TRY(find_tiling(argument, &tiling));
    sim_device *sim = calloc(1, sizeof *sim);
    if (sim == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for a device");
    sim->base.backend = &sim_backend;
    sim->tiling = tiling;
    snprintf(sim->target, sizeof sim->target, "%s", argument);
    *device = &sim->base;
    return POD_OK;
}
