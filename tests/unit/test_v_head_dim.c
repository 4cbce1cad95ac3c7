/* SPDX-License-Identifier: Apache-2.0 */
/* Values of another width than keys, and values that are the first elements of keys. */
#include "call_fixture.h"

#include "base/dtype.h"
#include "base/errors.h"
#include "rng.h"

#include <stdlib.h>

/* ---- absorbed MLA: keys of 576 elements of which the first 512 are the values ---- */

enum { LATENT = 576, VALUES = 512, MAX_PAGES = 160, MAX_Q_ROWS = 4 * 128, NUM_REQUESTS = 3 };

static const int32_t q_start[] = {0, 1, 3, 4}, kv_len[] = {70, 2, 87};

typedef struct mla {
    pod_limits limits;
    pod_batch batch;
    pod_tensors tensors;
    pod_cache cache;
    int32_t page_table[NUM_REQUESTS * 87];
    size_t num_keys; /**< of the cache, those of nobody included */
    char *q, *k, *v, *out[2];
    double *expected;
} mla;

static char *new_array(size_t elements, pod_dtype dtype, test_rng *rng) {
    char *array = calloc(elements, pod_dtype_size(dtype));
    assert_non_null(array);
    for (size_t i = 0; rng != NULL && i < elements; i++) pod__store(array, dtype, (int64_t)i, rng_normal(rng));
    return array;
}

static void mla_make(mla *m, pod_dtype dtype, pod_dtype kv_dtype, int32_t heads, int32_t page_size) {
    test_rng rng = {heads + page_size};
    memset(m, 0, sizeof *m);
    m->limits = pod_limits_init();
    m->limits.q_heads = heads;
    m->limits.kv_heads = 1;
    m->limits.head_dim = LATENT;
    m->limits.v_head_dim = VALUES;
    m->limits.q_dtype = m->limits.out_dtype = dtype;
    m->limits.kv_dtype = kv_dtype;
    m->limits.page_size = page_size;
    m->limits.max_requests = NUM_REQUESTS;
    m->limits.max_q_tokens = q_start[NUM_REQUESTS];
    m->limits.max_kv_len = 87;
    m->batch = pod_batch_init();
    m->batch.num_requests = NUM_REQUESTS;
    m->batch.q_start = q_start;
    m->batch.kv_len = kv_len;
    m->batch.page_table = m->page_table;
    m->batch.page_table_stride = m->batch.max_pages = 87;
    for (int32_t r = 0; r < NUM_REQUESTS; r++) {
        for (int32_t p = 0; p * page_size < kv_len[r]; p++) m->page_table[r * 87 + p] = m->batch.num_pages++;
    }
    assert_in_range(m->batch.num_pages, 1, MAX_PAGES);
    m->num_keys = (size_t)m->batch.num_pages * (size_t)page_size;
    size_t rows = (size_t)q_start[NUM_REQUESTS] * (size_t)heads;
    m->q = new_array(rows * LATENT, dtype, &rng);
    m->k = new_array(m->num_keys * LATENT, kv_dtype, &rng);
    m->v = new_array(m->num_keys * VALUES, kv_dtype, NULL);
    size_t bytes = pod_dtype_size(kv_dtype);
    for (size_t key = 0; key < m->num_keys; key++) {
        memcpy(m->v + key * VALUES * bytes, m->k + key * LATENT * bytes, VALUES * bytes);
    }
    for (int i = 0; i < 2; i++) m->out[i] = new_array(rows * VALUES, dtype, NULL);
    m->expected = calloc(rows * VALUES, sizeof *m->expected);
    assert_non_null(m->expected);
    m->tensors = pod_tensors_init();
    m->tensors.q = m->q;
    m->tensors.scale = 0.0722f; /* that of keys of 192 elements, before they are absorbed */
    m->cache = pod_cache_init();
    m->cache.k = m->k;
}

