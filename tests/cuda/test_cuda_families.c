/* SPDX-License-Identifier: Apache-2.0 */
/* Which kernel family gets which limits, and the tensor maps of those that need them, on the fake driver.
 *
 *   test_cuda_families       a driver of today
 *   test_cuda_families old   one that encodes no tensor maps */
#include "cuda/cuda_tensor_map.h"
#include "fake_map.h"
#include "families/choice.h"

#include <stdio.h>
#include <stdlib.h>

static int failures;

#define EXPECT(condition, ...)                                                                                         \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        fprintf(stderr, "line %d: %s: ", __LINE__, #condition);                                                        \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fprintf(stderr, "\n");                                                                                         \
        failures++;                                                                                                    \
    } while (0)

static pod_limits limits_of(pod_dtype dtype, int32_t head_dim, int32_t page_size) {
    pod_limits limits = pod_limits_init();
    limits.q_heads = 8;
    limits.kv_heads = 2;
    limits.head_dim = head_dim;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = dtype;
    limits.page_size = page_size;
    limits.max_requests = 4;
    limits.max_q_tokens = 64;
    limits.max_kv_len = 4096;
    return limits;
}

/* ---- the choice ---- */

/** A chip that holds as many CTAs of every kernel of its families as the kernel is made for. */
static pod_chip chip_of(int32_t capability) {
    char reason[128];
    pod_chip chip = {.capability = capability, .num_sms = 132, .has_tensor_maps = 1};
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_variant *variant = &pod__variants[i];
        int runs = pod__family_runs(variant->family, &chip, reason, sizeof reason);
        chip.resident_ctas[i] = runs ? variant->tiles->ctas_per_sm : 0;
    }
    return chip;
}

/** The row, or NULL; the note says why it is none of sm90, or why there is none. */
static const pod_variant *choose(const char *name, const pod_chip *chip, const pod_limits *limits, pod_choice *choice) {
    int32_t ordinal;
    pod_gpu_options options;
    EXPECT(pod__cuda_options_parse(name, &ordinal, &options) == POD_OK, "%s", name);
    if (pod__choose_kernel(chip, &options, limits, choice) == POD_OK) return &pod__variants[choice->kernel];
    EXPECT(choice->kernel == -1, "%d", choice->kernel);
    snprintf(choice->note, sizeof choice->note, "%s", pod_error_message());
    return NULL;
}

/** The options' and limits' family is `family`, and the note has `word` ("": is empty). */
static void expect_family(const char *name, const pod_chip *chip, const pod_limits *limits, const pod_family *family,
                          const char *word) {
    pod_choice choice;
    const pod_variant *variant = choose(name, chip, limits, &choice);
    EXPECT(variant != NULL && variant->family == family, "\"%s\", page_size = %d", name, limits->page_size);
    EXPECT(*word == '\0' ? *choice.note == '\0' : strstr(choice.note, word) != NULL, "\"%s\", not \"%s\"", choice.note,
           word);
}

