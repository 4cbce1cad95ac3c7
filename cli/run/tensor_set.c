/* SPDX-License-Identifier: Apache-2.0 */
#include "run/tensor_set.h"

#include "base/dtype.h"
#include "base/prng.h"

#include <math.h>
#include <stdlib.h>

enum { TENSOR_ALIGN = 64, NUM_SAMPLES = 4096 };
enum { TENSOR_Q, TENSOR_K, TENSOR_V, TENSOR_OUT, TENSOR_LSE, TENSOR_SINKS, TENSOR_SCALES, TENSOR_SLOPES, TENSOR_TREE };
#define F8_MAX 448.0f

/** Of k and of v, which may be the same ones. */
static double cache_bytes(const pod_limits *limits, int64_t num_pages, int32_t dim) {
    return (double)pod_dtype_size(limits->kv_dtype) * (double)num_pages * limits->page_size * limits->kv_heads * dim;
}

static double row_bytes(const pod_limits *limits, pod_dtype dtype, int32_t dim) {
    return (double)pod_dtype_size(dtype) * limits->max_q_tokens * limits->q_heads * dim;
}

double tensor_set_bytes(const batch_spec *spec, const pod_limits *limits, int64_t num_pages) {
    int32_t v_dim = spec->values_in_keys ? 0 : limits->v_head_dim;
    return cache_bytes(limits, num_pages, limits->head_dim) + cache_bytes(limits, num_pages, v_dim) +
           row_bytes(limits, limits->q_dtype, limits->head_dim) +
           row_bytes(limits, limits->out_dtype, limits->v_head_dim) + row_bytes(limits, POD_F32, 1);
}

static void *allocate(size_t bytes) {
    size_t units = bytes / TENSOR_ALIGN + 1;
    return aligned_alloc(TENSOR_ALIGN, units * TENSOR_ALIGN);
}

/** Each element is one of NUM_SAMPLES normal numbers, which is as good as a fresh one here and much faster. Returns
 * what they have to be multiplied by: not 1 for e4m3 alone, whose largest number stands for the largest sample. */
static float fill_normal(void *array, pod_dtype dtype, size_t count, pod_prng *random) {
    union {
        float f32[NUM_SAMPLES];
        uint16_t f16[NUM_SAMPLES];
        uint8_t f8[NUM_SAMPLES];
    } samples;
    float normal[NUM_SAMPLES], largest = 0;
    for (int i = 0; i < NUM_SAMPLES; i++) {
        normal[i] = (float)pod__prng_normal(random);
        largest = fmaxf(largest, fabsf(normal[i]));
    }
    float scale = dtype == POD_F8E4M3 ? largest / F8_MAX : 1;
    for (int i = 0; i < NUM_SAMPLES; i++) pod__store(&samples, dtype, i, normal[i] / scale);
    uint64_t bits = 0;
    for (size_t i = 0; i < count; i++) {
        bits = i % 4 == 0 ? pod__prng_next(random) : bits >> 16;
        if (dtype == POD_F32) {
            ((float *)array)[i] = samples.f32[bits % NUM_SAMPLES];
        } else if (dtype == POD_F8E4M3) {
            ((uint8_t *)array)[i] = samples.f8[bits % NUM_SAMPLES];
        } else {
            ((uint16_t *)array)[i] = samples.f16[bits % NUM_SAMPLES];
        }
    }
    return scale;
}

/** One scale for all heads of K, and one for those of V. */
static int has_scales(const pod_limits *limits) {
    return limits->kv_dtype == POD_F8E4M3;
}

static cli_exit allocate_tensors(const batch_spec *spec, const pod_limits *limits, int64_t num_pages, tensor_set *set,
                                 cli_error *error) {
    int32_t dim = limits->head_dim, v_dim = limits->v_head_dim;
    size_t head_bytes = (size_t)limits->q_heads * sizeof(float);
    size_t word_bytes = (size_t)limits->max_q_tokens * sizeof(uint64_t);
    const size_t bytes[NUM_TENSORS] = {[TENSOR_Q] = (size_t)row_bytes(limits, limits->q_dtype, dim),
                                       [TENSOR_K] = (size_t)cache_bytes(limits, num_pages, dim),
                                       [TENSOR_V] = (size_t)cache_bytes(limits, num_pages, v_dim),
                                       [TENSOR_OUT] = (size_t)row_bytes(limits, limits->out_dtype, v_dim),
                                       [TENSOR_LSE] = (size_t)row_bytes(limits, POD_F32, 1),
                                       [TENSOR_SINKS] = spec->has_sinks ? head_bytes : 0,
                                       [TENSOR_SCALES] = has_scales(limits) ? 2 * sizeof(float) : 0,
                                       [TENSOR_SLOPES] = spec->has_alibi ? head_bytes : 0,
                                       [TENSOR_TREE] = spec->tree_children > 0 ? word_bytes : 0};
    for (int t = 0; t < NUM_TENSORS; t++) {
        if ((t >= TENSOR_SINKS && bytes[t] == 0) || (t == TENSOR_V && spec->values_in_keys)) continue;
        set->arrays[t] = (device_array){.host = allocate(bytes[t]), .bytes = bytes[t]};
        if (set->arrays[t].host == NULL) return cli_fail_memory(error);
    }
    return CLI_OK;
}

