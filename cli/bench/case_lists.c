/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/case_lists.h"

#include "bench/kv_memory.h"

#include <stdio.h>

#define COUNT(array) (int)(sizeof(array) / sizeof(array)[0])

enum { PAGE_TOKENS = 16 };

static const int32_t chunks[] = {512, 1024, 2048};
static const int32_t contexts[] = {4096, 8192, 12288, 16384, 20480};

/** `param` is a number, or 0 for none. */
static cli_exit add(bench_cases *cases, const char *model, int32_t param, int32_t prefill_q, int32_t prefill_kv,
                    int32_t decode_n, int32_t decode_kv, cli_error *error) {
    char text[16] = "";
    batch_spec spec = batch_spec_default();
    spec.page_size = PAGE_TOKENS;
    if (param > 0) snprintf(text, sizeof text, "%d", param);
    cli_exit code = batch_spec_set_model(&spec, "model", model, error);
    if (code == CLI_OK) code = batch_spec_add(&spec, model, 1, prefill_q, prefill_kv, error);
    if (code == CLI_OK) code = batch_spec_add(&spec, model, decode_n, 1, decode_kv, error);
    if (code == CLI_OK) return bench_cases_add(cases, NULL, text, &spec, error);
    batch_spec_free(&spec);
    return code;
}

/** Decodes that, with the prefill, take `percent` of the KV memory. */
static cli_exit count_decodes(const char *model, int32_t percent, int32_t context, int32_t *count, cli_error *error) {
    double tokens;
    CLI_TRY(kv_memory_tokens(model, &tokens, error));
    *count = (int32_t)(tokens * percent / 100 / context) - 1;
    if (*count < 1) *count = 1;
    return CLI_OK;
}

cli_exit list_utilisation(bench *bench, bench_cases *cases, cli_error *error) {
    (void)bench;
    static const char model[] = "llama-3-8b:tp2";
    CLI_TRY(add(cases, model, 0, 1024, 12288, 80, 12288, error));
    CLI_TRY(add(cases, model, 0, 12288, 12288, 220, 12288, error));
    return add(cases, model, 0, 16384, 16384, 250, 12288, error);
}

cli_exit list_chunk_waves(bench *bench, bench_cases *cases, cli_error *error) {
    enum { CHUNK = 512, PROMPT = 16384, SHORT_STEP = 4 };
    static const int32_t counts[] = {54, 55}, small_counts[] = {52, 56}; /* which stay two when divided */
    int32_t step = bench->is_short ? SHORT_STEP : 1;
    for (int i = 0; i < COUNT(counts); i++) {
        int32_t decodes = cases->is_small ? small_counts[i] : counts[i];
        for (int32_t chunk = step; chunk * CHUNK <= PROMPT; chunk += step) {
            CLI_TRY(add(cases, "yi-6b", chunk, CHUNK, chunk * CHUNK, decodes, PROMPT, error));
        }
    }
    return CLI_OK;
}

cli_exit list_decode_tiles(bench *bench, bench_cases *cases, cli_error *error) {
    static const struct {
        const char *model;
        int32_t group;
    } models[] = {{"llama-2-7b", 1}, {"llama-3-8b", 4}, {"yi-6b", 8}};
    for (int m = 0; m < COUNT(models); m++) {
        for (int32_t context = 4096; context <= 16384; context *= bench->is_short ? 4 : 2) {
            int32_t decodes;
            CLI_TRY(count_decodes(models[m].model, 95, context, &decodes, error));
            CLI_TRY(add(cases, models[m].model, models[m].group, 1024, context, decodes, context, error));
        }
    }
    return CLI_OK;
}

/** Models with their ranks, each on one GPU of so many. */
static const char *const sweep_models[] = {"llama-3-8b", "llama-3-8b:tp2", "llama-3-8b:tp4", "llama-3-8b:tp8",
                                           "yi-6b",      "yi-6b:tp2",      "yi-6b:tp4"};
static const int32_t percents[] = {90, 95, 100};

static cli_exit add_sweep(bench_cases *cases, int m, int32_t chunk, int32_t context, int32_t percent,
                          cli_error *error) {
    int32_t decodes;
    CLI_TRY(count_decodes(sweep_models[m], percent, context, &decodes, error));
    return add(cases, sweep_models[m], percent, chunk, context, decodes, context, error);
}

