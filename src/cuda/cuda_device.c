/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a GPU, loads the kernels, describes and closes it. */
#include "cuda/cuda_device.h"

#include "base/status.h"
#include "cuda/kernels/append/append_params.h"
#include "cuda/kernels/merge/merge_params.h"
#include "cuda/kernels/peak/peak_params.h"
#include "cuda/kernels/plan/plan_params.h"

#include <stdio.h>
#include <stdlib.h>

pod_status pod__cuda_enter(const pod_cuda_device *cuda, int *pushed) {
    CUcontext current = NULL;
    *pushed = 0;
    POD_CUDA_TRY(cuda, ctx_get_current(&current), "asking for the current context");
    if (current == cuda->context) return POD_OK;
    POD_CUDA_TRY(cuda, ctx_push_current(cuda->context), "entering the GPU's primary context");
    *pushed = 1;
    return POD_OK;
}

void pod__cuda_leave(const pod_cuda_device *cuda, int pushed) {
    CUcontext popped;
    if (pushed) cuda->driver.ctx_pop_current(&popped);
}

pod_status pod__cuda_in_context(const pod_device *device,
                                pod_status (*work)(const pod_cuda_device *cuda, void *argument), void *argument) {
    const pod_cuda_device *cuda = (const pod_cuda_device *)device;
    int pushed;
    POD_TRY(pod__cuda_enter(cuda, &pushed));
    pod_status status = work(cuda, argument);
    pod__cuda_leave(cuda, pushed);
    return status;
}

static pod_status find_gpu(pod_cuda_device *cuda) {
    int count = 0;
    POD_CUDA_TRY(cuda, device_get_count(&count), "counting GPUs");
    if (cuda->number >= count) {
        return pod__fail(POD_E_NO_DEVICE, "there is no GPU cuda:%d; the driver sees %d, numbered from 0", cuda->number,
                         count);
    }
    POD_CUDA_TRY(cuda, device_get(&cuda->ordinal, cuda->number), "opening the GPU");
    return POD_OK;
}

static pod_status get_attribute(const pod_cuda_device *cuda, CUdevice_attribute attribute, int32_t *value) {
    int number = 0;
    POD_CUDA_TRY(cuda, device_get_attribute(&number, attribute, cuda->ordinal), "asking for the GPU's properties");
    *value = number;
    return POD_OK;
}

static pod_status read_properties(pod_cuda_device *cuda) {
    int32_t major, minor;
    size_t bytes = 0;
    POD_CUDA_TRY(cuda, device_get_name(cuda->name, sizeof cuda->name, cuda->ordinal), "asking for the GPU's name");
    POD_CUDA_TRY(cuda, device_total_mem(&bytes, cuda->ordinal), "asking for the GPU's memory");
    cuda->memory_bytes = (int64_t)bytes;
    POD_TRY(get_attribute(cuda, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major));
    POD_TRY(get_attribute(cuda, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor));
    POD_TRY(get_attribute(cuda, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &cuda->chip.num_sms));
    POD_TRY(get_attribute(cuda, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &cuda->max_smem_bytes));
    POD_TRY(get_attribute(cuda, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, &cuda->reads_pageable_memory));
    cuda->chip.capability = 10 * major + minor;
    cuda->chip.has_tensor_maps = cuda->driver.tensor_map_encode_tiled != NULL;
    int32_t oldest = pod__gpu_families[POD_NUM_GPU_FAMILIES - 1]->min_capability; /* of the one that runs on most */
    if (cuda->chip.capability < oldest) {
        return pod__fail(POD_E_NO_DEVICE, "%s has compute capability %d.%d; the kernels need %d.%d or later",
                         cuda->name, major, minor, oldest / 10, oldest % 10);
    }
    return POD_OK;
}

/** Whether the image holds kernels for this chip. Those of another one are not even tried: a failed load is an error to
 * tools that watch the driver. */