static void fill_tensors(const pod_limits *limits, int64_t seed, tensor_set *set) {
    pod_prng random = pod__prng_seed((uint64_t)seed ^ 0x7e4507u); /* another stream than the page table's */
    float *scales = set->arrays[TENSOR_SCALES].host;
    for (int t = TENSOR_Q; t <= TENSOR_V; t++) {
        pod_dtype dtype = t == TENSOR_Q ? limits->q_dtype : limits->kv_dtype;
        if (set->arrays[t].host == NULL) continue;
        float scale = fill_normal(set->arrays[t].host, dtype, set->arrays[t].bytes / pod_dtype_size(dtype), &random);
        if (t > TENSOR_Q && scales != NULL) scales[t - TENSOR_K] = scale;
    }
    if (set->arrays[TENSOR_SINKS].host != NULL) {
        fill_normal(set->arrays[TENSOR_SINKS].host, POD_F32, (size_t)limits->q_heads, &random);
    }
}

/** A geometric series that ends with 2^-8, as models with ALiBi have. */
static void fill_slopes(int32_t q_heads, float *slopes) {
    for (int32_t h = 0; h < q_heads; h++) slopes[h] = exp2f(-8.0f * (float)(h + 1) / (float)q_heads);
}

/** Each token's word has its parent's bits and its own; the root is the request's first token. */
static void fill_tree(const batch_spec *spec, uint64_t *words) {
    for (int32_t r = 0; r < spec->num_requests; r++) {
        int32_t q_len = spec->requests[r].q_len;
        for (int32_t i = 0; i < q_len; i++) {
            uint64_t parent = i > 0 ? words[(i - 1) / spec->tree_children] : 0;
            words[i] = q_len > POD_MAX_TREE_TOKENS ? 0 : parent | UINT64_C(1) << i;
        }
        words += q_len;
    }
}

/** What masks and scores need beside the sinks, if they do. */
static void fill_masks(const batch_spec *spec, const pod_limits *limits, tensor_set *set) {
    if (spec->has_alibi) fill_slopes(limits->q_heads, set->arrays[TENSOR_SLOPES].host);
    if (spec->tree_children > 0) fill_tree(spec, set->arrays[TENSOR_TREE].host);
}

cli_exit tensor_set_make(const batch_spec *spec, const pod_limits *limits, int64_t num_pages, device_memory *memory,
                         tensor_set *set, cli_error *error) {
    *set = (tensor_set){.host = layer_init(), .memory = memory};
    CLI_TRY(allocate_tensors(spec, limits, num_pages, set, error));
    fill_tensors(limits, spec->seed, set);
    fill_masks(spec, limits, set);
    for (int t = 0; t < NUM_TENSORS; t++) {
        device_array *array = &set->arrays[t];
        if (array->host != NULL) CLI_TRY(device_array_make(memory, array->host, array->bytes, array, error));
    }
    const device_array *arrays = set->arrays;
    set->host.tensors.scale = spec->scale;
    set->host.tensors.softcap = spec->softcap;
    set->placed = set->host;
    set->host.tensors.q = arrays[TENSOR_Q].host, set->placed.tensors.q = arrays[TENSOR_Q].place;
    set->host.cache.k = arrays[TENSOR_K].host, set->placed.cache.k = arrays[TENSOR_K].place;
    set->host.cache.v = arrays[TENSOR_V].host, set->placed.cache.v = arrays[TENSOR_V].place;
    set->host.tensors.out = arrays[TENSOR_OUT].host, set->placed.tensors.out = arrays[TENSOR_OUT].place;
    set->host.tensors.lse = arrays[TENSOR_LSE].host, set->placed.tensors.lse = arrays[TENSOR_LSE].place;
    set->host.tensors.sinks = arrays[TENSOR_SINKS].host, set->placed.tensors.sinks = arrays[TENSOR_SINKS].place;
    set->host.tensors.alibi_slopes = arrays[TENSOR_SLOPES].host;
    set->placed.tensors.alibi_slopes = arrays[TENSOR_SLOPES].place;
    set->host.tensors.tree_mask = arrays[TENSOR_TREE].host, set->placed.tensors.tree_mask = arrays[TENSOR_TREE].place;
    if (!has_scales(limits)) return CLI_OK;
    const float *scales = arrays[TENSOR_SCALES].host, *placed_scales = arrays[TENSOR_SCALES].place;
    set->host.cache.k_scale = scales, set->placed.cache.k_scale = placed_scales;
    if (spec->values_in_keys) return CLI_OK;
    set->host.cache.v_scale = scales + 1, set->placed.cache.v_scale = placed_scales + 1;
    return CLI_OK;
}

void tensor_set_free(tensor_set *set) {
    for (int t = 0; t < NUM_TENSORS; t++) {
        if (set->arrays[t].place != NULL) device_array_free(set->memory, &set->arrays[t]);
        free(set->arrays[t].host);
    }
}

cli_exit tensor_set_poison(tensor_set *set, cli_error *error) {
    for (int t = TENSOR_OUT; t <= TENSOR_LSE; t++) {
        memset(set->arrays[t].host, 0xff, set->arrays[t].bytes);
        CLI_TRY(device_array_send(set->memory, &set->arrays[t], error));
    }
    return CLI_OK;
}

cli_exit tensor_set_fetch(tensor_set *set, cli_error *error) {
    for (int t = TENSOR_OUT; t <= TENSOR_LSE; t++) {
        CLI_TRY(device_array_fetch(set->memory, &set->arrays[t], error));
    }
    return CLI_OK;
}