static void mla_free(mla *m) {
    free(m->q);
    free(m->k);
    free(m->v);
    free(m->out[0]);
    free(m->out[1]);
    free(m->expected);
}

static void mla_run(mla *m, pod_device *device, char *v, char *out) {
    pod_plan *plan;
    test_workspace workspace;
    m->cache.v = v;
    m->tensors.out = out;
    assert_ok(test_workspace_plan(device, &m->limits, CALL_POISON, &workspace, &plan));
    assert_ok(pod_plan_build(plan, &m->batch, NULL));
    assert_ok(pod_attention(plan, &m->tensors, &m->cache, NULL));
    assert_true(test_workspace_intact(&workspace));
    pod_plan_destroy(plan);
    test_workspace_free(&workspace);
}

static void check_mla(pod_device *device, pod_dtype dtype, pod_dtype kv_dtype, int32_t heads, int32_t page_size) {
    mla m;
    mla_make(&m, dtype, kv_dtype, heads, page_size);
    mla_run(&m, device, NULL, m.out[0]);
    mla_run(&m, device, m.v, m.out[1]);
    int64_t elements = (int64_t)q_start[NUM_REQUESTS] * heads * VALUES;
    assert_memory_equal(m.out[0], m.out[1], (size_t)elements * pod_dtype_size(dtype));
    assert_ok(pod_reference_attention(&m.limits, &m.batch, &m.tensors, &m.cache, -1, m.expected, NULL));
    double error = 0;
    for (int64_t row = 0; row < elements; row += VALUES) {
        pod_distance distance = pod__distance(m.out[0], dtype, row, m.expected + row, VALUES);
        error = pod__larger_error(error, pod__relative_error(distance, 0));
    }
    pod_errors bound = pod__larger_errors(pod__errors_allowed(dtype), pod__errors_allowed(kv_dtype));
    if (!(error <= bound.worst_row)) {
        fail_msg("%s, cache %s, %d heads, pages of %d: %g > %g", pod_dtype_name(dtype), pod_dtype_name(kv_dtype), heads,
                 page_size, error, bound.worst_row);
    }
    mla_free(&m);
}

/** Each instruction set, each number of heads from few rows of decode to a tile of prefill. */
static void values_in_keys_give_the_same_bits_as_a_copy(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu:2,isa=generic", "cpu:2,isa=avx2", "cpu:2,isa=avx512",
                                          "cpu:2,isa=avx512-bf16"};
    static const int32_t heads[] = {16, 24, 128}, page_sizes[] = {1, 16, 32, 64};
    static const pod_dtype dtypes[] = {POD_BF16, POD_F16, POD_F32};
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        pod_device *device;
        if (pod_device_open(devices[i], &device) != POD_OK) continue;
        for (int j = 0; j < 12; j++) {
            pod_dtype dtype = dtypes[j % 3];
            check_mla(device, dtype, j < 9 ? dtype : POD_F8E4M3, heads[j / 2 % 3], page_sizes[j % 4]);
        }
        pod_device_close(device);
    }
}

/* ---- the fixture's call, with values of 16 elements beside keys of 8, or of fewer ---- */

static void reopen(call_fixture *call, int32_t head_dim, int32_t v_head_dim) {
    test_workspace_free(&call->workspace);
    pod_plan_destroy(call->plan);
    call->limits.head_dim = head_dim;
    call->limits.v_head_dim = v_head_dim;
    assert_ok(test_workspace_plan(call->device, &call->limits, CALL_POISON, &call->workspace, &call->plan));
    assert_ok(call_build(call));
}

/** One KV head, so that both widths fit the arrays: [tokens, 4, 8] and [pages, page_size, 1, 16]. */
static void open_wide(call_fixture *call) {
    call_open(call, "cpu:1");
    call->limits.kv_heads = 1;
    call->limits.q_heads = 2;
    reopen(call, 8, 16);
}