/** Every row of the family against every reason to be passed over. */
static void test_sm90_row(const pod_variant *row) {
    const pod_family *sm80 = &pod__family_sm80, *sm90 = &pod__family_sm90;
    pod_limits limits = limits_of(row->dtype, row->tiles->head_dim, 16);
    limits.v_head_dim = row->tiles->v_head_dim;
    int has_all_options = row->tiles->head_dim <= 128; /* sm80's kernels for wider heads are padded, with two CTAs */
    pod_chip h100 = chip_of(90), a100 = chip_of(80), b200 = chip_of(100), old = chip_of(90);
    old.has_tensor_maps = 0;
    expect_family("0", &h100, &limits, sm90, "");
    expect_family("0,kernel=sm90", &h100, &limits, sm90, "");
    expect_family("0,kernel=sm80", &h100, &limits, sm80, "options");
    expect_family("0,ctas=2", &h100, &limits, sm80, "options");
    if (has_all_options) expect_family("0,ctas=4", &h100, &limits, sm80, "options");
    expect_family("0,policy=proportional", &h100, &limits, sm80, "options");
#ifdef POD_BASELINES
    expect_family("0,policy=half", &h100, &limits, sm80, "options");
    if (has_all_options) expect_family("0,fusion=hfuse", &h100, &limits, sm80, "options");
#endif
    expect_family("0", &a100, &limits, sm80, "8.0");
    expect_family("0", &b200, &limits, sm80, "10.0");
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        if (pod__variants[i].family == sm90) old.resident_ctas[i] = h100.resident_ctas[i] = 0;
    }
    expect_family("0", &old, &limits, sm80, "cuTensorMapEncodeTiled");
    expect_family("0", &h100, &limits, sm80, "does not load");

    h100 = chip_of(90);
    const struct {
        int32_t page_size, max_kv_len;
        const pod_family *family;
        const char *word;
    } pages[] = {
        {8, 4096, sm90, ""},
        {24, 4096, sm90, ""},
        {1, 4096, sm80, "page_size = 1 "},
        {12, 4096, sm80, "page_size = 12 "},
        {100, 100, sm90, ""},
        {100, 101, sm80, "max_kv_len = 101 "},
    };
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        limits.page_size = pages[i].page_size;
        limits.max_kv_len = pages[i].max_kv_len;
        expect_family("0", &h100, &limits, pages[i].family, pages[i].word);
    }
    pod_choice choice;
    limits = limits_of(row->dtype, row->tiles->head_dim, 1);
    limits.v_head_dim = row->tiles->v_head_dim;
    EXPECT(choose("0,kernel=sm90", &h100, &limits, &choice) == NULL, "page_size = 1");
    EXPECT(strstr(choice.note, "page_size = 1 ") != NULL, "\"%s\"", choice.note);

    limits.page_size = 8;
    EXPECT(choose("0", &h100, &limits, &choice) == row, "%s, not %s", choice.kernel_name, row->kernel);
    EXPECT(choice.tiling.decode_rows == row->tiles->decode_rows, "%d rows", choice.tiling.decode_rows);
    EXPECT(choice.tiling.prefill_tile_rows == row->tiles->prefill_tile_rows, "%d rows",
           choice.tiling.prefill_tile_rows);
    EXPECT(choice.tiling.prefill_tile_tokens == row->tiles->prefill_tile_tokens, "%d keys",
           choice.tiling.prefill_tile_tokens);
}

/** The row is made for `made_for` CTAs per SM, and the plan is for `num_ctas` workers. */
static void expect_ctas(const char *name, const pod_chip *chip, const pod_limits *limits, int32_t made_for,
                        int32_t num_ctas) {
    pod_choice choice;
    const pod_variant *variant = choose(name, chip, limits, &choice);
    EXPECT(variant != NULL && variant->tiles->ctas_per_sm == made_for, "\"%s\"", name);
    pod_tiling tiling = choice.tiling;
    EXPECT(tiling.num_ctas == num_ctas && tiling.num_prefill_ctas == (num_ctas + 1) / 2, "%d CTAs", tiling.num_ctas);
}

/** CTAs of the sm80 family's rows that are made for 2 and for 4 per SM. */
static void set_resident(pod_chip *chip, int32_t of_two, int32_t of_four) {
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_variant *variant = &pod__variants[i];
        if (variant->tiles->ctas_per_sm == 2) chip->resident_ctas[i] = of_two;
        if (variant->tiles->ctas_per_sm == 4) chip->resident_ctas[i] = of_four;
    }
}