/** Every model with every chunk; contexts and percents take turns. */
static cli_exit list_short_sweep(bench_cases *cases, cli_error *error) {
    int turn = 0;
    for (int m = 0; m < COUNT(sweep_models); m++) {
        for (int k = 0; k < COUNT(chunks); k++, turn++) {
            int32_t context = contexts[turn % COUNT(contexts)], percent = percents[(turn + m) % COUNT(percents)];
            CLI_TRY(add_sweep(cases, m, chunks[k], context, percent, error));
        }
    }
    return CLI_OK;
}

cli_exit list_sweep(bench *bench, bench_cases *cases, cli_error *error) {
    if (bench->is_short) return list_short_sweep(cases, error);
    for (int p = 0; p < COUNT(percents); p++) {
        for (int m = 0; m < COUNT(sweep_models); m++) {
            for (int i = 0; i < COUNT(chunks) * COUNT(contexts); i++) {
                CLI_TRY(add_sweep(cases, m, chunks[i / COUNT(contexts)], contexts[i % COUNT(contexts)], percents[p],
                                  error));
            }
        }
    }
    return CLI_OK;
}

cli_exit list_ctas_per_sm(bench *bench, bench_cases *cases, cli_error *error) {
    for (int k = 0; k < COUNT(chunks); k++) {
        for (int i = bench->is_short; i < COUNT(contexts); i += 1 + bench->is_short) {
            int32_t decodes;
            CLI_TRY(count_decodes("llama-3-8b", 95, contexts[i], &decodes, error));
            CLI_TRY(add(cases, "llama-3-8b", 0, chunks[k], contexts[i], decodes, contexts[i], error));
        }
    }
    return CLI_OK;
}

cli_exit list_ticket_policy(bench *bench, bench_cases *cases, cli_error *error) {
    enum { CONTEXT = 8192 };
    static const int32_t counts[] = {8, 16, 24, 32, 48, 64, 96, 128};
    for (int k = 0; k < COUNT(chunks); k++) {
        if (bench->is_short && chunks[k] != 1024) continue;
        for (int i = 0; i < COUNT(counts); i++) {
            CLI_TRY(add(cases, "llama-3-8b", counts[i], chunks[k], CONTEXT, counts[i], CONTEXT, error));
        }
    }
    return CLI_OK;
}

typedef struct kernel_list {
    bench_cases *cases;
    cli_exit code;
    cli_error *error;
} kernel_list;

/** Of f16 kernels too the cache's bits are bf16 numbers: read as f16, others, and as finite. */
static int add_kernel(void *context, const pod_kernel_info *kernel) {
    enum { Q_HEADS = 32, KV_HEADS = 8, LATENT_Q_HEADS = 16, CHUNK = 1024, CONTEXT = 4096, DECODES = 32 };
    int is_latent = kernel->v_head_dim > 0;
    kernel_list *list = context;
    batch_spec spec = batch_spec_default();
    spec.page_size = PAGE_TOKENS;
    if (kernel->head_dim > 0) {
        spec.head_dim = kernel->head_dim;
        spec.v_head_dim = kernel->v_head_dim;
        spec.values_in_keys = is_latent;
        spec.dtype = kernel->dtype;
        spec.has_kv_dtype = kernel->kv_dtype != kernel->dtype;
        spec.kv_dtype = kernel->kv_dtype;
    }
    cli_exit code = batch_spec_set_heads(&spec, kernel->name, is_latent ? LATENT_Q_HEADS : Q_HEADS,
                                         is_latent ? 1 : KV_HEADS, list->error);
    if (code == CLI_OK) code = batch_spec_add(&spec, kernel->name, 1, CHUNK, CONTEXT, list->error);
    if (code == CLI_OK) code = batch_spec_add(&spec, kernel->name, DECODES, 1, CONTEXT, list->error);
    if (code == CLI_OK) {
        code = bench_cases_add(list->cases, kernel->name, "", &spec, list->error);
        if (code == CLI_OK) list->cases->cases[list->cases->count - 1].kernel = *kernel;
    } else {
        batch_spec_free(&spec);
    }
    list->code = code;
    return code != CLI_OK;
}

cli_exit list_kernels(bench *bench, bench_cases *cases, cli_error *error) {
    kernel_list list = {.cases = cases, .error = error};
    cases->is_small |= bench->is_short;
    if (pod_device_visit_kernels(bench->device.device, add_kernel, &list) != POD_OK) return cli_fail_library(error);
    return list.code;
}
