/* SPDX-License-Identifier: Apache-2.0 */
/* Every way in which a driver fails, played by the fake one: the status, and a message that says what to do. */
#include "base/driver_functions.h"
#include "podattn.h"

#include <stdio.h>
#include <stdlib.h>

static int failures;

static void expect(pod_status status, pod_status expected, const char *word, const char *what) {
    if (status == expected && strstr(pod_error_message(), word) != NULL) return;
    fprintf(stderr, "%s: %s \"%s\"; expected %s with \"%s\"\n", what, pod_status_name(status), pod_error_message(),
            pod_status_name(expected), word);
    failures++;
}

/** Opening fails while the fake driver's variable is set, and works again afterwards. */
static void open_fails(const char *variable, const char *value, pod_status expected, const char *word) {
    pod_device *device;
    char what[128];
    snprintf(what, sizeof what, "%s=%s", variable, value);
    setenv(variable, value, 1);
    expect(pod_device_open("cuda:0", &device), expected, word, what);
    if (device != NULL) failures++;
    unsetenv(variable);
    if (pod_device_open("cuda:0", &device) != POD_OK) {
        fprintf(stderr, "%s: does not open afterwards: %s\n", what, pod_error_message());
        failures++;
    }
    pod_device_close(device);
}

static void test_open(void) {
    open_fails("FAKE_CUDA_VERSION", "11080", POD_E_NO_DEVICE, "driver is too old: it is for CUDA 11.8");
    open_fails("FAKE_CUDA_CAPABILITY", "75", POD_E_NO_DEVICE, "compute capability 7.5");
    open_fails("FAKE_CUDA_FAIL", "cuInit=100", POD_E_NO_DEVICE, "sees no GPU");
    open_fails("FAKE_CUDA_FAIL", "cuInit=999", POD_E_NO_DEVICE, "check nvidia-smi");
    open_fails("FAKE_CUDA_FAIL", "cuDevicePrimaryCtxRetain=2", POD_E_NO_MEMORY, "memory is full");
    open_fails("FAKE_CUDA_FAIL", "cuDevicePrimaryCtxRetain=46", POD_E_NO_DEVICE, "another process");
    open_fails("FAKE_CUDA_FAIL", "cuModuleLoadData=209", POD_E_NO_DEVICE, "no kernel");
    open_fails("FAKE_CUDA_FAIL", "cuModuleLoadData=222", POD_E_NO_DEVICE, "update the driver");
    open_fails("FAKE_CUDA_FAIL", "cuModuleLoadData=2", POD_E_NO_MEMORY, "loading the kernels");
    open_fails("FAKE_CUDA_FAIL", "cuModuleGetFunction=500", POD_E_NO_DEVICE, "no kernel");
    open_fails("FAKE_CUDA_FAIL", "cuFuncSetAttribute=1", POD_E_DEVICE, "shared memory");
    open_fails("FAKE_CUDA_FAIL", "cuOccupancyMaxActiveBlocksPerMultiprocessor=1", POD_E_DEVICE, "an SM holds");
    open_fails("FAKE_CUDA_FAIL", "cuModuleLoadData=700", POD_E_DEVICE, "start the process again");
}

/** Without a GPU, "auto" is the CPU and says why; the thread's message stays what it was. */
static void test_auto(void) {
    pod_device *device;
    pod_device_info info = pod_device_info_init();
    char before[512];
    setenv("FAKE_CUDA_FAIL", "cuInit=100", 1);
    pod_device_open("nothing", &device);
    snprintf(before, sizeof before, "%s", pod_error_message());
    if (pod_device_open("auto", &device) != POD_OK || pod_device_get_info(device, &info) != POD_OK) failures++;
    if (strcmp(info.backend, "cpu") != 0 || strstr(info.note, "sees no GPU") == NULL) {
        fprintf(stderr, "auto: backend %s, note \"%s\"\n", info.backend, info.note);
        failures++;
    }
    if (strcmp(before, pod_error_message()) != 0) {
        fprintf(stderr, "auto: changed the message to \"%s\"\n", pod_error_message());
        failures++;
    }
    pod_device_close(device);
    unsetenv("FAKE_CUDA_FAIL");
}

