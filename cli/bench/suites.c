/* SPDX-License-Identifier: Apache-2.0 */
#include "suites.h"

#include "batch_suite.h"
#include "case_lists.h"
#include "suite_fig1.h"
#include "suite_fig7.h"
#include "suite_limits.h"
#include "suite_peers.h"
#include "suite_trace.h"

#include <string.h>

#define BASELINES                                                                                                      \
    {"fused", WAY_FUSED, NULL}, {"serial", WAY_SERIAL, NULL}, {"streams", WAY_STREAMS, NULL},                          \
        {"prefill", WAY_PREFILL, NULL}, {                                                                              \
        "decode", WAY_DECODE, NULL                                                                                     \
    }

static const batch_variant baselines[] = {BASELINES};
static const batch_variant with_hfuse[] = {
    BASELINES,
#ifdef POD_BASELINES
    {"hfuse", WAY_FUSED, "kernel=sm80,fusion=hfuse"},
#endif
};
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
#ifdef POD_BASELINES
    {"policy=half", WAY_FUSED, "kernel=sm80,policy=half"},
#endif
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
BATCH_SUITE(fig6, baselines)
BATCH_SUITE(fig10, decode_tiles)
BATCH_SUITE(fig11, with_hfuse)
BATCH_SUITE(fig13, ctas_per_sm)
BATCH_SUITE(fig14, policies)

static const bench_suite suites[] = {
    {"limits", "the device's ceilings", LIMITS_COLUMNS, 0, 0, 0, 0, run_limits},
    {"fig1", "how busy SMs and memory are: Llama-3-8B on one of two GPUs", FIG1_COLUMNS, 0, 0, 0, 1, run_fig1},
    {"fig7", "ways to run a compute-bound and a memory-bound kernel together", FIG7_COLUMNS, 1, 0, 0, 0, run_fig7},
    {"fig10", "decode tiles", BATCH_COLUMNS, 1, 0, 0, 1, run_fig10},
    {"fig13", "2 or 4 CTAs per SM", BATCH_COLUMNS, 1, 0, 0, 1, run_fig13},
    {"fig14", "ticket policies", BATCH_COLUMNS, 1, 0, 0, 1, run_fig14},
    {"fig6", "Yi-6B, chunk by chunk", BATCH_COLUMNS, 0, 0, 0, 1, run_fig6},
    {"fig11", "models, chunks, contexts and batch sizes", BATCH_COLUMNS, 0, 0, 0, 1, run_fig11},
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
