/* SPDX-License-Identifier: Apache-2.0 */
#include "run/device_memory.h"

#include "output/format.h"
#include "run/gpu_driver.h"
#include "run/host_memory.h"
#include "run/stopwatch.h"

#include <stdlib.h>

typedef enum order_event { ORDER_FORK, ORDER_JOIN, NUM_ORDER_EVENTS } order_event;

/** A point in time: of the host's clock, or of the GPU's when its main stream came by. */
typedef struct mark {
    double host_us;
    CUevent event;
} mark;

struct device_memory {
    int is_host;
    gpu_driver driver;
    int ordinal, gpu;
    void *context; /**< the primary one; NULL until retained */
    pod_stream streams[NUM_STREAMS];
    CUevent order_events[NUM_ORDER_EVENTS];
    mark *marks;
    int32_t num_marks;
};

/* ---- opening ---- */

static cli_exit open_gpu(device_memory *memory, cli_error *error) {
    gpu_driver *driver = &memory->driver;
    CLI_TRY(gpu_driver_load(driver, error));
    GPU_TRY(driver, init(0), "starting the driver");
    GPU_TRY(driver, device_get(&memory->gpu, memory->ordinal), "opening it");
    GPU_TRY(driver, primary_ctx_retain(&memory->context, memory->gpu), "opening its primary context");
    GPU_TRY(driver, ctx_set_current(memory->context), "entering its primary context");
    for (int i = 0; i < NUM_STREAMS; i++) GPU_TRY(driver, stream_create(&memory->streams[i], 0), "making a stream");
    for (int i = 0; i < NUM_ORDER_EVENTS; i++) {
        GPU_TRY(driver, event_create(&memory->order_events[i], CU_EVENT_DISABLE_TIMING), "making an event");
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
static void close_gpu(device_memory *memory) {
    const gpu_driver *driver = &memory->driver;
    for (int32_t i = 0; i < memory->num_marks; i++) {
        if (memory->marks[i].event != NULL) driver->event_destroy(memory->marks[i].event);
    }
    for (int i = 0; i < NUM_ORDER_EVENTS; i++) {
        if (memory->order_events[i] != NULL) driver->event_destroy(memory->order_events[i]);
    }
    for (int i = 0; i < NUM_STREAMS; i++) {
        if (memory->streams[i] != NULL) driver->stream_destroy(memory->streams[i]);
    }
    driver->ctx_set_current(NULL);
    driver->primary_ctx_release(memory->gpu);
}

void device_memory_close(device_memory *memory) {
    if (memory == NULL) return;
    if (memory->context != NULL) close_gpu(memory);
    pod__driver_functions_unload(&memory->driver);
    free(memory->marks);
    free(memory);
}

int device_memory_is_host(const device_memory *memory) {
    return memory->is_host;
}

int device_memory_ordinal(const device_memory *memory) {
    return memory->ordinal;
}

const gpu_driver *device_memory_driver(const device_memory *memory, int *gpu) {
    *gpu = memory->gpu;
    return memory->is_host ? NULL : &memory->driver;
}

/* ---- memory ---- */

static CUdeviceptr address(const void *place) {
    return (CUdeviceptr)(uintptr_t)place;
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
    CUdeviceptr taken = 0;
    CUresult result = memory->driver.mem_alloc(&taken, bytes > 0 ? bytes : 1);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        return cli_fail(error, "out of memory: the GPU has no %s left", format_bytes((double)bytes).text);
    }
    CLI_TRY(gpu_driver_check(&memory->driver, result, "taking memory", error));
    *place = (void *)(uintptr_t)taken; /* NOLINT(performance-no-int-to-ptr): the driver's addresses are numbers */
    return CLI_OK;
}

void device_memory_give(device_memory *memory, void *place) {
    if (place == NULL) return;
    if (memory->is_host) {
        free(place);
    } else {
        memory->driver.mem_free(address(place));
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
    GPU_TRY(&memory->driver, memcpy_htod(address(array->place), array->host, array->bytes), "copying to it");
    return CLI_OK;
}

cli_exit device_array_fetch(device_memory *memory, const device_array *array, cli_error *error) {
    if (memory->is_host || array->bytes == 0) return CLI_OK;
    GPU_TRY(&memory->driver, memcpy_dtoh(array->host, address(array->place), array->bytes), "copying from it");
    return CLI_OK;
}

cli_exit device_memory_copy(device_memory *memory, void *to, const void *from, size_t bytes, cli_error *error) {
    if (memory->is_host) {
        memcpy(to, from, bytes);
        return CLI_OK;
    }
    GPU_TRY(&memory->driver, memcpy_dtod(address(to), address(from), bytes), "copying on it");
    return CLI_OK;
}

cli_exit device_memory_free_bytes(device_memory *memory, double *bytes, cli_error *error) {
    size_t free_bytes, total_bytes;
    if (memory->is_host) {
        *bytes = host_memory_available();
        return CLI_OK;
    }
    GPU_TRY(&memory->driver, mem_get_info(&free_bytes, &total_bytes), "asking for free memory");
    *bytes = (double)free_bytes;
    return CLI_OK;
}

/* ---- streams and time ---- */

pod_stream device_memory_stream(const device_memory *memory, device_stream stream) {
    return memory->streams[stream];
}

/** `later` waits for what `earlier` has been given. */
static cli_exit order(device_memory *memory, order_event event, device_stream earlier, device_stream later,
                      cli_error *error) {
    if (memory->is_host) return CLI_OK;
    CUevent done = memory->order_events[event];
    GPU_TRY(&memory->driver, event_record(done, memory->streams[earlier]), "recording an event");
    GPU_TRY(&memory->driver, stream_wait_event(memory->streams[later], done, 0), "waiting for an event");
    return CLI_OK;
}

cli_exit device_memory_fork(device_memory *memory, cli_error *error) {
    return order(memory, ORDER_FORK, STREAM_MAIN, STREAM_SIDE, error);
}

cli_exit device_memory_join(device_memory *memory, cli_error *error) {
    return order(memory, ORDER_JOIN, STREAM_SIDE, STREAM_MAIN, error);
}

cli_exit device_memory_reserve_marks(device_memory *memory, int32_t count, cli_error *error) {
    if (count <= memory->num_marks) return CLI_OK;
    mark *grown = realloc(memory->marks, (size_t)count * sizeof *grown);
    if (grown == NULL) return cli_fail_memory(error);
    memory->marks = grown;
    while (memory->num_marks < count) {
        mark made = {0, NULL};
        if (!memory->is_host) {
            GPU_TRY(&memory->driver, event_create(&made.event, CU_EVENT_DEFAULT), "making an event");
        }
        memory->marks[memory->num_marks++] = made;
    }
    return CLI_OK;
}

cli_exit device_memory_mark(device_memory *memory, int32_t index, cli_error *error) {
    mark *mark = &memory->marks[index];
    if (memory->is_host) {
        mark->host_us = stopwatch_us();
        return CLI_OK;
    }
    GPU_TRY(&memory->driver, event_record(mark->event, memory->streams[STREAM_MAIN]), "marking the time");
    return CLI_OK;
}

cli_exit device_memory_between(device_memory *memory, int32_t begin, int32_t end, double *took_us, cli_error *error) {
    const mark *marks = memory->marks;
    if (memory->is_host) {
        *took_us = marks[end].host_us - marks[begin].host_us;
        return CLI_OK;
    }
    float milliseconds;
    GPU_TRY(&memory->driver, event_synchronize(marks[end].event), "waiting for it");
    GPU_TRY(&memory->driver, event_elapsed_time(&milliseconds, marks[begin].event, marks[end].event),
            "reading its clock");
    *took_us = (double)milliseconds * 1e3;
    return CLI_OK;
}

cli_exit device_memory_begin(device_memory *memory, cli_error *error) {
    CLI_TRY(device_memory_reserve_marks(memory, 2, error));
    return device_memory_mark(memory, 0, error);
}

cli_exit device_memory_end(device_memory *memory, double *took_us, cli_error *error) {
    CLI_TRY(device_memory_mark(memory, 1, error));
    return device_memory_between(memory, 0, 1, took_us, error);
}
