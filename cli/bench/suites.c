/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suites.h"

#include "bench/case_lists.h"
#include "bench/suite_batches.h"
#include "bench/suite_fusion_ways.h"
#include "bench/suite_peak.h"
#include "bench/suite_trace.h"
#include "bench/suite_utilisation.h"

#include <string.h>

#define EVERY_WAY                                                                                                      \
    {"fused", WAY_FUSED, NULL}, {"serial", WAY_SERIAL, NULL}, {"streams", WAY_STREAMS, NULL},                          \
        {"prefill", WAY_PREFILL, NULL}, {                                                                              \
        "decode", WAY_DECODE, NULL                                                                                     \
    }

static const batch_variant every_way[] = {EVERY_WAY};
/* What can be varied of decode: the kernel family, and with the CTAs per SM the rows of its tiles. */
static const batch_variant decode_tiles[] = {
    EVERY_WAY,
    {"ctas=2", WAY_FUSED, "kernel=sm80,ctas=2"},
    {"ctas=4", WAY_FUSED, "kernel=sm80,ctas=4"},
    {"decode ctas=2", WAY_DECODE, "kernel=sm80,ctas=2"},
    {"decode ctas=4", WAY_DECODE, "kernel=sm80,ctas=4"},
};
static const batch_variant ctas_per_sm[] = {
    EVERY_WAY,
    {"ctas=2", WAY_FUSED, "kernel=sm80,ctas=2"},
    {"ctas=4", WAY_FUSED, "kernel=sm80,ctas=4"},
};
#ifdef POD_BASELINES
static const batch_variant ways_of_sweep[] = {EVERY_WAY, {"hfuse", WAY_FUSED, "kernel=sm80,fusion=hfuse"}};
static const batch_variant ticket_policies[] = {
    EVERY_WAY,
    {"policy=proportional", WAY_FUSED, "kernel=sm80,policy=proportional"},
    {"policy=half", WAY_FUSED, "kernel=sm80,policy=half"},
};
#else
#define ways_of_sweep every_way
#endif

#define BATCHES(variants, lister, ...)                                                                                 \
    &(const batch_suite) {                                                                                             \
        variants, sizeof(variants) / sizeof(variants)[0], lister, __VA_ARGS__                                          \
    }

/* The figures are the POD-Attention paper's. */
static const bench_suite suites[] = {
    {.name = "peak", .title = "the device's ceilings", .columns = PEAK_COLUMNS, .run = run_peak},
    {.name = "kernels",
     .title = "every kernel of the device, on one batch",
     .columns = BATCH_COLUMNS,
     .batches = BATCHES(every_way, list_kernels, NULL, NULL)},
    {.name = "utilisation",
     .title = "how busy SMs and memory are: Llama-3-8B on one of two GPUs (the paper's figure 1)",
     .columns = UTILISATION_COLUMNS,
     .batches = BATCHES(every_way, list_utilisation, utilisation_begin, utilisation_add_columns)},
#ifdef POD_BASELINES
    {.name = "fusion_ways",
     .title = "ways to run a compute-bound and a memory-bound kernel together (the paper's figure 7)",
     .columns = FUSION_WAYS_COLUMNS,
     .needs_gpu = 1,
     .run = run_fusion_ways},
#endif
    {.name = "decode_tiles",
     .title = "decode tiles (the paper's figure 10)",
     .columns = BATCH_COLUMNS,
     .needs_gpu = 1,
     .batches = BATCHES(decode_tiles, list_decode_tiles, NULL, NULL)},
    {.name = "ctas_per_sm",
     .title = "2 or 4 CTAs per SM (the paper's figure 13)",
     .columns = BATCH_COLUMNS,
     .needs_gpu = 1,
     .batches = BATCHES(ctas_per_sm, list_ctas_per_sm, NULL, NULL)},
#ifdef POD_BASELINES
    {.name = "ticket_policy",
     .title = "ticket policies (the paper's figure 14)",
     .columns = BATCH_COLUMNS,
     .needs_gpu = 1,
     .batches = BATCHES(ticket_policies, list_ticket_policy, NULL, NULL)},
#endif
    {.name = "chunk_waves",
     .title = "Yi-6B, chunk by chunk: what whole waves of CTAs cost (the paper's figure 6)",
     .columns = BATCH_COLUMNS,
     .batches = BATCHES(every_way, list_chunk_waves, NULL, NULL)},
    {.name = "sweep",
     .title = "models, chunks, contexts and batch sizes (the paper's figure 11)",
     .columns = BATCH_COLUMNS,
     .batches = BATCHES(ways_of_sweep, list_sweep, NULL, NULL)},
    {.name = "trace", .title = "every step of a trace", .columns = TRACE_COLUMNS, .takes_trace = 1, .run = run_trace},
    {.name = "batches",
     .title = "the batches of files",
     .columns = BATCHES_COLUMNS,
     .needs_batches = 1,
     .batches = BATCHES(every_way, list_batches, NULL, batches_add_columns)},
};

const bench_suite *bench_suite_at(size_t index) {
    return index < sizeof suites / sizeof suites[0] ? &suites[index] : NULL;
}

const bench_suite *bench_suite_find(const char *name) {
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        if (strcmp(suites[i].name, name) == 0) return &suites[i];
    }
    return NULL;
}

cli_exit bench_suite_run(bench *bench, const bench_suite *suite, cli_error *error) {
    return suite->batches != NULL ? batch_suite_run(bench, suite->batches, error) : suite->run(bench, error);
}
