/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor_set.h"

#include "element.h"
#include "prng.h"

#include <stdlib.h>

enum { TENSOR_ALIGN = 64, NUM_SAMPLES = 4096 };

static double cache_elements(const pod_limits *limits, int64_t num_pages) {
    return (double)num_pages * limits->page_size * limits->kv_heads * limits->head_dim;
}

static double query_elements(const pod_limits *limits) {
    return (double)limits->max_q_tokens * limits->q_heads * limits->head_dim;
}

double tensor_set_bytes(const pod_limits *limits, int64_t num_pages) {
    double element_bytes = (double)pod_dtype_size(limits->q_dtype);
    double lse_bytes = (double)limits->max_q_tokens * limits->q_heads * sizeof(float);
    return 2 * element_bytes * (cache_elements(limits, num_pages) + query_elements(limits)) + lse_bytes;
}

static void *allocate(size_t bytes) {
    size_t units = bytes / TENSOR_ALIGN + 1;
    return aligned_alloc(TENSOR_ALIGN, units * TENSOR_ALIGN);
}

/** Each element is one of NUM_SAMPLES normal numbers, which is as good as a fresh one here and much faster. */
static void fill_normal(void *array, pod_dtype dtype, size_t count, prng *random) {
    union {
        float f32[NUM_SAMPLES];
        uint16_t f16[NUM_SAMPLES];
    } samples;
    for (int i = 0; i < NUM_SAMPLES; i++) element_store(&samples, dtype, i, (float)prng_normal(random));
    uint64_t bits = 0;
    for (size_t i = 0; i < count; i++) {
        bits = i % 4 == 0 ? prng_next(random) : bits >> 16;
        if (dtype == POD_F32) {
            ((float *)array)[i] = samples.f32[bits % NUM_SAMPLES];
        } else {
            ((uint16_t *)array)[i] = samples.f16[bits % NUM_SAMPLES];
        }
    }
}

static cli_exit make_sinks(const pod_limits *limits, tensor_set *set, prng *random, cli_error *error) {
    set->sinks = malloc((size_t)limits->q_heads * sizeof(float));
    if (set->sinks == NULL) return cli_fail_memory(error);
    fill_normal(set->sinks, POD_F32, (size_t)limits->q_heads, random);
    set->tensors.sinks = set->sinks;
    return CLI_OK;
}

cli_exit tensor_set_make(const batch_spec *spec, const pod_limits *limits, int64_t num_pages, tensor_set *set,
                         cli_error *error) {
    *set = (tensor_set){.tensors = pod_tensors_init()};
    size_t element_bytes = pod_dtype_size(spec->dtype);
    size_t cache = (size_t)cache_elements(limits, num_pages), queries = (size_t)query_elements(limits);
    set->out_bytes = queries * element_bytes;
    set->lse_bytes = (size_t)limits->max_q_tokens * (size_t)limits->q_heads * sizeof(float);
    set->q = allocate(set->out_bytes);
    set->out = allocate(set->out_bytes);
    set->lse = allocate(set->lse_bytes);
    set->k = allocate(cache * element_bytes);
    set->v = allocate(cache * element_bytes);
    if (set->q == NULL || set->out == NULL || set->lse == NULL || set->k == NULL || set->v == NULL) {
        return cli_fail_memory(error);
    }
    prng random = prng_seed((uint64_t)spec->seed ^ 0x7e4507u); /* another stream than the page table's */
    fill_normal(set->q, spec->dtype, queries, &random);
    fill_normal(set->k, spec->dtype, cache, &random);
    fill_normal(set->v, spec->dtype, cache, &random);
    set->tensors.q = set->q;
    set->tensors.k = set->k;
    set->tensors.v = set->v;
    set->tensors.out = set->out;
    set->tensors.lse = set->lse;
    set->tensors.scale = spec->scale;
    set->tensors.softcap = spec->softcap;
    return spec->has_sinks ? make_sinks(limits, set, &random, error) : CLI_OK;
}

void tensor_set_free(tensor_set *set) {
    free(set->q);
    free(set->k);
    free(set->v);
    free(set->out);
    free(set->lse);
    free(set->sinks);
}

void tensor_set_poison(tensor_set *set) {
    memset(set->out, 0xff, set->out_bytes);
    memset(set->lse, 0xff, set->lse_bytes);
}
