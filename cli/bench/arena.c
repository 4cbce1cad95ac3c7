/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/arena.h"

#include "base/dtype.h"
#include "base/prng.h"
#include "output/format.h"

#include <math.h>
#include <stdlib.h>

/* What plans and tables may take: this much, but no larger part of what is free. */
static const double bytes_for_plans = 3e9, part_for_plans = 0.1;
enum { BLOCK_ELEMENTS = 1 << 22, SIDE_ALIGN = 256 };

arena_need arena_larger(arena_need a, arena_need b) {
    return (arena_need){fmax(a.side_bytes, b.side_bytes), fmax(a.q_bytes, b.q_bytes)};
}

static double random_bytes(arena_need need) {
    return fmax(2 * (ceil(need.side_bytes / SIDE_ALIGN) * SIDE_ALIGN), need.q_bytes);
}

cli_exit arena_check(const arena *arena, arena_need need, cli_error *error) {
    double free_bytes;
    CLI_TRY(device_memory_free_bytes(arena->memory, &free_bytes, error));
    double room = free_bytes + (double)arena->random_bytes + (double)arena->out_bytes;
    room -= fmin(bytes_for_plans, part_for_plans * room);
    double bytes = random_bytes(need) + need.q_bytes;
    if (bytes <= room) return CLI_OK;
    return cli_fail(error, "needs %s of memory, and there are %s", format_bytes(bytes).text, format_bytes(room).text);
}

/** A block of random numbers from the host, then copies of what is there. */
static cli_exit fill(arena *arena, cli_error *error) {
    size_t bytes = arena->random_bytes, filled = BLOCK_ELEMENTS * sizeof(uint16_t);
    if (filled > bytes) filled = bytes;
    uint16_t *block = malloc(filled);
    if (block == NULL) return cli_fail_memory(error);
    pod_prng random = pod__prng_seed(1);
    for (size_t i = 0; i < filled / sizeof *block; i++) {
        pod__store(block, POD_BF16, (int64_t)i, (float)pod__prng_normal(&random));
    }
    device_array array = {block, arena->random, filled};
    cli_exit code = CLI_OK;
    if (device_memory_is_host(arena->memory)) {
        memcpy(arena->random, block, filled);
    } else {
        code = device_array_send(arena->memory, &array, error);
    }
    free(block);
    while (code == CLI_OK && filled < bytes) {
        size_t count = bytes - filled < filled ? bytes - filled : filled;
        code = device_memory_copy(arena->memory, arena->random + filled, arena->random, count, error);
        filled += count;
    }
    return code;
}

cli_exit arena_reserve(arena *arena, arena_need need, cli_error *error) {
    size_t wanted = (size_t)random_bytes(need), out_bytes = (size_t)need.q_bytes;
    if (wanted <= arena->random_bytes && out_bytes <= arena->out_bytes) return CLI_OK;
    arena_free(arena);
    void *place;
    CLI_TRY(device_memory_take(arena->memory, wanted, &place, error));
    arena->random = place;
    arena->random_bytes = wanted;
    CLI_TRY(device_memory_take(arena->memory, out_bytes, &arena->out, error));
    arena->out_bytes = out_bytes;
    return fill(arena, error);
}

layer arena_layer(const arena *arena) {
    layer layer = layer_init();
    layer.tensors.q = arena->random;
    layer.cache.k = arena->random;
    layer.cache.v = arena->random + arena->random_bytes / 2 / SIDE_ALIGN * SIDE_ALIGN;
    layer.tensors.out = arena->out;
    return layer;
}

void arena_free(arena *arena) {
    device_memory_give(arena->memory, arena->random);
    device_memory_give(arena->memory, arena->out);
    *arena = (struct arena){.memory = arena->memory};
}
