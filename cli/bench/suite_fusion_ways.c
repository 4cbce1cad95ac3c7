/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suite_fusion_ways.h"

#include "bench/fusion.h"
#include "run/turns.h"

#include <math.h>
#include <stdlib.h>

/** A strategy as a player of turns. */
typedef struct player {
    fusion *fusion;
    fusion_strategy strategy;
} player;

static cli_exit queue_player(void *context, int64_t turn, cli_error *error) {
    const player *player = context;
    (void)turn;
    return fusion_queue(player->fusion, player->strategy, error);
}

static void print_row(const char *name, int iterations, const char *variant, const double *took_us,
                      const double *ideal_us, int32_t repeat, double *scratch, FILE *file) {
    turn_summary times = turns_summarise(took_us, NULL, repeat, scratch);
    turn_summary ratio = turns_summarise(took_us, ideal_us, repeat, scratch);
    fprintf(file, "%s;%d;%s;%d;%.3f;%.3f;%.3f;%.4f;%.4f;%.4f\n", name, iterations, variant, repeat, times.median,
            times.p10, times.p90, ratio.median, ratio.p10, ratio.p90);
}

/** The ideal is the longer side alone, in the same turn. */
static cli_exit write_case(bench *bench, const char *name, int iterations, const double *took_us, double *ideal_us,
                           double *scratch, cli_error *error) {
    int32_t repeat = bench->repeat;
    FILE *file = bench_file_begin_case(&bench->file, error);
    if (file == NULL) return CLI_BAD_INPUT;
    for (int32_t i = 0; i < repeat; i++) {
        ideal_us[i] = fmax(took_us[FUSION_COMPUTE * repeat + i], took_us[FUSION_MEMORY * repeat + i]);
    }
    for (int s = 0; s < NUM_FUSION_STRATEGIES; s++) {
        print_row(name, iterations, fusion_name((fusion_strategy)s), took_us + (int64_t)s * repeat, ideal_us, repeat,
                  scratch, file);
    }
    print_row(name, iterations, "ideal", ideal_us, ideal_us, repeat, scratch, file);
    return bench_file_end_case(&bench->file, CLI_OK, error);
}

static cli_exit measure_case(bench *bench, fusion *fusion, const char *name, int iterations, double *took_us,
                             cli_error *error) {
    player contexts[NUM_FUSION_STRATEGIES];
    turn_player players[NUM_FUSION_STRATEGIES];
    int32_t repeat = bench->repeat;
    for (int s = 0; s < NUM_FUSION_STRATEGIES; s++) {
        contexts[s] = (player){fusion, (fusion_strategy)s};
        players[s] = (turn_player){queue_player, &contexts[s], took_us + (int64_t)s * repeat};
    }
    const turns turns = {bench->device.memory, players, NUM_FUSION_STRATEGIES, bench->warmup, repeat, 0};
    fusion->params.iterations = iterations;
    CLI_TRY(turns_play(&turns, error));
    double *ideal_us = took_us + (int64_t)NUM_FUSION_STRATEGIES * repeat;
    return write_case(bench, name, iterations, took_us, ideal_us, ideal_us + repeat, error);
}

static cli_exit measure(bench *bench, fusion *fusion, double *took_us, cli_error *error) {
    static const int all[] = {8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i += 1 + (size_t)bench->is_short) {
        char name[32];
        snprintf(name, sizeof name, "iterations=%d", all[i]);
        progress_update("fusion_ways: %s", name);
        if (bench_file_has(&bench->file, name) || bench_is_late(bench, name)) continue;
        CLI_TRY(measure_case(bench, fusion, name, all[i], took_us, error));
    }
    return CLI_OK;
}

cli_exit run_fusion_ways(bench *bench, cli_error *error) {
    const arena_need need = {1.5 * FUSION_FLOATS * sizeof(float), 0};
    fusion fusion = {.module = NULL};
    CLI_TRY(arena_check(&bench->arena, need, error));
    CLI_TRY(arena_reserve(&bench->arena, need, error));
    double *took_us = malloc((NUM_FUSION_STRATEGIES + 2) * (size_t)bench->repeat * sizeof *took_us);
    cli_exit code = took_us == NULL ? cli_fail_memory(error)
                                    : fusion_open(bench->device.memory, bench->arena.random, &fusion, error);
    if (code == CLI_OK) code = fusion_check(&fusion, error);
    if (code == CLI_OK) code = measure(bench, &fusion, took_us, error);
    fusion_close(&fusion);
    free(took_us);
    arena_free(&bench->arena); /* its numbers have been written over */
    return code;
}
