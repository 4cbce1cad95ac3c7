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
/* What a cache of e4m3 reads of bf16 numbers is 64 to 80 in the root of its mean square. */
static const float f8_scale = 0x1p-6f;

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

/** A normal number whose two bytes are numbers of e4m3 too. */
static uint16_t random_element(pod_prng *random) {
    uint16_t bits = pod__float_to_bf16((float)pod__prng_normal(random));
    return (bits & 0x7f) == 0x7f ? bits - 1 : bits; /* 0x7f and 0xff are NaN; the upper byte is neither */
}

static cli_exit send(device_memory *memory, const void *from, size_t bytes, void *to, cli_error *error) {
    if (!device_memory_is_host(memory)) {
        device_array array = {(void *)(uintptr_t)from, to, bytes};
        return device_array_send(memory, &array, error);
    }
    memcpy(to, from, bytes);
    return CLI_OK;
}

/** A block of random numbers from the host, then copies of what is there. */
static cli_exit fill(arena *arena, cli_error *error) {
    size_t bytes = arena->random_bytes, filled = BLOCK_ELEMENTS * sizeof(uint16_t);
    if (filled > bytes) filled = bytes;
    uint16_t *block = malloc(filled);
    if (block == NULL) return cli_fail_memory(error);
    pod_prng random = pod__prng_seed(1);
    for (size_t i = 0; i < filled / sizeof *block; i++) {
        block[i] = random_element(&random);
    }
    cli_exit code = send(arena->memory, block, filled, arena->random, error);
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
    CLI_TRY(fill(arena, error));
    CLI_TRY(device_memory_take(arena->memory, sizeof f8_scale, &arena->scale, error));
    return send(arena->memory, &f8_scale, sizeof f8_scale, arena->scale, error);
}

layer arena_layer(const arena *arena, const batch_spec *spec) {
    layer layer = layer_init();
    layer.tensors.q = arena->random;
    layer.cache.k = arena->random;
    if (!spec->values_in_keys) layer.cache.v = arena->random + arena->random_bytes / 2 / SIDE_ALIGN * SIDE_ALIGN;
    layer.tensors.out = arena->out;
    if (batch_spec_kv_dtype(spec) != POD_F8E4M3) return layer;
    layer.cache.k_scale = arena->scale;
    if (!spec->values_in_keys) layer.cache.v_scale = arena->scale;
    return layer;
}

void arena_free(arena *arena) {
    device_memory_give(arena->memory, arena->random);
    device_memory_give(arena->memory, arena->out);
    device_memory_give(arena->memory, arena->scale);
    *arena = (struct arena){.memory = arena->memory};
}
