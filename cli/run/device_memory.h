/* SPDX-License-Identifier: Apache-2.0 */
/* A device's memory, streams and clock, so that a command has one way through. A GPU's come from its driver, loaded at
 * run time: events time the work. On a CPU they are the host's own, and whatever concerns streams does nothing. */
#ifndef CLI_DEVICE_MEMORY_H
#define CLI_DEVICE_MEMORY_H

#include "cli_error.h"
#include "podattn.h"
#include "run/gpu_driver.h"

typedef struct device_memory device_memory;

/** Of the device that was opened under `name`. On error `*memory` is NULL. */
cli_exit device_memory_open(const char *name, const pod_device_info *info, device_memory **memory, cli_error *error);
/** NULL is allowed; all arrays must have been given back. */
void device_memory_close(device_memory *memory);

int device_memory_is_host(const device_memory *memory);
/** Of the GPU, counted from 0. */
int device_memory_ordinal(const device_memory *memory);
/** The driver and its number for the GPU; NULL on a CPU. */
const gpu_driver *device_memory_driver(const device_memory *memory, int *gpu);

/** Takes at least `bytes`, aligned to POD_WORKSPACE_ALIGN. */
cli_exit device_memory_take(device_memory *memory, size_t bytes, void **place, cli_error *error);
/** NULL is allowed. */
void device_memory_give(device_memory *memory, void *place);

cli_exit device_memory_copy(device_memory *memory, void *to, const void *from, size_t bytes, cli_error *error);
/** How much could be taken now. */
cli_exit device_memory_free_bytes(device_memory *memory, double *bytes, cli_error *error);

/** An array in host memory and its place on the device; on a CPU both are the same. */
typedef struct device_array {
    void *host, *place;
    size_t bytes;
} device_array;

/** Finds a place for the host's array and sends it there. */
cli_exit device_array_make(device_memory *memory, void *host, size_t bytes, device_array *array, cli_error *error);
void device_array_free(device_memory *memory, device_array *array);
cli_exit device_array_send(device_memory *memory, const device_array *array, cli_error *error);
cli_exit device_array_fetch(device_memory *memory, const device_array *array, cli_error *error);

/** Two streams: work on the second one belongs between fork and join. */
typedef enum device_stream { STREAM_MAIN = 0, STREAM_SIDE = 1 } device_stream;
enum { NUM_STREAMS = 2 };

pod_stream device_memory_stream(const device_memory *memory, device_stream stream);
/** The side stream waits for what the main stream has been given. */
cli_exit device_memory_fork(device_memory *memory, cli_error *error);
/** The main stream waits for what the side stream has been given. */
cli_exit device_memory_join(device_memory *memory, cli_error *error);

/** Marks are points in the main stream's time, numbered by the caller from 0 up. */
cli_exit device_memory_reserve_marks(device_memory *memory, int32_t count, cli_error *error);
cli_exit device_memory_mark(device_memory *memory, int32_t index, cli_error *error);
/** Waits for the later mark and says how long it took since the earlier one. */
cli_exit device_memory_between(device_memory *memory, int32_t begin, int32_t end, double *took_us, cli_error *error);

/** One span of the main stream's time, in marks 0 and 1: begin, then end, which waits for it. */
cli_exit device_memory_begin(device_memory *memory, cli_error *error);
cli_exit device_memory_end(device_memory *memory, double *took_us, cli_error *error);

#endif