/** Of one request with two tokens. */
static pod_limits small_limits(void) {
    pod_limits limits = pod_limits_init();
    limits.q_heads = limits.kv_heads = 1;
    limits.head_dim = 128;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = POD_BF16;
    limits.page_size = 64;
    limits.max_requests = 1;
    limits.max_q_tokens = 2;
    limits.max_kv_len = 64;
    return limits;
}

/** Failures of the calls that run. The host arrays serve as device memory. */
static void test_calls(void) {
    static uint16_t tensor[4 * 128 * 64];
    static int32_t q_start[] = {0, 2}, kv_len[] = {40};
    pod_device *device;
    pod_plan *plan;
    pod_workspace workspace = pod_workspace_init();
    pod_limits limits = small_limits();
    pod_batch batch = pod_batch_init();
    batch.num_requests = batch.num_pages = 1;
    batch.q_start = q_start;
    batch.kv_len = kv_len;
    pod_tensors t = pod_tensors_init();
    pod_cache cache = pod_cache_init();
    t.q = cache.k = cache.v = tensor;
    t.out = tensor + 2 * 128 * 64;
    if (pod_device_open("cuda:0", &device) != POD_OK || pod_plan_create(device, &limits, &plan) != POD_OK ||
        pod_workspace_size(device, &limits, &workspace) != POD_OK) {
        fprintf(stderr, "calls: %s\n", pod_error_message());
        failures++;
        return;
    }
    workspace.plan = aligned_alloc(POD_WORKSPACE_ALIGN, workspace.plan_bytes);
    workspace.scratch = aligned_alloc(POD_WORKSPACE_ALIGN, workspace.scratch_bytes);
    expect(pod_plan_build(plan, &batch, NULL), POD_E_STATE, "no workspace", "not attached");
    if (pod_plan_attach(plan, &workspace) != POD_OK) failures++;
    expect(pod_plan_build(plan, &batch, NULL), POD_E_WORKSPACE, "workspace.plan is no memory", "malloc");
    setenv("FAKE_CUDA_FAIL", "cuPointerGetAttribute=0", 1);
    expect(pod_attention(plan, &t, &cache, NULL), POD_E_STATE, "pod_plan_build", "not built");
    setenv("FAKE_CUDA_FAIL", "cuPointerGetAttribute=700", 1);
    expect(pod_plan_build(plan, &batch, NULL), POD_E_DEVICE, "compute-sanitizer", "sticky");
    setenv("FAKE_CUDA_FAIL", "cuCtxGetCurrent=4", 1);
    expect(pod_plan_build(plan, &batch, NULL), POD_E_DEVICE, "context", "context");
    unsetenv("FAKE_CUDA_FAIL");
    free(workspace.plan);
    free(workspace.scratch);
    pod_plan_destroy(plan);
    pod_device_close(device);
}

static void expect_ok(pod_status status, const char *what) {
    if (status == POD_OK) return;
    fprintf(stderr, "%s: %s \"%s\"\n", what, pod_status_name(status), pod_error_message());
    failures++;
}

static void *allocate(const pod_driver_functions *driver, size_t bytes) {
    CUdeviceptr memory = 0;
    if (driver->mem_alloc(&memory, bytes) != 0) exit(EXIT_FAILURE);
    return (void *)(uintptr_t)memory;
}