/** The first row that an SM holds as often as it is made for, else the one that it holds most often. */
static void test_ctas_per_sm(void) {
    pod_chip chip = chip_of(80);
    pod_limits limits = limits_of(POD_BF16, 128, 16);
    chip.num_sms = 100;
    set_resident(&chip, 2, 4);
    expect_ctas("0", &chip, &limits, 2, 200);
    set_resident(&chip, 3, 4);
    expect_ctas("0", &chip, &limits, 2, 200);
    set_resident(&chip, 1, 3); /* an A100's, with head_dim 128 */
    expect_ctas("0", &chip, &limits, 4, 300);
    expect_ctas("0,ctas=2", &chip, &limits, 2, 100);
    set_resident(&chip, 1, 4);
    expect_ctas("0", &chip, &limits, 4, 400);
    set_resident(&chip, 1, 1);
    expect_ctas("0", &chip, &limits, 2, 100);
    set_resident(&chip, 0, 1);
    expect_ctas("0", &chip, &limits, 4, 100);
}

/** The same, as the driver counts them for an A100. */
static void test_a100(void) {
    pod_device *device;
    setenv("FAKE_CUDA_CAPABILITY", "80", 1);
    setenv("FAKE_CUDA_SM_SMEM", "167936", 1);
    EXPECT(pod_device_open("cuda:0", &device) == POD_OK, "%s", pod_error_message());
    unsetenv("FAKE_CUDA_CAPABILITY");
    unsetenv("FAKE_CUDA_SM_SMEM");
    const pod_cuda_device *cuda = (const pod_cuda_device *)device;
    pod_limits limits = limits_of(POD_BF16, 128, 16);
    expect_ctas("0", &cuda->chip, &limits, 4, 3 * cuda->chip.num_sms);
    limits.head_dim = 64;
    expect_ctas("0", &cuda->chip, &limits, 2, 2 * cuda->chip.num_sms);
    pod_device_info info = pod_device_info_init();
    EXPECT(pod_device_get_info(device, &info) == POD_OK && info.num_ctas == 3 * cuda->chip.num_sms, "%d CTAs",
           info.num_ctas);
    pod_device_close(device);
}

static void test_choice(void) {
    pod_choice choice;
    pod_chip chip = chip_of(80);
    pod_limits limits = limits_of(POD_BF16, 8, 16);
    EXPECT(choose("0", &chip, &limits, &choice) != NULL, "head_dim = 8: %s", choice.note);
    EXPECT(choose("0,kernel=sm90", &chip, &limits, &choice) == NULL, "head_dim = 8");
    limits = limits_of(POD_BF16, 128, 16);
    limits.page_size = 1;
    expect_ctas("0", &chip, &limits, 2, 2 * 132);
    expect_ctas("0,ctas=4", &chip, &limits, 4, 4 * 132);
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        if (pod__variants[i].family == &pod__family_sm90) test_sm90_row(&pod__variants[i]);
    }
}

/** What the public calls say of it. */
static void test_info(pod_device *device) {
    pod_device_info info = pod_device_info_init();
    EXPECT(pod_device_get_info(device, &info) == POD_OK, "%s", pod_error_message());
    EXPECT(strcmp(info.families, "sm90 sm90mla sm80") == 0 && strcmp(info.kernel, "sm90") == 0, "%s", info.families);
    pod_choice choice;
    pod_limits limits = limits_of(POD_F16, 64, 16);
    EXPECT(device->backend->choose(device, &limits, &choice) == POD_OK, "%s", pod_error_message());
    EXPECT(strcmp(choice.kernel_name, "pod_sm90_fused_f16_d64_c1") == 0, "%s", choice.kernel_name);
    EXPECT(*choice.note == '\0', "%s", choice.note);
    limits.page_size = 1;
    EXPECT(device->backend->choose(device, &limits, &choice) == POD_OK, "%s", pod_error_message());
    EXPECT(strcmp(choice.kernel_name, "pod_sm80_fused_f16_d64_c2") == 0, "%s", choice.kernel_name);
    EXPECT(strncmp(choice.note, "sm90: page_size = 1 ", 20) == 0, "%s", choice.note);
}

/* ---- tensor maps ---- */

typedef struct map_case {
    pod_kernel_params params;
    pod_cuda_device *cuda;
    fake_map k, v;
    pod_call call;
    pod_plan plan;
} map_case;