static void wide_values_are_packed_and_nothing_else_is_written(void **state) {
    (void)state;
    call_fixture call;
    double expected[CALL_Q_TOKENS * 2 * 16], lse[CALL_Q_TOKENS * 2];
    open_wide(&call);
    assert_ok(call_attention(&call));
    assert_ok(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, -1, expected, lse));
    for (int i = 0; i < CALL_Q_TOKENS * 2 * 16; i++) assert_true(fabs((double)call.out[i] - expected[i]) < 1e-5);
    for (int i = 0; i < CALL_Q_TOKENS * 2; i++) assert_true(fabs((double)call.lse[i] - lse[i]) < 1e-5);
    float poison;
    memset(&poison, CALL_POISON, sizeof poison);
    assert_memory_equal(&call.out[CALL_Q_TOKENS * 2 * 16], &poison, sizeof poison);
    call_close(&call);
}

/** The oracle by hand: keys that weigh the same give the mean of their values. */
static void equal_keys_give_the_mean_of_their_values(void **state) {
    (void)state;
    call_fixture call;
    double expected[CALL_Q_TOKENS * 2 * 16];
    open_wide(&call);
    call.kv_len[0] = 3, call.mask.causal = 0;
    memset(call.k, 0, sizeof call.k); /* every key weighs the same */
    assert_ok(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, 0, expected, NULL));
    for (int i = 0; i < 16; i++) {
        const float *page = call.v + call.page_table[0] * CALL_PAGE_SIZE * 16;
        double mean = ((double)page[i] + (double)page[16 + i] + (double)page[32 + i]) / 3;
        assert_true(fabs(expected[i] - mean) < 1e-6 && fabs(expected[16 + i] - mean) < 1e-6);
    }
    call_close(&call);
}

static void scratch_follows_the_width_of_values(void **state) {
    (void)state;
    call_fixture call;
    pod_workspace sizes[3];
    static const int32_t dims[3][2] = {{192, 0}, {192, 128}, {128, 0}};
    call_open(&call, "cpu:1");
    for (int i = 0; i < 3; i++) {
        sizes[i] = pod_workspace_init();
        call.limits.head_dim = dims[i][0];
        call.limits.v_head_dim = dims[i][1];
        assert_ok(pod_workspace_size(call.device, &call.limits, &sizes[i]));
    }
    assert_true(sizes[1].scratch_bytes == sizes[2].scratch_bytes && sizes[1].scratch_bytes < sizes[0].scratch_bytes);
    call_close(&call);
}

static void values_of_keys_are_as_many_as_keys_at_most(void **state) {
    (void)state;
    call_fixture call;
    open_wide(&call);
    call.cache.v = NULL;
    assert_fails(call_attention(&call), POD_E_ARGUMENT,
                 "v is NULL, but v_head_dim = 16 is more than the head_dim = 8 of k");
    assert_true(call_outputs_untouched(&call));
    call_close(&call);
}

static void values_of_keys_have_their_scale(void **state) {
    (void)state;
    static const float scale = 0.5f;
    call_fixture call;
    double expected[CALL_Q_TOKENS * 2 * 8];
    call_open(&call, "cpu:1");
    call.limits.kv_heads = 1, call.limits.q_heads = 2;
    reopen(&call, 16, 8);
    call.cache.v_scale = &scale;
    call.cache.v = NULL;
    assert_fails(call_attention(&call), POD_E_ARGUMENT,
                 "v_scale is given, but v is NULL: values are elements of k, and k_scale's");
    assert_true(call_outputs_untouched(&call));
    call.cache.v_scale = NULL;
    call.cache.v_token_stride = -1; /* does not count */
    call.cache.k_scale = &scale;
    assert_ok(call_attention(&call));
    call.cache.v_scale = &scale, call.cache.v = call.k, call.cache.v_token_stride = 16;
    assert_ok(pod_reference_attention(&call.limits, &call.batch, &call.tensors, &call.cache, -1, expected, NULL));
    for (int i = 0; i < CALL_Q_TOKENS * 2 * 8; i++) assert_true(fabs((double)call.out[i] - expected[i]) < 1e-5);
    call_close(&call);
}