/** A launch that the driver does not take leaves a plan that may go on, a failed build one that has to be built. */
static void test_failed_launches(void) {
    enum { ELEMENTS = 64 * 128 };
    static const int32_t q_start[] = {0, 2}, kv_len[] = {40};
    pod_driver_functions driver;
    pod_device *device;
    pod_plan *plan;
    pod_workspace workspace = pod_workspace_init();
    pod_limits limits = small_limits();
    CUcontext context = NULL;
    if (pod__driver_functions_load(&driver) != NULL) exit(EXIT_FAILURE);
    expect_ok(pod_device_open("cuda:0", &device), "opening");
    if (driver.primary_ctx_retain(&context, 0) != 0 || driver.ctx_set_current(context) != 0) exit(EXIT_FAILURE);
    expect_ok(pod_plan_create(device, &limits, &plan), "creating");
    expect_ok(pod_workspace_size(device, &limits, &workspace), "sizes");
    workspace.plan = allocate(&driver, workspace.plan_bytes);
    workspace.scratch = allocate(&driver, workspace.scratch_bytes);
    memset(workspace.plan, 0xff, workspace.plan_bytes);
    uint16_t *memory = allocate(&driver, 3 * ELEMENTS * sizeof *memory), before[2 * 128];
    memset(memory, 0, 3 * ELEMENTS * sizeof *memory);
    pod_batch batch = pod_batch_init();
    batch.num_requests = batch.num_pages = 1;
    batch.q_start = q_start;
    batch.kv_len = kv_len;
    pod_tensors t = pod_tensors_init();
    pod_cache cache = pod_cache_init();
    t.q = memory;
    t.out = memory + 2 * 128;
    cache.k = memory + ELEMENTS;
    cache.v = memory + 2 * ELEMENTS;
    expect_ok(pod_plan_attach(plan, &workspace), "attaching");
    expect_ok(pod_plan_build(plan, &batch, NULL), "building");
    memset(t.out, 0xff, sizeof before);
    memset(before, 0xff, sizeof before);
    setenv("FAKE_CUDA_FAIL", "cuLaunchKernel=1", 1);
    expect(pod_attention(plan, &t, &cache, NULL), POD_E_DEVICE, "launching the attention kernel", "attention");
    unsetenv("FAKE_CUDA_FAIL");
    if (memcmp(t.out, before, sizeof before) != 0) failures++;
    expect_ok(pod_attention(plan, &t, &cache, NULL), "attention after a launch that failed");
    if (memcmp(t.out, memory, sizeof before) != 0) failures++; /* zeros, as are the values */
    setenv("FAKE_CUDA_FAIL", "cuLaunchKernel=1", 1);
    expect(pod_plan_build(plan, &batch, NULL), POD_E_DEVICE, "launching the planning kernel", "build");
    unsetenv("FAKE_CUDA_FAIL");
    expect(pod_attention(plan, &t, &cache, NULL), POD_E_STATE, "pod_plan_build", "attention after a failed build");
    expect_ok(pod_plan_build(plan, &batch, NULL), "building again");
    expect_ok(pod_attention(plan, &t, &cache, NULL), "attention after building again");
    driver.mem_free((CUdeviceptr)(uintptr_t)workspace.plan);
    driver.mem_free((CUdeviceptr)(uintptr_t)workspace.scratch);
    driver.mem_free((CUdeviceptr)(uintptr_t)memory);
    pod_plan_destroy(plan);
    pod_device_close(device);
}

/** A warp merges a row: wider ones are refused by name. */
static void test_wide_merge(void) {
    pod_device *device;
    pod_parts parts = pod_parts_init();
    if (pod_device_open("cuda:0", &device) != POD_OK) {
        fprintf(stderr, "wide merge: %s\n", pod_error_message());
        failures++;
        return;
    }
    static float memory[3][264];
    const void *outs[] = {memory[0]};
    const float *lses[] = {memory[1]};
    parts.num_parts = parts.num_tokens = parts.q_heads = 1;
    parts.head_dim = 264;
    parts.part_outs = outs;
    parts.part_lses = lses;
    parts.out = memory[2];
    expect(pod_merge(device, &parts, NULL), POD_E_UNSUPPORTED,
           "head_dim = 264 is not supported by the merging kernel; those up to 256 are", "wide rows");
    pod_device_close(device);
}

int main(void) {
    test_open();
    test_auto();
    test_calls();
    test_failed_launches();
    test_wide_merge();
    printf("%s\n", failures == 0 ? "passed" : "FAILED");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