static void init_case(map_case *c, pod_cuda_device *cuda) {
    static _Alignas(16) uint16_t q[8], k[8], v[8];
    int32_t page_size = 16, kv_heads = 2, head_dim = 128;
    memset(c, 0, sizeof *c);
    c->cuda = cuda;
    c->plan.limits = limits_of(POD_BF16, head_dim, page_size);
    c->plan.limits.v_head_dim = head_dim;
    c->plan.choice.tiling.prefill_tile_tokens = 128;
    c->plan.batch.page_table = (const int32_t *)(const void *)k;
    c->plan.batch.num_pages = 9;
    c->call.plan = &c->plan;
    c->call.tensors.q = q;
    c->call.tensors.q_head_stride = head_dim;
    c->call.tensors.q_token_stride = head_dim * c->plan.limits.q_heads;
    c->call.cache.k = k;
    c->call.cache.v = v;
    c->call.cache.k_head_stride = c->call.cache.v_head_stride = head_dim;
    c->call.cache.k_token_stride = c->call.cache.v_token_stride = kv_heads * head_dim;
    c->call.cache.k_page_stride = c->call.cache.v_page_stride = page_size * kv_heads * head_dim;
}

static pod_status encode(map_case *c) {
    pod_status status = pod__cuda_add_tensor_maps(c->cuda, &c->call, &c->params);
    memcpy(&c->k, &c->params.k_map, sizeof c->k);
    memcpy(&c->v, &c->params.v_map, sizeof c->v);
    return status;
}

static int is_shape(const fake_map *m, int rank, const uint64_t *extents, const uint64_t *stride_bytes,
                    const uint16_t *box) {
    int same = m->rank == rank && memcmp(m->box, box, (size_t)rank * sizeof *box) == 0;
    for (int i = 0; i < rank; i++) {
        same &= m->extents[i] == extents[i] - 1;
        if (i > 0 && extents[i] > 1) same &= m->strides[i - 1] == stride_bytes[i - 1];
    }
    return same;
}

static void test_wide(pod_cuda_device *cuda) {
    map_case c;
    init_case(&c, cuda);
    c.call.cache.v_head_stride = 128 * 16; /* V's heads stand around its tokens */
    c.call.cache.v_token_stride = 128;
    EXPECT(encode(&c) == POD_OK, "%s", pod_error_message());
    EXPECT(c.params.is_wide && c.params.k_head_halves == 2 && c.params.v_head_halves == 32, "%d %d",
           c.params.k_head_halves, c.params.v_head_halves);
    EXPECT(c.k.address == c.call.cache.k && c.v.address == c.call.cache.v, "base");
    EXPECT(is_shape(&c.k, 5, (uint64_t[]){64, 8, 4, 2, 9}, (uint64_t[]){512, 128, 4096, 8192},
                    (uint16_t[]){64, 8, 2, 2, 1}),
           "K");
    EXPECT(is_shape(&c.v, 5, (uint64_t[]){64, 8, 34, 2, 9}, (uint64_t[]){256, 128, 2048, 8192},
                    (uint16_t[]){64, 8, 2, 2, 1}),
           "V");
    EXPECT(c.k.is_bf16, "dtype");
    c.plan.limits.kv_dtype = POD_F16;
    EXPECT(encode(&c) == POD_OK && !c.v.is_bf16, "dtype");
}

/** Heads that begin anywhere, or pages that hold no whole groups of eight tokens, are read half by half. */
static void test_narrow(pod_cuda_device *cuda) {
    map_case c;
    init_case(&c, cuda);
    c.call.cache.v_head_stride = 136;
    c.call.cache.v_token_stride = 2 * 136;
    EXPECT(encode(&c) == POD_OK, "%s", pod_error_message());
    EXPECT(!c.params.is_wide && c.params.k_head_halves == 1 && c.params.v_head_halves == 1, "both are narrow");
    EXPECT(is_shape(&c.v, 5, (uint64_t[]){128, 16, 2, 9, 1}, (uint64_t[]){544, 272, 8192, 0},
                    (uint16_t[]){64, 8, 1, 1, 1}),
           "V");
    EXPECT(c.params.box_tokens == 8 && c.params.box_shift == 3, "%d", c.params.box_tokens);
    init_case(&c, cuda);
    c.plan.limits.page_size = c.plan.limits.max_kv_len = 12;
    EXPECT(encode(&c) == POD_OK && !c.params.is_wide && c.k.extents[1] == 11, "%s", pod_error_message());
    init_case(&c, cuda);
    c.plan.limits.kv_heads = 1; /* the head's stride is of no consequence */
    c.call.cache.k_head_stride = 136;
    EXPECT(encode(&c) == POD_OK && c.params.is_wide && c.params.k_head_halves == 0, "%d", c.params.k_head_halves);
}

