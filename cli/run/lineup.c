/* SPDX-License-Identifier: Apache-2.0 */
#include "run/lineup.h"

#include "run/turns.h"

#include <stdlib.h>

int lineup_is_computed(const device_memory *memory, engine_way way) {
    return !device_memory_is_host(memory) || (way != WAY_SERIAL && way != WAY_STREAMS);
}

static cli_exit queue_variant(void *context, int64_t turn, cli_error *error) {
    const lineup_variant *variant = context;
    const pod_limits *limits = &variant->engine->limits;
    layer layer = variant->layer;
    if (variant->num_copies > 1) {
        int64_t tokens = turn % variant->num_copies * variant->copy_stride_tokens;
        int64_t bytes = tokens * limits->kv_heads * (int64_t)pod_dtype_size(limits->kv_dtype);
        layer.cache.k = (char *)layer.cache.k + bytes * limits->head_dim;
        if (layer.cache.v != NULL) layer.cache.v = (char *)layer.cache.v + bytes * limits->v_head_dim;
    }
    return engine_queue(variant->engine, variant->way, &layer, error);
}

static int32_t find_way(const lineup *lineup, const engine *engine, engine_way way) {
    for (int32_t v = 0; v < lineup->num_variants; v++) {
        if (lineup->variants[v].engine == engine && lineup->variants[v].way == way) return v;
    }
    return -1;
}

const double *lineup_times(const lineup *lineup, int32_t variant) {
    return variant < 0 ? NULL : lineup->took_us + (int64_t)variant * lineup->repeat;
}

/** Serial, where the device does not compute it, is the sum of the sides. */
static void add_sides(lineup *lineup) {
    for (int32_t v = 0; v < lineup->num_variants; v++) {
        const lineup_variant *variant = &lineup->variants[v];
        if (variant->way != WAY_SERIAL || lineup_is_computed(lineup->memory, WAY_SERIAL)) continue;
        const double *prefill_us = lineup_times(lineup, find_way(lineup, variant->engine, WAY_PREFILL));
        const double *decode_us = lineup_times(lineup, find_way(lineup, variant->engine, WAY_DECODE));
        double *sum_us = lineup->took_us + (int64_t)v * lineup->repeat;
        for (int32_t i = 0; i < lineup->repeat && prefill_us != NULL && decode_us != NULL; i++) {
            sum_us[i] = prefill_us[i] + decode_us[i];
        }
    }
}

cli_exit lineup_time(lineup *lineup, cli_error *error) {
    turn_player players[LINEUP_MAX_VARIANTS];
    turns turns = {lineup->memory, players, 0, lineup->warmup, lineup->repeat, lineup->shows_progress};
    lineup->took_us = calloc((size_t)lineup->num_variants * (size_t)lineup->repeat, sizeof(double));
    if (lineup->took_us == NULL) return cli_fail_memory(error);
    for (int32_t v = 0; v < lineup->num_variants; v++) {
        lineup_variant *variant = &lineup->variants[v];
        if (!lineup_is_computed(lineup->memory, variant->way) || !engine_has_work(variant->engine, variant->way))
            continue;
        double *took_us = lineup->took_us + (int64_t)v * lineup->repeat;
        players[turns.num_players++] = (turn_player){queue_variant, variant, took_us};
    }
    CLI_TRY(turns_play(&turns, error));
    add_sides(lineup);
    return CLI_OK;
}
