/* SPDX-License-Identifier: Apache-2.0 */
/* The steps that a scheduler makes of a trace, as a file of batches. */
#ifndef CLI_REPLAY_BATCHES_H
#define CLI_REPLAY_BATCHES_H

#include "run/replay.h"

typedef struct replay_batches {
    const char *path;
    int64_t every;                  /**< each that many-th step is written */
    int64_t max_steps;              /**< steps that are made at most */
    int64_t num_steps, num_batches; /**< out: made, and written */
} replay_batches;

/** Of a replay that replay_schedule() made. The file must not be there yet, and appears whole or not at all. */
cli_exit replay_batches_write(replay *replay, replay_batches *batches, cli_error *error);

void replay_batches_text(const replay_batches *batches, FILE *file);
void replay_batches_json(const replay_batches *batches, FILE *file);

#endif
