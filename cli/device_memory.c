/* SPDX-License-Identifier: Apache-2.0 */
#include "device_memory.h"

#include "format.h"
#include "host_memory.h"
#include "stopwatch.h"

#include <dlfcn.h>
#include <stdlib.h>

/* The driver's types, as far as they are needed here: no header of CUDA's is, to build this program. */
typedef int gpu_result;
typedef uintptr_t gpu_address;
typedef void *gpu_event;
enum { GPU_SUCCESS = 0, GPU_OUT_OF_MEMORY = 2, GPU_EVENT_TIMED = 0, GPU_EVENT_UNTIMED = 2 };

#define GPU_FUNCTIONS(X)                                                                                               \
    X(init, "cuInit", (unsigned flags))                                                                                \
    X(get_error_name, "cuGetErrorName", (gpu_result result, const char **name))                                        \
    X(device_get, "cuDeviceGet", (int *device, int ordinal))                                                           \
    X(primary_ctx_retain, "cuDevicePrimaryCtxRetain", (void **context, int device))                                    \
    X(primary_ctx_release, "cuDevicePrimaryCtxRelease_v2", (int device))                                               \
    X(ctx_set_current, "cuCtxSetCurrent", (void *context))                                                             \
    X(mem_alloc, "cuMemAlloc_v2", (gpu_address * address, size_t bytes))                                               \
    X(mem_free, "cuMemFree_v2", (gpu_address address))                                                                 \
    X(memcpy_htod, "cuMemcpyHtoD_v2", (gpu_address to, const void *from, size_t bytes))                                \
    X(memcpy_dtoh, "cuMemcpyDtoH_v2", (void *to, gpu_address from, size_t bytes))                                      \
    X(stream_create, "cuStreamCreate", (pod_stream * stream, unsigned flags))                                          \
    X(stream_destroy, "cuStreamDestroy_v2", (pod_stream stream))                                                       \
    X(stream_wait_event, "cuStreamWaitEvent", (pod_stream stream, gpu_event event, unsigned flags))                    \
    X(event_create, "cuEventCreate", (gpu_event * event, unsigned flags))                                              \
    X(event_destroy, "cuEventDestroy_v2", (gpu_event event))                                                           \
    X(event_record, "cuEventRecord", (gpu_event event, pod_stream stream))                                             \
    X(event_synchronize, "cuEventSynchronize", (gpu_event event))                                                      \
    X(event_elapsed_time, "cuEventElapsedTime", (float *milliseconds, gpu_event begin, gpu_event end))

typedef enum mark { MARK_BEGIN, MARK_END, MARK_FORK, MARK_JOIN, NUM_MARKS } mark;

struct device_memory {
    int is_host;
    double begin_us; /**< of the host's clock */
    void *library;
#define GPU_MEMBER_(name, symbol, arguments) gpu_result(*name) arguments;
    GPU_FUNCTIONS(GPU_MEMBER_)
#undef GPU_MEMBER_
    int ordinal, gpu;
    void *context; /**< the primary one; NULL until retained */
    pod_stream streams[NUM_STREAMS];
    gpu_event events[NUM_MARKS];
};

static cli_exit check(const device_memory *memory, gpu_result result, const char *doing, cli_error *error) {
    if (result == GPU_SUCCESS) return CLI_OK;
    const char *name = NULL;
    memory->get_error_name(result, &name);
    return cli_fail(error, "GPU: %s: %s", doing, name != NULL ? name : "unknown error");
}

/** Calls a driver function and hands its failure on to the caller. */
#define GPU_TRY(memory, call, doing) CLI_TRY(check(memory, (memory)->call, doing, error))

/* ---- opening ---- */