/** Keys alone are appended, where there is no V. */
static void appending_keys_alone(void **state) {
    (void)state;
    float k[CALL_Q_TOKENS * 16], v[CALL_Q_TOKENS * 16];
    call_fixture call;
    call_open(&call, "cpu:1");
    call.limits.kv_heads = 1, call.limits.q_heads = 2;
    reopen(&call, 16, 8);
    memset(call.v, CALL_POISON, sizeof call.v);
    for (int i = 0; i < CALL_Q_TOKENS * 16; i++) k[i] = v[i] = (float)i;
    pod_append append = pod_append_init();
    append.dtype = POD_F32;
    append.k = k;
    assert_fails(pod_cache_append(call.plan, &append, &call.cache, NULL), POD_E_ARGUMENT,
                 "append.v is NULL, but the cache has a v");
    call.cache.v = NULL;
    append.v = v;
    assert_fails(pod_cache_append(call.plan, &append, &call.cache, NULL), POD_E_ARGUMENT,
                 "append.v is given, but the cache's v is NULL: it has keys alone");
    append.v = NULL;
    assert_ok(pod_cache_append(call.plan, &append, &call.cache, NULL));
    const float *row = call.k + (call.page_table[2 * 4 + 2] * CALL_PAGE_SIZE) * 16; /* position 8 of request 2 */
    assert_memory_equal(row, k + 4 * 16, 16 * sizeof(float));
    int64_t slots[CALL_Q_TOKENS];
    double expected[CALL_Q_TOKENS * 16];
    assert_ok(pod_reference_append(&call.limits, &call.batch, &append, &call.cache, slots, expected, NULL, NULL));
    for (int i = 0; i < CALL_Q_TOKENS * 16; i++) assert_true(expected[i] == (double)k[i]);
    call_close(&call);
}

static void rotary_dims_end_at_256(void **state) {
    (void)state;
    call_fixture call;
    pod_rope rope = pod_rope_init();
    call_open(&call, "cpu:1");
    call.limits.kv_heads = call.limits.q_heads = 1;
    reopen(&call, 576, 512);
    pod_append append = pod_append_init();
    append.q = append.q_out = call.q; /* refused before it is read */
    append.rope = &rope;
    assert_fails(pod_cache_append(call.plan, &append, NULL, NULL), POD_E_ARGUMENT,
                 "rope.rotary_dim = 576 is outside [2, 256]");
    call_close(&call);
}

/* ---- who takes what ---- */

