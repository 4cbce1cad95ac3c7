/* SPDX-License-Identifier: Apache-2.0 */
#include "run/turns.h"

#include "run/progress.h"
#include "run/stopwatch.h"

enum { MAX_QUEUED_CALLS = 512 };

/** Turns that a GPU is given at the same time. */
static int32_t turns_at_once(const turns *turns) {
    return turns->num_players < MAX_QUEUED_CALLS ? MAX_QUEUED_CALLS / turns->num_players : 1;
}

static cli_exit play_untimed(const turns *turns, int64_t turn, cli_error *error) {
    for (int32_t p = 0; p < turns->num_players; p++) {
        CLI_TRY(turns->players[p].queue(turns->players[p].context, turn, error));
    }
    return CLI_OK;
}

static cli_exit play_timed(const turns *turns, int64_t turn, int32_t first_mark, cli_error *error) {
    for (int32_t p = 0; p < turns->num_players; p++) {
        CLI_TRY(device_memory_mark(turns->memory, first_mark + 2 * p, error));
        CLI_TRY(turns->players[p].queue(turns->players[p].context, turn, error));
        CLI_TRY(device_memory_mark(turns->memory, first_mark + 2 * p + 1, error));
    }
    return CLI_OK;
}

/** Turns [begin, end): queued together, then read. */
static cli_exit play_block(const turns *turns, int32_t begin, int32_t end, cli_error *error) {
    int32_t marks = 2 * turns->num_players;
    for (int32_t t = begin; t < end; t++) {
        CLI_TRY(play_timed(turns, turns->warmup + t, (t - begin) * marks, error));
    }
    for (int32_t t = begin; t < end; t++) {
        for (int32_t p = 0; p < turns->num_players; p++) {
            int32_t mark = (t - begin) * marks + 2 * p;
            CLI_TRY(device_memory_between(turns->memory, mark, mark + 1, &turns->players[p].took_us[t], error));
        }
    }
    return CLI_OK;
}

cli_exit turns_play(const turns *turns, cli_error *error) {
    int32_t at_once = device_memory_is_host(turns->memory) ? 1 : turns_at_once(turns);
    CLI_TRY(device_memory_reserve_marks(turns->memory, 2 * turns->num_players * at_once, error));
    for (int32_t t = 0; t < turns->warmup; t++) {
        if (turns->shows_progress) progress_update("warm-up %d of %d", t + 1, turns->warmup);
        CLI_TRY(play_untimed(turns, t, error));
    }
    double begin_us = stopwatch_us();
    for (int32_t begin = 0; begin < turns->repeat; begin += at_once) {
        int32_t end = turns->repeat - begin > at_once ? begin + at_once : turns->repeat;
        if (turns->shows_progress) {
            progress_update("turn %d of %d%s", begin + 1, turns->repeat,
                            progress_left(begin_us, begin, turns->repeat).text);
        }
        /* Reading marks leaves a GPU idle: it gets something to do while the host queues. */
        if (at_once > 1 && (begin > 0 || turns->warmup == 0)) CLI_TRY(play_untimed(turns, begin, error));
        CLI_TRY(play_block(turns, begin, end, error));
    }
    return CLI_OK;
}

turn_summary turns_summarise(const double *values, const double *base, int32_t count, double *scratch) {
    for (int32_t i = 0; i < count; i++) scratch[i] = base != NULL ? values[i] / base[i] : values[i];
    return (turn_summary){quantile(scratch, (size_t)count, 0.5), quantile(scratch, (size_t)count, 0.1),
                          quantile(scratch, (size_t)count, 0.9)};
}
