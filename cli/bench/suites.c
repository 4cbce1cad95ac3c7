/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/suites.h"

#include "bench/batch_suite.h"
#include "bench/case_lists.h"
#include "bench/suite_fusion_ways.h"
#include "bench/suite_peak.h"
#include "bench/suite_peers.h"
#include "bench/suite_trace.h"
#include "bench/suite_utilisation.h"

#include <string.h>

#define BASELINES                                                                                                      \
    {"fused", WAY_FUSED, NULL}, {"serial", WAY_SERIAL, NULL}, {"streams", WAY_STREAMS, NULL},                          \
        {"prefill", WAY_PREFILL, NULL}, {                                                                              \
        "decode", WAY_DECODE, NULL                                                                                     \
    }

static const batch_variant baselines[] = {BASELINES};
static const batch_variant with_hfuse[] = {BASELINES, {"hfuse", WAY_FUSED, "kernel=sm80,fusion=hfuse"}};
/* What can be varied of decode: the kernel family, and with the CTAs per SM the rows of its tiles. */
static const batch_variant decode_tiles[] = {
    BASELINES,
    {"ctas=2", WAY_FUSED, "kernel=sm80,ctas=2"},
    {"ctas=4", WAY_FUSED, "kernel=sm80,ctas=4"},
    {"decode ctas=2", WAY_DECODE, "kernel=sm80,ctas=2"},
    {"decode ctas=4", WAY_DECODE, "kernel=sm80,ctas=4"},
};
static const batch_variant ctas_per_sm[] = {
    BASELINES,
    {"ctas=2", WAY_FUSED, "kernel=sm80,ctas=2"},
    {"ctas=4", WAY_FUSED, "kernel=sm80,ctas=4"},
};
static const batch_variant policies[] = {
    BASELINES,
    {"policy=proportional", WAY_FUSED, "kernel=sm80,policy=proportional"},
    {"policy=half", WAY_FUSED, "kernel=sm80,policy=half"},
};

static cli_exit run_batches(bench *bench, const batch_variant *variants, size_t count, bench_case_lister *list_cases,
                            cli_error *error) {
    const batch_suite suite = {.variants = variants, .num_variants = (int32_t)count, .list_cases = list_cases};
    return batch_suite_run(bench, &suite, error);
}

#define BATCH_SUITE(name, variants)                                                                                    \
    static cli_exit run_##name(bench *bench, cli_error *error) {                                                       \
        return run_batches(bench, variants, sizeof(variants) / sizeof(variants)[0], list_##name, error);               \
    }
BATCH_SUITE(chunk_waves, baselines)
BATCH_SUITE(decode_tiles, decode_tiles)
BATCH_SUITE(sweep, with_hfuse)
BATCH_SUITE(ctas_per_sm, ctas_per_sm)
BATCH_SUITE(ticket_policy, policies)

static const bench_suite suites[] = {
    {"peak", "the device's ceilings", PEAK_COLUMNS, 0, 0, 0, 0, run_peak},
    {"utilisation", "how busy SMs and memory are: Llama-3-8B on one of two GPUs (the paper's figure 1)",
     UTILISATION_COLUMNS, 0, 0, 0, 1, run_utilisation},
    {"fusion_ways", "ways to run a compute-bound and a memory-bound kernel together (the paper's figure 7)",
     FUSION_WAYS_COLUMNS, 1, 0, 0, 0, run_fusion_ways},
    {"decode_tiles", "decode tiles (the paper's figure 10)", BATCH_COLUMNS, 1, 0, 0, 1, run_decode_tiles},
    {"ctas_per_sm", "2 or 4 CTAs per SM (the paper's figure 13)", BATCH_COLUMNS, 1, 0, 0, 1, run_ctas_per_sm},
    {"ticket_policy", "ticket policies (the paper's figure 14)", BATCH_COLUMNS, 1, 0, 0, 1, run_ticket_policy},
    {"chunk_waves", "Yi-6B, chunk by chunk: what whole waves of CTAs cost (the paper's figure 6)", BATCH_COLUMNS, 0, 0,
     0, 1, run_chunk_waves},
    {"sweep", "models, chunks, contexts and batch sizes (the paper's figure 11)", BATCH_COLUMNS, 0, 0, 0, 1, run_sweep},
    {"trace", "every step of a trace", TRACE_COLUMNS, 0, 0, 1, 0, run_trace},
    {"peers", "other libraries' batches and times", BATCH_COLUMNS, 0, 1, 0, 1, run_peers},
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
