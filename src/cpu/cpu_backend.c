/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU as a device: opened with a number of threads, executes plans that the core made on the host. */
#include "base/status.h"
#include "cpu/cpu_kernels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static pod_status cpu_choose(const pod_device *device, const pod_limits *limits, pod_choice *choice) {
    return pod__choose_cpu(((const cpu_device *)device)->kernels->name, limits, choice);
}

static pod_status cpu_check_call(const pod_call *call) {
    (void)call;
    return POD_OK; /* it can do everything that a call can ask for */
}

static pod_status cpu_attention(const pod_call *call) {
    return pod__cpu_attention((const cpu_device *)call->plan->device, call);
}

static pod_status cpu_check_append(const pod_append_job *job) {
    (void)job;
    return POD_OK;
}

static pod_status cpu_append(const pod_device *device, const pod_append_job *job, pod_stream stream) {
    (void)stream;
    return pod__cpu_append((const cpu_device *)device, job);
}

static pod_status cpu_merge(const pod_device *device, const pod_parts *parts, pod_stream stream) {
    (void)stream;
    return pod__cpu_merge((const cpu_device *)device, parts);
}

/** The processor's own name, or "unknown processor". */
static void read_cpu_name(char *name, size_t size) {
    snprintf(name, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL) return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "model name", 10) != 0) continue;
        const char *value = strchr(line, ':');
        if (value == NULL) break;
        value += strspn(value, ": \t");
        snprintf(name, size, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    fclose(file);
}

static void cpu_get_info(const pod_device *device, pod_device_info *info) {
    const cpu_device *cpu = (const cpu_device *)device;
    snprintf(info->backend, sizeof info->backend, "cpu");
    read_cpu_name(info->name, sizeof info->name);
    snprintf(info->kernel, sizeof info->kernel, "%s", cpu->kernels->name);
    info->num_ctas = pod__cpu_tiling().num_ctas;
    info->num_threads = cpu->num_threads;
}

static void cpu_visit_kernels(const pod_device *device, int (*visit)(void *context, const pod_kernel_info *info),
                              void *context) {
    (void)device;
    const cpu_kernels *kernels;
    for (int32_t i = 0; pod__cpu_kernels_at(i, &kernels); i++) {
        if (kernels == NULL) continue;
        pod_kernel_info info = pod__family_kernel_info(&pod__family_cpu, 1);
        snprintf(info.name, sizeof info.name, "%s", kernels->name);
        snprintf(info.options, sizeof info.options, "isa=%s", kernels->name);
        if (visit(context, &info) != 0) return;
    }
}

static pod_status cpu_measure_peak(const pod_device *device, pod_device_peak *peak) {
    return pod__cpu_measure_peak((const cpu_device *)device, peak);
}

static void cpu_close(pod_device *device) {
    pod__pool_destroy(((cpu_device *)device)->pool);
    free(device);
}

static pod_status cpu_open_memory(pod_device *device, pod_memory_provider *provider) {
    (void)device;
    return pod__host_provider_open(provider);
}

static const pod_backend cpu_backend = {
    .choose = cpu_choose,
    .check_call = cpu_check_call,
    .attention = cpu_attention,
    .check_append = cpu_check_append,
    .append = cpu_append,
    .merge = cpu_merge,
    .get_info = cpu_get_info,
    .visit_kernels = cpu_visit_kernels,
    .measure_peak = cpu_measure_peak,
    .open_memory = cpu_open_memory,
    .close = cpu_close,
};

/** "", "N", "isa=NAME" or "N,isa=NAME". */
static pod_status parse_argument(const char *argument, int32_t *num_threads, const char **isa) {
    const char *rest = argument;
    if (*rest != '\0' && strncmp(rest, "isa=", 4) != 0) {
        char *end;
        errno = 0;
        long threads = *rest >= '0' && *rest <= '9' ? strtol(rest, &end, 10) : 0;
        if (threads < 1 || threads > CPU_MAX_THREADS || errno != 0 || (*end != '\0' && *end != ',')) {
            return pod__fail(POD_E_ARGUMENT, "cpu threads \"%.32s\" is no number from 1 to %d", argument,
                             CPU_MAX_THREADS);
        }
        *num_threads = (int32_t)threads;
        rest = end + (*end == ',');
        if (*end == '\0') return POD_OK;
    }
    if (*rest == '\0' && rest == argument) return POD_OK;
    if (strncmp(rest, "isa=", 4) != 0 || rest[4] == '\0') {
        return pod__fail(POD_E_ARGUMENT, "cpu option \"%.32s\" is not isa=NAME", rest);
    }
    *isa = rest + 4;
    return POD_OK;
}

pod_status pod__cpu_open(const char *argument, pod_device **device) {
    int32_t num_threads = pod_core_min(pod__pool_num_cores(), CPU_MAX_THREADS);
    const char *isa = "";
    const cpu_kernels *kernels;
    POD_TRY(parse_argument(argument, &num_threads, &isa));
    POD_TRY(pod__cpu_kernels_find(isa, &kernels));
    cpu_device *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for a device");
    pod_status status = pod__pool_create(num_threads, sizeof(cpu_scratch), &cpu->pool);
    if (status != POD_OK) {
        free(cpu);
        return status;
    }
    cpu->base.backend = &cpu_backend;
    cpu->kernels = kernels;
    cpu->num_threads = num_threads;
    *device = &cpu->base;
    return POD_OK;
}
