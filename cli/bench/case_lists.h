/* SPDX-License-Identifier: Apache-2.0 */
/* The batches of the suites, and why just these. */
#ifndef CLI_CASE_LISTS_H
#define CLI_CASE_LISTS_H

#include "bench/batch_suite.h"

/** Llama-3-8B on one of two GPUs: decode, then both, then prefill take longer. */
bench_case_lister list_utilisation;
/** Yi-6B: a prompt in chunks beside as many decodes as an 80 GB card holds, and one less. */
bench_case_lister list_chunk_waves;
/** Groups of 1, 4 and 8 query heads, which fill a decode tile differently. */
bench_case_lister list_decode_tiles;
/** Models, chunks and contexts, and batches that take 90, 95 and 100 % of the KV memory. */
bench_case_lister list_sweep;
/** Chunks and contexts. */
bench_case_lister list_ctas_per_sm;
/** One chunk beside ever more decodes. */
bench_case_lister list_ticket_policy;
/** The same batch for every kernel of the device, in the kernel's dtype and head_dim. */
bench_case_lister list_kernels;

#endif
