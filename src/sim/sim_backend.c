/* SPDX-License-Identifier: Apache-2.0 */
/* Plans as another device would, and computes nothing: for looking at schedules on any machine. */
#include "backend/backend.h"
#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_SMS = 1024 };

typedef struct sim_device {
    pod_device base;
    int is_cpu;
    pod_chip chip; /**< without meaning if is_cpu, as are the options */
    pod_gpu_options options;
    char target[64]; /**< as it was asked for */
} sim_device;

/** The chips that it plays. */
typedef struct sim_chip {
    const char *name;
    int32_t capability, num_sms, has_tensor_maps;
    int32_t sm_smem_bytes, cta_smem_bytes; /**< shared memory of an SM, and what one CTA may have of it */
} sim_chip;

static const sim_chip h100 = {"h100", 90, 132, 1, 233472, 232448};
static const sim_chip a100 = {"a100", 80, 108, 1, 167936, 166912};

static pod_status sim_choose(const pod_device *device, const pod_limits *limits, pod_choice *choice) {
    const sim_device *sim = (const sim_device *)device;
    if (sim->is_cpu) return pod__choose_cpu("cpu", limits, choice);
    return pod__choose_kernel(&sim->chip, &sim->options, limits, choice);
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
    info->num_ctas = pod__cpu_tiling().num_ctas;
    if (!sim->is_cpu) pod__chip_family(&sim->chip, &sim->options, &info->num_ctas);
}

static void sim_visit_kernels(const pod_device *device, int (*visit)(void *context, const pod_kernel_info *info),
                              void *context) {
    const sim_device *sim = (const sim_device *)device;
    if (!sim->is_cpu) {
        pod__chip_visit(&sim->chip, visit, context);
        return;
    }
    pod_kernel_info info = pod__family_kernel_info(&pod__family_cpu, 1);
    snprintf(info.name, sizeof info.name, "cpu");
    visit(context, &info);
}

static void sim_close(pod_device *device) {
    free(device);
}

static const pod_backend sim_backend = {
    .choose = sim_choose,
    .check_call = sim_check_call,
    .plan_build = NULL,
    .attention = sim_check_call,
    .get_info = sim_get_info,
    .visit_kernels = sim_visit_kernels,
    .close = sim_close,
};

static void describe(const sim_chip *chip, int32_t num_sms, sim_device *sim) {
    sim->chip.capability = chip->capability;
    sim->chip.num_sms = num_sms;
    sim->chip.has_tensor_maps = chip->has_tensor_maps;
    pod__chip_estimate(&sim->chip, chip->sm_smem_bytes, chip->cta_smem_bytes);
}

/** N of "sms=N", 0 if it is none. */
static int32_t parse_sms(const char *text, size_t length) {
    if (length < 5 || memcmp(text, "sms=", 4) != 0 || text[4] < '0' || text[4] > '9') return 0;
    char *end;
    errno = 0;
    long sms = strtol(text + 4, &end, 10);
    return end == text + length && errno == 0 && sms <= MAX_SMS ? (int32_t)sms : 0;
}

/** What a target's name plays, up to its first comma; "sms=N" is an H100 with N SMs. */
static pod_status find_target(const char *target, size_t length, sim_device *sim) {
    static const sim_chip *const chips[] = {&h100, &a100};
    sim->is_cpu = length == 3 && memcmp(target, "cpu", 3) == 0;
    if (sim->is_cpu) return POD_OK;
    for (size_t i = 0; i < sizeof chips / sizeof chips[0]; i++) {
        if (strlen(chips[i]->name) != length || memcmp(target, chips[i]->name, length) != 0) continue;
        describe(chips[i], chips[i]->num_sms, sim);
        return POD_OK;
    }
    int32_t num_sms = parse_sms(target, length);
    if (num_sms >= 1) {
        describe(&h100, num_sms, sim);
        return POD_OK;
    }
    return pod__fail(POD_E_ARGUMENT, "sim target \"%.*s\" is none of h100, a100, cpu, sms=N (N from 1 to %d)",
                     length < 32 ? (int)length : 32, target, MAX_SMS);
}

static pod_status find_device(const char *argument, sim_device *sim) {
    size_t length = strcspn(argument, ",");
    if (strlen(argument) >= sizeof sim->target) {
        return pod__fail(POD_E_ARGUMENT, "sim target \"%.32s...\" is longer than %zu characters", argument,
                         sizeof sim->target - 1);
    }
    snprintf(sim->target, sizeof sim->target, "%s", argument);
    POD_TRY(find_target(argument, length, sim));
    if (sim->is_cpu) {
        return argument[length] == '\0' ? POD_OK : pod__fail(POD_E_ARGUMENT, "sim:cpu takes no options");
    }
    POD_TRY(pod__gpu_options_parse(argument + length, &sim->options));
    return pod__check_chip(&sim->chip, &sim->options, sim->target);
}

pod_status pod__sim_open(const char *argument, pod_device **device) {
    sim_device found = {.base.backend = &sim_backend};
    POD_TRY(find_device(argument, &found));
    sim_device *sim = malloc(sizeof *sim);
    if (sim == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for a device");
    *sim = found;
    *device = &sim->base;
    return POD_OK;
}
