/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/fusion.h"

#include <stdlib.h>

static const struct {
    const char *name, *kernel; /**< NULL: two launches */
    unsigned grid;
} strategies[NUM_FUSION_STRATEGIES] = {
    [FUSION_COMPUTE] = {"compute", "fusion_compute", FUSION_ITEMS / 2},
    [FUSION_MEMORY] = {"memory", "fusion_memory", FUSION_ITEMS / 2},
    [FUSION_SERIAL] = {"serial", NULL, 0},
    [FUSION_STREAMS] = {"streams", NULL, 0},
    [FUSION_CTA_PARALLEL] = {"cta_parallel", "fusion_cta_parallel", FUSION_ITEMS},
    [FUSION_THREAD] = {"thread", "fusion_thread", FUSION_ITEMS / 2},
    [FUSION_SM_AWARE] = {"sm_aware", "fusion_sm_aware", FUSION_ITEMS},
    [FUSION_WARP_SPECIALISED] = {"warp_specialised", "fusion_warp_specialised", FUSION_ITEMS},
};

const char *fusion_name(fusion_strategy strategy) {
    return strategies[strategy].name;
}

static cli_exit load(fusion *fusion, cli_error *error) {
    const gpu_driver *driver = fusion->driver;
    GPU_TRY(driver, module_load_data(&fusion->module, fusion_image), "loading the micro-benchmark");
    for (int s = 0; s < NUM_FUSION_STRATEGIES; s++) {
        CUfunction *function = &fusion->functions[s];
        if (strategies[s].kernel == NULL) continue;
        GPU_TRY(driver, module_get_function(function, fusion->module, strategies[s].kernel), "finding a kernel");
        GPU_TRY(driver,
                func_set_attribute(*function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, FUSION_SHARED_BYTES),
                "asking for shared memory");
    }
    return CLI_OK;
}

static cli_exit make_counters(fusion *fusion, cli_error *error) {
    fusion_counters zeros = {.finished = 0};
    device_array array = {.host = &zeros, .bytes = sizeof zeros};
    CLI_TRY(device_memory_take(fusion->memory, sizeof zeros, &fusion->counters, error));
    array.place = fusion->counters;
    return device_array_send(fusion->memory, &array, error);
}

cli_exit fusion_open(device_memory *memory, void *arrays, fusion *made, cli_error *error) {
    int gpu;
    float *floats = arrays;
    made->memory = memory;
    made->driver = device_memory_driver(memory, &gpu);
    if (made->driver == NULL || fusion_image == NULL) return cli_fail(error, "this build has no kernels for it");
    CLI_TRY(load(made, error));
    CLI_TRY(make_counters(made, error));
    made->params = (fusion_params){
        .a = floats, .b = floats + FUSION_FLOATS, .c = floats + (size_t)2 * FUSION_FLOATS, .counters = made->counters};
    return CLI_OK;
}

void fusion_close(fusion *fusion) {
    if (fusion->module != NULL) fusion->driver->module_unload(fusion->module);
    device_memory_give(fusion->memory, fusion->counters);
}

static cli_exit launch(fusion *fusion, fusion_strategy strategy, device_stream stream, cli_error *error) {
    void *arguments[] = {&fusion->params};
    GPU_TRY(fusion->driver,
            launch_kernel(fusion->functions[strategy], strategies[strategy].grid, 1, 1, FUSION_THREADS, 1, 1,
                          FUSION_SHARED_BYTES, device_memory_stream(fusion->memory, stream), arguments, NULL),
            "launching the micro-benchmark");
    return CLI_OK;
}

cli_exit fusion_queue(fusion *fusion, fusion_strategy strategy, cli_error *error) {
    if (strategies[strategy].kernel != NULL) return launch(fusion, strategy, STREAM_MAIN, error);
    if (strategy == FUSION_SERIAL) {
        CLI_TRY(launch(fusion, FUSION_COMPUTE, STREAM_MAIN, error));
        return launch(fusion, FUSION_MEMORY, STREAM_MAIN, error);
    }
    CLI_TRY(device_memory_fork(fusion->memory, error));
    CLI_TRY(launch(fusion, FUSION_COMPUTE, STREAM_MAIN, error));
    CLI_TRY(launch(fusion, FUSION_MEMORY, STREAM_SIDE, error));
    return device_memory_join(fusion->memory, error);
}

/* ---- check ---- */

static const size_t array_bytes = FUSION_FLOATS * sizeof(float);

static cli_exit fetch(fusion *fusion, const float *from, float *to, cli_error *error) {
    const device_array array = {to, (void *)(uintptr_t)from, array_bytes};
    return device_array_fetch(fusion->memory, &array, error);
}

/** Spoils c with a: no sum is the same, as no b is zero. */
static cli_exit check_strategy(fusion *fusion, fusion_strategy strategy, const float *sums, float *c,
                               cli_error *error) {
    double unused_us;
    CLI_TRY(device_memory_copy(fusion->memory, fusion->params.c, fusion->params.a, array_bytes, error));
    CLI_TRY(device_memory_begin(fusion->memory, error));
    CLI_TRY(fusion_queue(fusion, strategy, error));
    CLI_TRY(device_memory_end(fusion->memory, &unused_us, error));
    CLI_TRY(fetch(fusion, fusion->params.c, c, error));
    for (size_t i = 0; i < FUSION_FLOATS; i++) {
        if (c[i] == sums[i]) continue;
        return cli_fail(error, "the micro-benchmark's way %s computes a wrong sum", fusion_name(strategy));
    }
    return CLI_OK;
}

static cli_exit check_strategies(fusion *fusion, float *sums, float *c, cli_error *error) {
    fusion->params.iterations = 1;
    CLI_TRY(fetch(fusion, fusion->params.a, sums, error));
    CLI_TRY(fetch(fusion, fusion->params.b, c, error));
    for (size_t i = 0; i < FUSION_FLOATS; i++) sums[i] += c[i];
    for (int s = FUSION_MEMORY; s < NUM_FUSION_STRATEGIES; s++) {
        CLI_TRY(check_strategy(fusion, (fusion_strategy)s, sums, c, error));
    }
    return CLI_OK;
}

cli_exit fusion_check(fusion *fusion, cli_error *error) {
    float *sums = malloc(array_bytes), *c = malloc(array_bytes);
    cli_exit code = sums != NULL && c != NULL ? check_strategies(fusion, sums, c, error) : cli_fail_memory(error);
    free(sums);
    free(c);
    return code;
}