static void test_boxes(pod_cuda_device *cuda) {
    static const struct {
        int32_t page_size, has_table, max_kv_len, box_tokens;
    } boxes[] = {
        {8, 1, 4096, 8},   {16, 1, 4096, 16},  {24, 1, 4096, 8},    {32, 1, 4096, 32},   {48, 1, 4096, 16},
        {64, 1, 4096, 64}, {256, 1, 4096, 64}, {192, 1, 4096, 64},  {40, 1, 40, 64},     {12, 1, 12, 8},
        {24, 0, 4096, 64}, {20, 0, 4096, 8},   {4096, 0, 4096, 64}, {5000, 0, 4096, 64},
    };
    map_case c;
    for (size_t i = 0; i < sizeof boxes / sizeof boxes[0]; i++) {
        init_case(&c, cuda);
        c.plan.limits.page_size = boxes[i].page_size;
        c.plan.limits.max_kv_len = boxes[i].max_kv_len;
        if (!boxes[i].has_table) c.plan.batch.page_table = NULL;
        EXPECT(encode(&c) == POD_OK, "%s", pod_error_message());
        EXPECT(c.params.box_tokens == boxes[i].box_tokens, "page_size = %d: %d", boxes[i].page_size,
               c.params.box_tokens);
        EXPECT(1 << c.params.box_shift == c.params.box_tokens, "2^%d", c.params.box_shift);
        EXPECT(c.v.box[3] == (c.params.is_wide ? boxes[i].box_tokens / 8 : 1), "%d", c.v.box[3]);
    }
}

/** Values of another width than keys, and a tile of 64 keys, of which a loader fetches half. */
static void test_widths(pod_cuda_device *cuda) {
    map_case c;
    init_case(&c, cuda);
    c.plan.limits.head_dim = 192;
    c.plan.limits.page_size = 256;
    c.plan.choice.tiling.prefill_tile_tokens = 64;
    c.call.cache.k_head_stride = 192;
    c.call.cache.k_token_stride = 2 * 192;
    EXPECT(encode(&c) == POD_OK, "%s", pod_error_message());
    EXPECT(c.params.is_wide && c.params.k_head_halves == 3 && c.params.v_head_halves == 2, "%d %d",
           c.params.k_head_halves, c.params.v_head_halves);
    EXPECT(is_shape(&c.k, 5, (uint64_t[]){64, 8, 6, 32, 9}, (uint64_t[]){768, 128, 6144, 8192},
                    (uint16_t[]){64, 8, 3, 4, 1}),
           "K");
    EXPECT(is_shape(&c.v, 5, (uint64_t[]){64, 8, 4, 32, 9}, (uint64_t[]){512, 128, 4096, 8192},
                    (uint16_t[]){64, 8, 2, 4, 1}),
           "V");
    c.call.cache.k_head_stride = 200;
    EXPECT(encode(&c) == POD_OK && !c.params.is_wide && c.k.extents[0] == 191 && c.v.extents[0] == 127, "narrow");
}

