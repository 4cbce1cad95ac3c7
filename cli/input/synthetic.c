/* SPDX-License-Identifier: Apache-2.0 */
#include "input/synthetic.h"

#include "base/prng.h"

#include <string.h>

/** exp(N(log(median), sigma)), drawn again until it is in [low, high]. */
typedef struct log_normal {
    double median, sigma;
    double low, high;
} log_normal;

/** With `tail_share`, a request's answer comes from `tail` instead. */
typedef struct trace_model {
    const char *kind;
    log_normal prefill, decode, decode_tail;
    double tail_share;
} trace_model;

static const trace_model trace_models[] = {
    /* POD-Attention's arXiv summarisation sample, 2,895 requests. Prompts: mean 10,041 and standard deviation 5,551, as
     * the truncated log-normal has them; its quartiles are 5,934, 8,328, 12,398 (sample: 5,730, 7,958, 13,182).
     * Answers: 97.8 % of mean 382, and a tail from 2,000 up of mean 4,420; together 471 with standard deviation 711. */
    {"arxiv", {6715, 0.7251, 4097, 32768}, {338, 0.4955, 1, 2000}, {3926, 0.487, 1, 12000}, 0.022},
    /* Azure's 2023 conversation trace, 19,366 requests: prompts of mean 1,155 and standard deviation 1,109, answers of
     * mean 211 and standard deviation 163. */
    {"chat", {833, 0.8083, 1, 16384}, {167, 0.6833, 1, 4096}, {167, 0.6833, 1, 4096}, 0},
};

static int32_t draw(const log_normal *distribution, pod_prng *random) {
    double value;
    do {
        value = distribution->median * exp(distribution->sigma * pod__prng_normal(random));
    } while (value < distribution->low || value > distribution->high);
    return (int32_t)lround(value);
}

static const trace_model *find_model(const char *kind) {
    for (size_t i = 0; i < sizeof trace_models / sizeof trace_models[0]; i++) {
        if (strcmp(kind, trace_models[i].kind) == 0) return &trace_models[i];
    }
    return NULL;
}

cli_exit synthetic_make(const char *kind, int32_t num_requests, int64_t seed, trace *trace, cli_error *error) {
    const trace_model *model = find_model(kind);
    if (model == NULL) return cli_fail(error, "--synthetic \"%.64s\" is neither arxiv nor chat", kind);
    pod_prng random = pod__prng_seed((uint64_t)seed);
    trace->format = TRACE_SYNTHETIC;
    for (int32_t i = 0; i < num_requests; i++) {
        trace_request request = {.line = i + 1};
        request.prefill_tokens = draw(&model->prefill, &random);
        int is_tail = pod__prng_uniform(&random) <= model->tail_share;
        request.decode_tokens = draw(is_tail ? &model->decode_tail : &model->decode, &random);
        CLI_TRY(trace_add(trace, request, error));
    }
    return CLI_OK;
}