static int image_runs(const pod_cuda_device *cuda, const char *image) {
    char reason[128];
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        if (strcmp(pod__variants[i].image, image) != 0) continue;
        return pod__family_runs(pod__variants[i].family, &cuda->chip, reason, sizeof reason);
    }
    return 1;
}

static pod_status load_modules(pod_cuda_device *cuda) {
    for (size_t i = 0; i < POD_CUDA_NUM_IMAGES; i++) {
        const pod_cuda_image *image = &pod__cuda_images[i];
        if (!image_runs(cuda, image->name)) continue;
        CUresult result = cuda->driver.module_load_data(&cuda->modules[i], image->fatbin);
        if (result == CUDA_ERROR_NO_BINARY_FOR_GPU) continue;
        char doing[96];
        snprintf(doing, sizeof doing, "loading the kernels \"%s\"", image->name);
        POD_TRY(pod__cuda_check(&cuda->driver, result, doing));
    }
    return POD_OK;
}

/** NULL if the image was not loaded or does not have it. */
static pod_status find_kernel(const pod_cuda_device *cuda, const char *image, const char *name, CUfunction *kernel) {
    *kernel = NULL;
    for (size_t i = 0; i < POD_CUDA_NUM_IMAGES; i++) {
        if (cuda->modules[i] == NULL || strcmp(pod__cuda_images[i].name, image) != 0) continue;
        CUresult result = cuda->driver.module_get_function(kernel, cuda->modules[i], name);
        if (result == CUDA_SUCCESS) return POD_OK;
        *kernel = NULL;
        return result == CUDA_ERROR_NOT_FOUND ? POD_OK : pod__cuda_check(&cuda->driver, result, "looking a kernel up");
    }
    return POD_OK;
}

/** Gives a row's kernel its shared memory, and asks how many of its CTAs an SM holds. */
static pod_status prepare_kernel(pod_cuda_device *cuda, int32_t row) {
    const pod_variant *variant = &pod__variants[row];
    int count = 0;
    POD_CUDA_TRY(cuda,
                 func_set_attribute(cuda->kernels[row], CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                    variant->tiles->smem_bytes),
                 "giving a kernel its shared memory");
    POD_CUDA_TRY(
        cuda,
        max_active_blocks(&count, cuda->kernels[row], variant->tiles->threads, (size_t)variant->tiles->smem_bytes),
        "asking how many CTAs an SM holds");
    cuda->chip.resident_ctas[row] = count;
    return POD_OK;
}

static pod_status find_kernels(pod_cuda_device *cuda) {
    POD_TRY(find_kernel(cuda, "plan", POD_PLAN_KERNEL, &cuda->plan_kernel));
    POD_TRY(find_kernel(cuda, "merge", POD_MERGE_KERNEL, &cuda->merge_kernel));
    POD_TRY(find_kernel(cuda, "append", POD_APPEND_KERNEL, &cuda->append_kernel));
    POD_TRY(find_kernel(cuda, "peak", POD_PEAK_KERNEL, &cuda->peak_kernel));
    POD_TRY(find_kernel(cuda, "peak", POD_PEAK_FILL_KERNEL, &cuda->peak_fill_kernel));
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_variant *variant = &pod__variants[i];
        if (variant->tiles->smem_bytes > cuda->max_smem_bytes) continue;
        POD_TRY(find_kernel(cuda, variant->image, variant->kernel, &cuda->kernels[i]));
        if (cuda->kernels[i] == NULL) continue;
        POD_TRY(prepare_kernel(cuda, i));
    }
    if (cuda->plan_kernel == NULL || cuda->merge_kernel == NULL || cuda->append_kernel == NULL) {
        return pod__fail(POD_E_NO_DEVICE, "this library has no kernel that loads on %s", cuda->name);
    }
    return pod__check_chip(&cuda->chip, &cuda->options, cuda->name);
}

static pod_status load_kernels(pod_cuda_device *cuda) {
    int pushed;
    POD_CUDA_TRY(cuda, primary_ctx_retain(&cuda->context, cuda->ordinal), "opening the GPU's primary context");
    POD_TRY(pod__cuda_enter(cuda, &pushed));
    pod_status status = load_modules(cuda);
    if (status == POD_OK) status = find_kernels(cuda);
    pod__cuda_leave(cuda, pushed);
    return status;
}

