/* SPDX-License-Identifier: Apache-2.0 */
/* Plans as another device would, and computes nothing: for looking at schedules on any machine. */
#include "backend/backend.h"
#include "base/status.h"
#include "families/families.h"
#include "families/tilings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum sim_family { SIM_CPU, SIM_SM80, SIM_SM90 } sim_family;

typedef struct sim_device {
    pod_device base;
    sim_family family;
    int32_t num_sms;
    char target[32];
} sim_device;

static pod_tiling family_tiling(sim_family family, int32_t num_sms) {
    if (family == SIM_CPU) return pod__tiling_cpu();
    return family == SIM_SM80 ? pod__tiling_sm80(num_sms) : pod__tiling_sm90(num_sms);
}

static pod_status sim_check_limits(const pod_device *device, const pod_limits *limits) {
    (void)device;
    (void)limits;
    return POD_OK;
}

/** As the GPU would: what sm90's kernels do not take goes to sm80's. */
static sim_family choose_family(const sim_device *sim, const pod_limits *limits) {
    int is_refused = sim->family == SIM_SM90 && !pod__sm90_takes(limits);
    return is_refused ? SIM_SM80 : sim->family;
}

static void sim_choose_tiling(const pod_device *device, const pod_limits *limits, pod_tiling *tiling) {
    const sim_device *sim = (const sim_device *)device;
    *tiling = family_tiling(choose_family(sim, limits), sim->num_sms);
}

static pod_status sim_check_call(const pod_call *call) {
    return pod__fail(POD_E_UNSUPPORTED, "device sim:%s plans only; it computes no attention",
                     ((const sim_device *)call->plan->device)->target);
}

static void sim_get_info(const pod_device *device, pod_device_info *info) {
    const sim_device *sim = (const sim_device *)device;
    snprintf(info->backend, sizeof info->backend, "sim");
    snprintf(info->name, sizeof info->name, "%s", sim->target);
    snprintf(info->kernel, sizeof info->kernel, "none");
    info->num_ctas = family_tiling(sim->family, sim->num_sms).num_ctas;
}

static void sim_describe_kernel(const pod_device *device, const pod_limits *limits, pod_plan_info *info) {
    static const char *const names[] = {[SIM_CPU] = "cpu", [SIM_SM80] = "sm80", [SIM_SM90] = "sm90"};
    const sim_device *sim = (const sim_device *)device;
    sim_family family = choose_family(sim, limits);
    snprintf(info->kernel, sizeof info->kernel, "%s", names[family]);
    if (family != sim->family) pod__sm90_note(limits, info->kernel_note, sizeof info->kernel_note);
}

static void sim_close(pod_device *device) {
    free(device);
}

static const pod_backend sim_backend = {
    .check_limits = sim_check_limits,
    .choose_tiling = sim_choose_tiling,
    .check_call = sim_check_call,
    .plan_build = NULL,
    .attention = sim_check_call,
    .get_info = sim_get_info,
    .describe_kernel = sim_describe_kernel,
    .close = sim_close,
};

/** What a target's name plays; "sms=N" is an H100 with N SMs. */
static pod_status find_target(const char *target, sim_device *sim) {
    static const struct {
        const char *name;
        sim_family family;
        int32_t num_sms;
    } targets[] = {
        {"h100", SIM_SM90, 132},
        {"h100,kernel=sm80", SIM_SM80, 132},
        {"a100", SIM_SM80, 108},
        {"cpu", SIM_CPU, 0},
    };
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        if (strcmp(target, targets[i].name) != 0) continue;
        sim->family = targets[i].family;
        sim->num_sms = targets[i].num_sms;
        return POD_OK;
    }
    if (strncmp(target, "sms=", 4) == 0 && target[4] >= '0' && target[4] <= '9') {
        char *end;
        errno = 0;
        long sms = strtol(target + 4, &end, 10);
        if (*end == '\0' && errno == 0 && sms >= 1 && sms <= 1024) {
            sim->family = SIM_SM90;
            sim->num_sms = (int32_t)sms;
            return POD_OK;
        }
    }
    return pod__fail(POD_E_ARGUMENT,
                     "sim target \"%.32s\" is none of h100, h100,kernel=sm80, a100, cpu, sms=N (N from 1 to 1024)",
                     target);
}

pod_status pod__sim_open(const char *argument, pod_device **device) {
    sim_device found = {.base.backend = &sim_backend};
    POD_TRY(find_target(argument, &found));
    sim_device *sim = malloc(sizeof *sim);
    if (sim == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for a device");
    *sim = found;
    snprintf(sim->target, sizeof sim->target, "%s", argument);
    *device = &sim->base;
    return POD_OK;
}