static void simulated_gpus_refuse_by_name(void **state) {
    (void)state;
    static const struct {
        const char *device;
        int32_t head_dim, v_head_dim;
        const char *message;
    } cases[] = {
        {"sim:a100", 576, 512, "head_dim = 576 is not supported by the sm80 kernels; those up to 256 are"},
        {"sim:h100", 576, 576, "head_dim = 576 is not supported by the sm80 kernels; those up to 256 are"},
        {"sim:h100,kernel=sm90", 576, 512,
         "head_dim = 576 is not supported by the sm90 kernels; 64, 128, 192 and 256 are (the device's name asks for "
         "kernel=sm90)"},
        {"sim:h100,kernel=sm90mla", 576, 128,
         "v_head_dim = 128 with head_dim = 576 is not supported by the sm90mla kernels (the device's name asks for "
         "kernel=sm90mla)"},
        {"sim:h100,kernel=sm90mla", 128, 128,
         "head_dim = 128 is not supported by the sm90mla kernels; 576 are (the device's name asks for kernel=sm90mla)"},
        {"sim:h100,kernel=sm90", 128, 64,
         "v_head_dim = 64 with head_dim = 128 is not supported by the sm90 kernels (the device's name asks for "
         "kernel=sm90)"},
        {"sim:a100,ctas=4", 64, 192,
         "head_dim = 64, v_head_dim = 192, kv_dtype bf16 is not supported by the sm80 kernels with the device's "
         "options"},
        {"sim:h100", 128, 512, "v_head_dim = 512 with head_dim = 128 is not supported by the sm80 kernels"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pod_device *device;
        pod_plan *plan;
        pod_limits limits = pod_limits_init();
        limits.q_heads = limits.kv_heads = limits.max_requests = 1;
        limits.head_dim = cases[i].head_dim;
        limits.v_head_dim = cases[i].v_head_dim;
        limits.q_dtype = limits.kv_dtype = limits.out_dtype = POD_BF16;
        limits.page_size = limits.max_q_tokens = limits.max_kv_len = 64;
        assert_ok(pod_device_open(cases[i].device, &device));
        assert_fails(pod_plan_create(device, &limits, &plan), POD_E_UNSUPPORTED, cases[i].message);
        pod_device_close(device);
    }
}

/** The kernels whose tiles hold both, and why it is none of the fastest family. */
static void kernels_of_two_widths(void **state) {
    (void)state;
    static const struct {
        const char *device;
        int32_t head_dim, v_head_dim;
        const char *kernel, *note;
    } cases[] = {
        {"sim:h100", 192, 128, "pod_sm90_fused_bf16_d192_c1", ""},
        {"sim:h100", 192, 192, "pod_sm80_padded_bf16_d256_c2",
         "sm90: v_head_dim = 192 with head_dim = 192 is not supported by the sm90 kernels"},
        {"sim:h100", 80, 80, "pod_sm80_padded_bf16_d128_c2",
         "sm90: head_dim = 80 is not supported by the sm90 kernels; 64, 128, 192 and 256 are"},
        {"sim:h100", 128, 64, "pod_sm80_padded_bf16_d128_c2",
         "sm90: v_head_dim = 64 with head_dim = 128 is not supported by the sm90 kernels"},
        {"sim:h100", 64, 136, "pod_sm80_padded_bf16_d256_c2",
         "sm90: v_head_dim = 136 with head_dim = 64 is not supported by the sm90 kernels"},
        {"sim:h100", 576, 512, "pod_sm90mla_fused_bf16_d576_c1", ""},
        {"sim:sms=1,kernel=sm90mla", 576, 512, "pod_sm90mla_fused_bf16_d576_c1", ""},
        {"sim:a100", 96, 40, "pod_sm80_padded_bf16_d128_c4", "sm90: the chip's compute capability is 8.0, not 9.0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        call_fixture call;
        pod_plan_info info = pod_plan_info_init();
        call_open(&call, "cpu:1");
        pod_device *cpu = call.device;
        assert_ok(pod_device_open(cases[i].device, &call.device));
        call.limits.q_dtype = call.limits.kv_dtype = call.limits.out_dtype = POD_BF16;
        call.limits.page_size = 8;
        reopen(&call, cases[i].head_dim, cases[i].v_head_dim);
        pod_device_close(cpu); /* its plan is gone now */
        assert_ok(pod_plan_get_info(call.plan, 0, &info));
        assert_string_equal(info.kernel, cases[i].kernel);
        assert_string_equal(info.kernel_note, cases[i].note);
        call_close(&call);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_in_keys_give_the_same_bits_as_a_copy),
        cmocka_unit_test(wide_values_are_packed_and_nothing_else_is_written),
        cmocka_unit_test(equal_keys_give_the_mean_of_their_values),
        cmocka_unit_test(scratch_follows_the_width_of_values),
        cmocka_unit_test(values_of_keys_are_as_many_as_keys_at_most),
        cmocka_unit_test(values_of_keys_have_their_scale),
        cmocka_unit_test(appending_keys_alone),
        cmocka_unit_test(rotary_dims_end_at_256),
        cmocka_unit_test(simulated_gpus_refuse_by_name),
        cmocka_unit_test(kernels_of_two_widths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
