/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gpu_check(const gpu *gpu, CUresult result, const char *call, const char *file, int line) {
    if (result == CUDA_SUCCESS) return;
    const char *name = "?";
    gpu->driver.get_error_name(result, &name);
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, name);
    exit(EXIT_FAILURE);
}

int gpu_open(gpu *gpu, int ordinal) {
    memset(gpu, 0, sizeof *gpu);
    if (pod__driver_functions_load(&gpu->driver) != NULL) return 0;
    if (gpu->driver.init(0) != CUDA_SUCCESS || gpu->driver.device_get(&gpu->device, ordinal) != CUDA_SUCCESS) return 0;
    GPU_CHECK(gpu, device_get_name(gpu->name, sizeof gpu->name, gpu->device));
    GPU_CHECK(gpu, primary_ctx_retain(&gpu->context, gpu->device));
    GPU_CHECK(gpu, ctx_set_current(gpu->context));
    return 1;
}

void gpu_close(gpu *gpu) {
    GPU_CHECK(gpu, primary_ctx_release(gpu->device));
}

static CUdeviceptr address(const void *memory) {
    return (CUdeviceptr)(uintptr_t)memory;
}

void *gpu_alloc(const gpu *gpu, size_t bytes) {
    CUdeviceptr memory = 0;
    GPU_CHECK(gpu, mem_alloc(&memory, bytes > 0 ? bytes : 1));
    return (void *)(uintptr_t)memory;
}

void gpu_free(const gpu *gpu, void *memory) {
    if (memory != NULL) GPU_CHECK(gpu, mem_free(address(memory)));
}

void gpu_upload(const gpu *gpu, void *to, const void *from, size_t bytes) {
    if (bytes > 0) GPU_CHECK(gpu, memcpy_htod(address(to), from, bytes));
}

void gpu_download(const gpu *gpu, void *to, const void *from, size_t bytes) {
    if (bytes > 0) GPU_CHECK(gpu, memcpy_dtoh(to, address(from), bytes));
}

void gpu_fill(const gpu *gpu, void *to, unsigned char value, size_t bytes) {
    if (bytes > 0) GPU_CHECK(gpu, memset_d8(address(to), value, bytes));
}

void *gpu_copy(const gpu *gpu, const void *from, size_t bytes) {
    if (from == NULL) return NULL;
    void *memory = gpu_alloc(gpu, bytes);
    gpu_upload(gpu, memory, from, bytes);
    return memory;
}
