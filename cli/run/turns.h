/* SPDX-License-Identifier: Apache-2.0 */
/* Times several ways to compute by turns, so that a change of the machine's speed meets all of them. */
#ifndef CLI_TURNS_H
#define CLI_TURNS_H

#include "run/device_memory.h"

/** Something that can be computed again and again. */
typedef struct turn_player {
    cli_exit (*queue)(void *context, int64_t turn, cli_error *error);
    void *context;
    double *took_us; /**< [repeat], out */
} turn_player;

typedef struct turns {
    device_memory *memory;
    const turn_player *players;
    int32_t num_players;
    int32_t warmup, repeat; /**< turns before the timed ones, and timed turns, in each of which everyone plays once */
    int shows_progress;
} turns;

/** Fills the players' times. A GPU is given many turns at the same time and never waits for the host between the marks
 * of one. */
cli_exit turns_play(const turns *turns, cli_error *error);

/** What many turns say of one player, or of its ratio to another one. */
typedef struct turn_summary {
    double median, p10, p90;
} turn_summary;

/** Of `count` values; `base` is NULL, or what each is divided by. `scratch` has room for `count`. */
turn_summary turns_summarise(const double *values, const double *base, int32_t count, double *scratch);

#endif