static void test_queries(pod_cuda_device *cuda) {
    fake_map q;
    map_case c;
    init_case(&c, cuda);
    EXPECT(encode(&c) == POD_OK && c.params.has_q_map, "%s", pod_error_message());
    memcpy(&q, &c.params.q_map, sizeof q);
    EXPECT(q.address == c.call.tensors.q, "base");
    EXPECT(is_shape(&q, 3, (uint64_t[]){128, 8, 64}, (uint64_t[]){256, 2048}, (uint16_t[]){64, 4, 16}), "Q");
    c.plan.limits.q_heads = 6; /* 64 rows are 21 tokens and a head */
    EXPECT(encode(&c) == POD_OK && !c.params.has_q_map, "%s", pod_error_message());
    init_case(&c, cuda);
    c.call.tensors.q_token_stride = INT64_C(1) << 39;
    EXPECT(encode(&c) == POD_OK && !c.params.has_q_map, "%s", pod_error_message());
}

static void expect_refused(map_case *c, pod_status expected, const char *word) {
    pod_status status = encode(c);
    EXPECT(status == expected, "%s: %s", word, pod_status_name(status));
    EXPECT(strstr(pod_error_message(), word) != NULL, "\"%s\", not %s", pod_error_message(), word);
}

static void test_far_strides(pod_cuda_device *cuda) {
    const int64_t most = (INT64_C(1) << 39) - 8, far = INT64_C(1) << 39;
    map_case c;
    init_case(&c, cuda);
    c.call.cache.k_page_stride = most;
    EXPECT(encode(&c) == POD_OK && c.k.strides[3] == (UINT64_C(1) << 40) - 16, "%s", pod_error_message());
    c.call.cache.k_page_stride = far;
    expect_refused(&c, POD_E_UNSUPPORTED, "k_page_stride = 549755813888 ");
    init_case(&c, cuda);
    c.call.cache.v_token_stride = INT64_MAX - 7;
    expect_refused(&c, POD_E_UNSUPPORTED, "v_token_stride");
    init_case(&c, cuda);
    c.call.cache.v_head_stride = far;
    expect_refused(&c, POD_E_UNSUPPORTED, "v_head_stride");

    /* Where there is one head or page, or none, its stride is of no consequence. */
    init_case(&c, cuda);
    c.plan.limits.kv_heads = 1;
    c.plan.batch.num_pages = 0;
    c.call.cache.v_head_stride = c.call.cache.v_page_stride = far;
    EXPECT(encode(&c) == POD_OK && c.v.extents[2] == 1 && c.v.extents[4] == 0, "%s", pod_error_message());

    init_case(&c, cuda);
    setenv("FAKE_CUDA_FAIL", "cuTensorMapEncodeTiled=1", 1);
    expect_refused(&c, POD_E_DEVICE, "describing k");
    unsetenv("FAKE_CUDA_FAIL");
}

/* ---- running them ---- */

static void test_old_driver(const pod_cuda_device *cuda) {
    EXPECT(cuda->driver.tensor_map_encode_tiled == NULL, "the driver should lack it");
    EXPECT(!cuda->chip.has_tensor_maps, "the chip's description disagrees");
    pod_device_info info = pod_device_info_init();
    EXPECT(pod_device_get_info(&cuda->base, &info) == POD_OK && strcmp(info.kernel, "sm80") == 0, "%s", info.kernel);
    EXPECT(strcmp(info.families, "sm90mla sm80") == 0, "%s", info.families);
}

int main(int argc, char **argv) {
    pod_device *device;
    if (pod_device_open("cuda:0", &device) != POD_OK) {
        fprintf(stderr, "%s\n", pod_error_message());
        return EXIT_FAILURE;
    }
    pod_cuda_device *cuda = (pod_cuda_device *)device;
    if (argc > 1 && strcmp(argv[1], "old") == 0) {
        test_old_driver(cuda);
    } else {
        test_choice();
        test_ctas_per_sm();
        test_a100();
        test_info(device);
        test_wide(cuda);
        test_narrow(cuda);
        test_boxes(cuda);
        test_widths(cuda);
        test_queries(cuda);
        test_far_strides(cuda);
    }
    pod_device_close(device);
    printf("%s\n", failures == 0 ? "passed" : "FAILED");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
