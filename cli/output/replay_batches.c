/* SPDX-License-Identifier: Apache-2.0 */
#include "output/replay_batches.h"

#include "input/batch_file.h"
#include "input/csv_name.h"
#include "output/file_writer.h"
#include "output/format.h"
#include "output/json_writer.h"

#include <unistd.h>

/** The file has shapes, windows and lengths; whatever else changes what is computed would be lost. */
static cli_exit check_spec(const batch_spec *spec, cli_error *error) {
    int is_plain = spec->causal && spec->softcap == 0 && spec->scale == 0 && spec->right_window_tokens == 0;
    if (is_plain && !spec->has_sinks && !spec->has_alibi) return CLI_OK;
    return cli_fail(error, "--write-batches: a batch file cannot say --no-causal, --softcap, --scale and --sinks");
}

static void write_heading(const replay *replay, const replay_batches *batches, FILE *file) {
    const scheduler_config *config = &replay->config;
    fprintf(file, "# Steps of %s (%s): requests %d, chunks of %d tokens, at most %d requests at the same time,\n",
            replay->options.trace_name, trace_format_name(replay->trace->format), replay->trace->num_requests,
            config->chunk_tokens, config->max_batch);
    fprintf(file, "# a cache of %d pages x %d tokens; one of %lld steps is here\n%s\n", config->num_pages,
            config->page_size, (long long)batches->every, BATCH_FILE_HEADING);
}

static cli_exit write_step(const pod_batch *batch, int64_t step, batch_spec *spec, FILE *file, cli_error *error) {
    char name[32];
    spec->num_requests = 0;
    for (int32_t r = 0; r < batch->num_requests; r++) {
        CLI_TRY(batch_spec_add(spec, "", 1, batch->q_start[r + 1] - batch->q_start[r], batch->kv_len[r], error));
    }
    snprintf(name, sizeof name, "step%lld", (long long)step);
    batch_file_write_line(name, spec, file);
    return CLI_OK;
}

static cli_exit write_steps(replay *replay, replay_batches *batches, FILE *file, cli_error *error) {
    batch_spec spec = *replay->options.spec;
    spec.requests = NULL;
    spec.num_requests = spec.capacity = 0;
    cli_exit code = CLI_OK;
    write_heading(replay, batches, file);
    while (code == CLI_OK && batches->num_steps < batches->max_steps && replay_next(replay)) {
        if (++batches->num_steps % batches->every != 0) continue;
        batches->num_batches++;
        code = write_step(&replay->scheduler.batch, batches->num_steps, &spec, file, error);
    }
    batch_spec_free(&spec);
    if (code == CLI_OK && batches->num_batches == 0) {
        code = cli_fail(error, "--every %lld leaves none of %lld steps", (long long)batches->every,
                        (long long)batches->num_steps);
    }
    return code;
}

cli_exit replay_batches_write(replay *replay, replay_batches *batches, cli_error *error) {
    text_buffer text;
    CLI_TRY(check_spec(replay->options.spec, error));
    CLI_TRY(csv_name_check("TRACE", replay->options.trace_name, error)); /* which the heading names */
    if (access(batches->path, F_OK) == 0) return cli_fail(error, "--write-batches: %.300s exists", batches->path);
    CLI_TRY(text_begin(&text, error));
    cli_exit code = write_steps(replay, batches, text.file, error);
    if (code == CLI_OK) code = text_end(&text, error);
    if (code == CLI_OK) code = file_write(batches->path, &text, error);
    text_free(&text);
    return code;
}

void replay_batches_text(const replay_batches *batches, FILE *file) {
    fprintf(file, "%s: batches %s, of steps %s\n", batches->path, format_count(batches->num_batches).text,
            format_count(batches->num_steps).text);
}

void replay_batches_json(const replay_batches *batches, FILE *file) {
    json_writer json = json_begin(file);
    json_text(&json, "command", "replay");
    json_text(&json, "file", batches->path);
    json_int(&json, "num_batches", batches->num_batches);
    json_int(&json, "num_steps", batches->num_steps);
    json_end(&json);
}