/** Looks a symbol up. POSIX makes a function of dlsym's object pointer valid; ISO C has only this way to write it. */
static int find_symbol(void *library, const char *symbol, void *function) {
    void *address = dlsym(library, symbol);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

static cli_exit load_driver(device_memory *memory, cli_error *error) {
    memory->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (memory->library == NULL) {
        cli_fail(error, "GPU: libcuda.so.1 cannot be loaded");
        return CLI_BAD_INPUT;
    }
    int has_all = 1;
#define FIND_(name, symbol, arguments) has_all &= find_symbol(memory->library, symbol, (void *)&memory->name);
    GPU_FUNCTIONS(FIND_)
#undef FIND_
    if (has_all) return CLI_OK;
    cli_fail(error, "GPU: the driver is too old");
    return CLI_BAD_INPUT;
}

static cli_exit open_gpu(device_memory *memory, cli_error *error) {
    CLI_TRY(load_driver(memory, error));
    GPU_TRY(memory, init(0), "starting the driver");
    GPU_TRY(memory, device_get(&memory->gpu, memory->ordinal), "opening it");
    GPU_TRY(memory, primary_ctx_retain(&memory->context, memory->gpu), "opening its primary context");
    GPU_TRY(memory, ctx_set_current(memory->context), "entering its primary context");
    for (int i = 0; i < NUM_STREAMS; i++) GPU_TRY(memory, stream_create(&memory->streams[i], 0), "making a stream");
    for (int i = 0; i < NUM_MARKS; i++) {
        unsigned flags = i == MARK_BEGIN || i == MARK_END ? GPU_EVENT_TIMED : GPU_EVENT_UNTIMED;
        GPU_TRY(memory, event_create(&memory->events[i], flags), "making an event");
    }
    return CLI_OK;
}

/** Of a name that the library accepted; whatever names no number is the first GPU. */
static int read_ordinal(const char *name) {
    return strncmp(name, "cuda:", 5) == 0 ? (int)strtol(name + 5, NULL, 10) : 0;
}

cli_exit device_memory_open(const char *name, const pod_device_info *info, device_memory **memory, cli_error *error) {
    *memory = calloc(1, sizeof **memory);
    if (*memory == NULL) return cli_fail_memory(error);
    (*memory)->is_host = strcmp(info->backend, "cuda") != 0;
    if ((*memory)->is_host) return CLI_OK;
    (*memory)->ordinal = read_ordinal(name);
    cli_exit code = open_gpu(*memory, error);
    if (code == CLI_OK) return CLI_OK;
    device_memory_close(*memory);
    *memory = NULL;
    return code;
}

/** Undoes as much of the opening as was done. */
void device_memory_close(device_memory *memory) {
    if (memory == NULL) return;
    if (memory->context != NULL) {
        for (int i = 0; i < NUM_MARKS; i++) {
            if (memory->events[i] != NULL) memory->event_destroy(memory->events[i]);
        }
        for (int i = 0; i < NUM_STREAMS; i++) {
            if (memory->streams[i] != NULL) memory->stream_destroy(memory->streams[i]);
        }
        memory->ctx_set_current(NULL);
        memory->primary_ctx_release(memory->gpu);
    }
    if (memory->library != NULL) dlclose(memory->library);
    free(memory);
}

int device_memory_is_host(const device_memory *memory) {
    return memory->is_host;
}

int device_memory_ordinal(const device_memory *memory) {
    return memory->ordinal;
}

/* ---- memory ---- */

static gpu_address address(const void *place) {
    return (gpu_address)place;
}

static cli_exit take_on_host(size_t bytes, void **place, cli_error *error) {
    CLI_TRY(host_memory_check("the workspace", (double)bytes, error));
    size_t units = bytes / POD_WORKSPACE_ALIGN + 1;
    *place = aligned_alloc(POD_WORKSPACE_ALIGN, units * POD_WORKSPACE_ALIGN);
    return *place != NULL ? CLI_OK : cli_fail_memory(error);
}

cli_exit device_memory_take(device_memory *memory, size_t bytes, void **place, cli_error *error) {
    *place = NULL;
    if (memory->is_host) return take_on_host(bytes, place, error);
    gpu_address taken = 0;
    gpu_result result = memory->mem_alloc(&taken, bytes > 0 ? bytes : 1);
    if (result == GPU_OUT_OF_MEMORY) {
        return cli_fail(error, "out of memory: the GPU has no %s left", format_bytes((double)bytes).text);
    }
    CLI_TRY(check(memory, result, "taking memory", error));
    *place = (void *)taken; /* NOLINT(performance-no-int-to-ptr): the driver's addresses are numbers */
    return CLI_OK;
}

void device_memory_give(device_memory *memory, void *place) {
    if (place == NULL) return;
    if (memory->is_host) {
        free(place);
    } else {
        memory->mem_free(address(place));
    }
}

cli_exit device_array_make(device_memory *memory, void *host, size_t bytes, device_array *array, cli_error *error) {
    *array = (device_array){host, host, bytes};
    if (memory->is_host) return CLI_OK;
    CLI_TRY(device_memory_take(memory, bytes, &array->place, error));
    return device_array_send(memory, array, error);
}

void device_array_free(device_memory *memory, device_array *array) {
    if (array->place != array->host) device_memory_give(memory, array->place);
    array->place = NULL;
}

cli_exit device_array_send(device_memory *memory, const device_array *array, cli_error *error) {
    if (memory->is_host || array->bytes == 0) return CLI_OK;
    GPU_TRY(memory, memcpy_htod(address(array->place), array->host, array->bytes), "copying to it");
    return CLI_OK;
}

cli_exit device_array_fetch(device_memory *memory, const device_array *array, cli_error *error) {
    if (memory->is_host || array->bytes == 0) return CLI_OK;
    GPU_TRY(memory, memcpy_dtoh(array->host, address(array->place), array->bytes), "copying from it");
    return CLI_OK;
}

/* ---- streams and time ---- */

pod_stream device_memory_stream(const device_memory *memory, device_stream stream) {
    return memory->streams[stream];
}

/** `later` waits for what `earlier` has been given. */
static cli_exit order(device_memory *memory, mark mark, device_stream earlier, device_stream later, cli_error *error) {
    if (memory->is_host) return CLI_OK;
    GPU_TRY(memory, event_record(memory->events[mark], memory->streams[earlier]), "recording an event");
    GPU_TRY(memory, stream_wait_event(memory->streams[later], memory->events[mark], 0), "waiting for an event");
    return CLI_OK;
}

cli_exit device_memory_fork(device_memory *memory, cli_error *error) {
    return order(memory, MARK_FORK, STREAM_MAIN, STREAM_SIDE, error);
}

cli_exit device_memory_join(device_memory *memory, cli_error *error) {
    return order(memory, MARK_JOIN, STREAM_SIDE, STREAM_MAIN, error);
}

cli_exit device_memory_begin(device_memory *memory, cli_error *error) {
    if (memory->is_host) {
        memory->begin_us = stopwatch_us();
        return CLI_OK;
    }
    GPU_TRY(memory, event_record(memory->events[MARK_BEGIN], memory->streams[STREAM_MAIN]), "starting its clock");
    return CLI_OK;
}

cli_exit device_memory_end(device_memory *memory, double *took_us, cli_error *error) {
    if (memory->is_host) {
        *took_us = stopwatch_us() - memory->begin_us;
        return CLI_OK;
    }
    float milliseconds;
    GPU_TRY(memory, event_record(memory->events[MARK_END], memory->streams[STREAM_MAIN]), "stopping its clock");
    GPU_TRY(memory, event_synchronize(memory->events[MARK_END]), "waiting for it");
    GPU_TRY(memory, event_elapsed_time(&milliseconds, memory->events[MARK_BEGIN], memory->events[MARK_END]),
            "reading its clock");
    *took_us = (double)milliseconds * 1e3;
    return CLI_OK;
}