/** Undoes as much of the opening as was done. */
static void cuda_close(pod_device *device) {
    pod_cuda_device *cuda = (pod_cuda_device *)device;
    int pushed;
    if (cuda->context != NULL) {
        if (pod__cuda_enter(cuda, &pushed) == POD_OK) {
            for (size_t i = 0; i < POD_CUDA_NUM_IMAGES; i++) {
                if (cuda->modules[i] != NULL) cuda->driver.module_unload(cuda->modules[i]);
            }
            pod__cuda_leave(cuda, pushed);
        }
        cuda->driver.primary_ctx_release(cuda->ordinal);
    }
    pod__cuda_driver_unload(&cuda->driver);
    free(cuda);
}

static pod_status cuda_choose(const pod_device *device, const pod_limits *limits, pod_choice *choice) {
    const pod_cuda_device *cuda = (const pod_cuda_device *)device;
    return pod__choose_kernel(&cuda->chip, &cuda->options, limits, choice);
}

static void cuda_visit_kernels(const pod_device *device, int (*visit)(void *context, const pod_kernel_info *info),
                               void *context) {
    pod__chip_visit(&((const pod_cuda_device *)device)->chip, visit, context);
}

/** The families that have a kernel here, in the order of the table: the fastest first. */
static void list_families(const pod_cuda_device *cuda, char *text, size_t bytes) {
    const char *last = "";
    size_t length = 0;
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const char *family = pod__variants[i].family->name;
        if (cuda->chip.resident_ctas[i] == 0 || strcmp(family, last) == 0 || length + strlen(family) + 2 > bytes)
            continue;
        length += (size_t)snprintf(text + length, bytes - length, "%s%s", *last != '\0' ? " " : "", family);
        last = family;
    }
}

static void cuda_get_info(const pod_device *device, pod_device_info *info) {
    const pod_cuda_device *cuda = (const pod_cuda_device *)device;
    const pod_family *family = pod__chip_family(&cuda->chip, &cuda->options, &info->num_ctas);
    snprintf(info->backend, sizeof info->backend, "cuda");
    snprintf(info->name, sizeof info->name, "%s", cuda->name);
    snprintf(info->kernel, sizeof info->kernel, "%s", family->name);
    info->memory_bytes = cuda->memory_bytes;
    list_families(cuda, info->families, sizeof info->families);
}

static const pod_backend cuda_backend = {
    .choose = cuda_choose,
    .check_call = pod__cuda_check_call,
    .plan_build = pod__cuda_plan_build,
    .plan_check = pod__cuda_plan_check,
    .plan_read = pod__cuda_plan_read,
    .attention = pod__cuda_attention,
    .check_append = pod__cuda_check_append,
    .append = pod__cuda_append,
    .merge = pod__cuda_merge,
    .get_info = cuda_get_info,
    .visit_kernels = cuda_visit_kernels,
    .measure_peak = pod__cuda_measure_peak,
    .open_memory = pod__cuda_open_memory,
    .close = cuda_close,
};

static pod_status open_gpu(pod_cuda_device *cuda, const char *argument) {
    POD_TRY(pod__cuda_options_parse(argument, &cuda->number, &cuda->options));
    POD_TRY(pod__cuda_driver_load(&cuda->driver));
    POD_TRY(find_gpu(cuda));
    POD_TRY(read_properties(cuda));
    return load_kernels(cuda);
}

pod_status pod__cuda_open(const char *argument, pod_device **device) {
    *device = NULL;
    pod_cuda_device *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for a device");
    cuda->base.backend = &cuda_backend;
    pod_status status = open_gpu(cuda, argument);
    if (status != POD_OK) {
        cuda_close(&cuda->base);
        return status;
    }
    *device = &cuda->base;
    return POD_OK;
}
