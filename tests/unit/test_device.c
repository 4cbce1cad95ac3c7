/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "backend/backend.h"

#include <stdio.h>

static void *const POISON = (void *)&POISON;

static void assert_refused(const char *name, pod_status status, const char *message) {
    pod_device *device = POISON;
    assert_fails(pod_device_open(name, &device), status, message);
    assert_null(device);
}

static pod_device_info open_and_describe(const char *name) {
    pod_device *device = NULL;
    pod_device_info info = pod_device_info_init();
    assert_ok(pod_device_open(name, &device));
    assert_ok(pod_device_get_info(device, &info));
    pod_device_close(device);
    return info;
}

static void unknown_names_are_refused(void **state) {
    (void)state;
    static const char known[] = "is no device; known are auto, cpu, cpu:THREADS, cpu:isa=NAME, cuda:N, sim:TARGET";
    static const char *const names[] = {"", "gpu", "CPU", "cpu4", "sim h100", ":"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char message[256];
        snprintf(message, sizeof message, "name = \"%s\" %s", names[i], known);
        assert_refused(names[i], POD_E_ARGUMENT, message);
    }
    assert_refused(NULL, POD_E_ARGUMENT, "name is NULL");
    assert_fails(pod_device_open("cpu", NULL), POD_E_ARGUMENT, "device is NULL");
    assert_refused("auto:1", POD_E_ARGUMENT, "name = \"auto:1\": auto takes no argument");
    static const char *const empty[] = {"auto:", "cpu:", "cuda:", "sim:"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        char message[256];
        snprintf(message, sizeof message, "name = \"%s\": nothing follows the colon", empty[i]);
        assert_refused(empty[i], POD_E_ARGUMENT, message);
    }
}

static void sim_targets(void **state) {
    (void)state;
    assert_refused("sim", POD_E_ARGUMENT, "sim target \"\" is none of h100, a100, cpu, sms=N (N from 1 to 1024)");
    static const char *const bad[] = {
        "h200",     "sms=", "sms=0", "sms=1025", "sms=12x", "sms=-1", "sms= 1", "H100", "sms=99999999999999999999",
        "h100 more"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[64], message[256];
        snprintf(name, sizeof name, "sim:%s", bad[i]);
        snprintf(message, sizeof message, "sim target \"%s\" is none of h100, a100, cpu, sms=N (N from 1 to 1024)",
                 bad[i]);
        assert_refused(name, POD_E_ARGUMENT, message);
    }
    assert_int_equal(open_and_describe("sim:h100").num_ctas, 132);
    assert_int_equal(open_and_describe("sim:h100,kernel=sm80").num_ctas, 2 * 132);
    assert_int_equal(open_and_describe("sim:h100,ctas=4").num_ctas, 4 * 132);
    assert_int_equal(open_and_describe("sim:sms=3,policy=proportional").num_ctas, 2 * 3);
    assert_int_equal(open_and_describe("sim:a100").num_ctas, 3 * 108); /* an SM holds one of the large CTAs */
    assert_int_equal(open_and_describe("sim:a100,ctas=2").num_ctas, 108);
    assert_int_equal(open_and_describe("sim:sms=1").num_ctas, 2);
    pod_device_info info = open_and_describe("sim:sms=1024");
    assert_int_equal(info.num_ctas, 1024);
    assert_string_equal(info.backend, "sim");
    assert_string_equal(info.name, "sms=1024");
    assert_string_equal(info.kernel, "none");
    assert_int_equal(info.num_threads, 0);
}

/** A simulated GPU's options are a GPU's. */
static void sim_options(void **state) {
    (void)state;
    static const char known[] = "is no option of a cuda device; known are fusion=sm|hfuse, policy=proportional|half, "
                                "ctas=auto|2|4, kernel=auto|sm80|sm90mla|sm90";
    static const char *const bad[] = {"", "ctas=3", "kernel=", "kernel=sm8", "kernel=sm800", "kernel=auto ", "fast"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[64], message[256];
        snprintf(name, sizeof name, "sim:h100,ctas=2,%s", bad[i]);
        snprintf(message, sizeof message, "\"%s\" %s", bad[i], known);
        assert_refused(name, POD_E_ARGUMENT, message);
    }
    assert_refused("sim:h100,ctas=2,kernel=auto,ctas=4", POD_E_ARGUMENT,
                   "\"ctas=4\" is a second option for the same choice");
    assert_refused("sim:h100,kernel=sm80,kernel=sm80", POD_E_ARGUMENT,
                   "\"kernel=sm80\" is a second option for the same choice");
    assert_refused("sim:cpu,kernel=sm80", POD_E_ARGUMENT, "sim:cpu takes no options");
    assert_refused("sim:a100,kernel=sm90", POD_E_NO_DEVICE,
                   "this library has no kernel of that name's options for a100,kernel=sm90 (compute capability 8.0)");
    assert_refused("sim:h100,kernel=sm90,ctas=2", POD_E_NO_DEVICE,
                   "this library has no kernel of that name's options for h100,kernel=sm90,ctas=2 (compute capability "
                   "9.0)");
#ifdef POD_BASELINES
    assert_int_equal(open_and_describe("sim:h100,fusion=hfuse").num_ctas, 132);
    assert_int_equal(open_and_describe("sim:h100,policy=half").num_ctas, 2 * 132);
#else
    assert_refused("sim:h100,fusion=hfuse", POD_E_ARGUMENT,
                   "fusion=hfuse: this build has no baselines: configure with -DPODATTN_BASELINES=ON");
    assert_refused("sim:h100,ctas=4,policy=half", POD_E_ARGUMENT,
                   "policy=half: this build has no baselines: configure with -DPODATTN_BASELINES=ON");
#endif
}

/* ---- kernels ---- */

typedef struct kernel_list {
    pod_kernel_info kernels[64];
    int32_t count, stop_after;
} kernel_list;

static int add_kernel(void *context, const pod_kernel_info *info) {
    kernel_list *list = context;
    assert_in_range(list->count, 0, 63);
    list->kernels[list->count++] = *info;
    return list->count == list->stop_after;
}

static kernel_list list_kernels(const char *name, int32_t stop_after) {
    pod_device *device = NULL;
    kernel_list list = {.stop_after = stop_after};
    assert_ok(pod_device_open(name, &device));
    assert_ok(pod_device_visit_kernels(device, add_kernel, &list));
    pod_device_close(device);
    for (int32_t i = 0; i < list.count; i++) assert_int_equal(list.kernels[i].struct_size, sizeof list.kernels[i]);
    return list;
}

/** Every listed kernel is what its options choose. */
static void assert_options_choose(const char *name, const pod_kernel_info *kernel) {
    char with_options[128];
    pod_device *device = NULL;
    pod_choice choice;
    pod_limits limits = pod_limits_init();
    limits.q_heads = limits.kv_heads = limits.page_size = 8;
    limits.head_dim = kernel->head_dim;
    limits.v_head_dim = kernel->v_head_dim;
    limits.q_dtype = limits.out_dtype = kernel->dtype;
    limits.kv_dtype = kernel->kv_dtype;
    limits.max_requests = limits.max_q_tokens = limits.max_kv_len = 8;
    snprintf(with_options, sizeof with_options, "%s,%s", name, kernel->options);
    assert_ok(pod_device_open(with_options, &device));
    assert_ok(device->backend->choose(device, &limits, &choice));
    assert_string_equal(pod__variants[choice.kernel].kernel, kernel->name);
    assert_int_equal(choice.tiling.num_ctas % kernel->ctas_per_row, 0);
    pod_device_close(device);
}

static void kernels_of_gpus(void **state) {
    (void)state;
    static const char *const names[] = {"sim:h100", "sim:a100", "sim:sms=2"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        kernel_list list = list_kernels(names[i], 0);
        assert_true(list.count > 0);
        for (int32_t k = 0; k < list.count; k++) assert_options_choose(names[i], &list.kernels[k]);
    }
    kernel_list h100 = list_kernels("sim:h100,kernel=sm80", 0), a100 = list_kernels("sim:a100", 0);
    assert_int_equal(h100.count, POD_NUM_VARIANTS);
    assert_string_equal(h100.kernels[0].family, "sm90");
    assert_string_equal(h100.kernels[0].row_name, "pair");
    assert_int_equal(h100.kernels[0].ctas_per_row, 2);
    assert_int_equal(h100.kernels[0].num_lanes, 2);
    assert_int_equal(h100.kernels[0].has_fixed_lanes, 1);
    assert_string_equal(a100.kernels[1].name, "pod_sm80_fused_bf16_d128_c4");
    assert_string_equal(a100.kernels[1].options, "kernel=sm80,ctas=4");
    assert_string_equal(a100.kernels[1].row_name, "SM");
    assert_int_equal(a100.kernels[1].ctas_per_sm, 4);
    assert_int_equal(a100.kernels[1].num_lanes, 3); /* what fits */
    assert_int_equal(list_kernels("sim:h100", 3).count, 3);
}

/** A kernel whose tiles the heads fill, otherwise the one with the smallest tiles that hold them. */
static void kernels_of_head_dims(void **state) {
    (void)state;
    static const struct {
        const char *device;
        int32_t head_dim;
        pod_dtype kv;
        const char *kernel, *note;
    } cases[] = {
        {"sim:h100", 64, POD_BF16, "pod_sm90_fused_bf16_d64_c1", ""},
        {"sim:h100", 128, POD_F8E4M3, "pod_sm80_fused_bf16_f8e4m3_d128_c2", "sm90: kv_dtype f8e4m3"},
        {"sim:h100", 8, POD_BF16, "pod_sm80_padded_bf16_d128_c2", "sm90: head_dim = 8 "},
        {"sim:h100", 120, POD_BF16, "pod_sm80_padded_bf16_d128_c2", "sm90: head_dim = 120 "},
        {"sim:h100", 136, POD_BF16, "pod_sm80_padded_bf16_d256_c2", "sm90: head_dim = 136 "},
        {"sim:h100", 256, POD_F8E4M3, "pod_sm80_padded_bf16_f8e4m3_d256_c2", "sm90: kv_dtype f8e4m3"},
        {"sim:h100", 96, POD_F8E4M3, "pod_sm80_padded_bf16_f8e4m3_d256_c2", "sm90: kv_dtype f8e4m3"},
        {"sim:a100", 64, POD_BF16, "pod_sm80_fused_bf16_d64_c2", "sm90: the chip's"},
        {"sim:a100", 80, POD_BF16, "pod_sm80_padded_bf16_d128_c4", "sm90: the chip's"},
        {"sim:a100", 256, POD_BF16, "pod_sm80_padded_bf16_d256_c2", "sm90: the chip's"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pod_device *device = NULL;
        pod_choice choice;
        pod_limits limits = pod_limits_init();
        limits.q_heads = limits.kv_heads = limits.page_size = limits.max_kv_len = 8;
        limits.head_dim = cases[i].head_dim;
        limits.q_dtype = limits.out_dtype = POD_BF16;
        limits.kv_dtype = cases[i].kv;
        limits.max_requests = limits.max_q_tokens = 8;
        assert_ok(pod_device_open(cases[i].device, &device));
        assert_ok(device->backend->choose(device, &limits, &choice));
        assert_string_equal(choice.kernel_name, cases[i].kernel);
        assert_int_equal(strncmp(choice.note, cases[i].note, strlen(cases[i].note)), 0);
        assert_int_equal(*choice.note == '\0', *cases[i].note == '\0');
        pod_device_close(device);
    }
}

static void kernels_of_cpus(void **state) {
    (void)state;
    kernel_list cpu = list_kernels("cpu:1", 0), sim = list_kernels("sim:cpu", 0);
    assert_in_range(cpu.count, 1, 4);
    for (int32_t i = 0; i < cpu.count; i++) {
        char name[128];
        snprintf(name, sizeof name, "cpu:1,%s", cpu.kernels[i].options);
        assert_string_equal(open_and_describe(name).kernel, cpu.kernels[i].name);
        assert_int_equal(cpu.kernels[i].head_dim, 0);
        assert_string_equal(cpu.kernels[i].row_name, "worker");
    }
    assert_int_equal(sim.count, 1);
    assert_string_equal(sim.kernels[0].name, "cpu");
    assert_string_equal(sim.kernels[0].options, "");
    pod_device *device = NULL;
    assert_ok(pod_device_open("cpu:1", &device));
    assert_fails(pod_device_visit_kernels(NULL, add_kernel, &cpu), POD_E_ARGUMENT, "device is NULL");
    assert_fails(pod_device_visit_kernels(device, NULL, &cpu), POD_E_ARGUMENT, "visit is NULL");
    pod_device_close(device);
}

/** Limits that a simulated GPU refuses, as the GPU does. */
static void sim_refuses_limits(void **state) {
    (void)state;
    static const struct {
        const char *device;
        pod_dtype q, kv, out;
        int32_t head_dim, page_size;
        const char *message;
    } cases[] = {
        {"sim:h100,kernel=sm90", POD_BF16, POD_BF16, POD_BF16, 80, 16,
         "head_dim = 80 is not supported by the sm90 kernels; 64, 128, 192 and 256 are (the device's name asks for "
         "kernel=sm90)"},
        {"sim:a100,ctas=4", POD_F16, POD_F16, POD_F16, 256, 1,
         "head_dim = 256, kv_dtype f16 is not supported by the sm80 kernels with the device's options"},
        {"sim:sms=7", POD_F32, POD_F32, POD_F32, 128, 16,
         "q_dtype f32 is not supported by the sm80 kernels; bf16 and f16 are"},
        {"sim:h100,kernel=sm90", POD_BF16, POD_F8E4M3, POD_BF16, 128, 16,
         "kv_dtype f8e4m3 with q_dtype bf16 is not supported by the sm90 kernels; bf16 is (the device's name asks for "
         "kernel=sm90)"},
        {"sim:h100", POD_F16, POD_F16, POD_BF16, 64, 16,
         "out_dtype bf16 with q_dtype f16 is not supported by the sm80 kernels; f16 is"},
        {"sim:h100,kernel=sm90", POD_BF16, POD_BF16, POD_BF16, 128, 12,
         "page_size = 12 is no multiple of 8 and max_kv_len = 64 is more than a page (the device's name asks for "
         "kernel=sm90)"},
        {"sim:h100", POD_F16, POD_F32, POD_F16, 64, 16,
         "kv_dtype f32 with q_dtype f16 is not supported by the sm80 kernels; f16 and f8e4m3 are"},
        {"sim:cpu", POD_F8E4M3, POD_F8E4M3, POD_BF16, 128, 16,
         "q_dtype f8e4m3 is not supported by the cpu backend; f32, f16 and bf16 are"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pod_device *device = NULL;
        pod_plan *plan = NULL;
        pod_limits limits = pod_limits_init();
        limits.q_heads = limits.kv_heads = 2;
        limits.head_dim = cases[i].head_dim;
        limits.q_dtype = cases[i].q;
        limits.kv_dtype = cases[i].kv;
        limits.out_dtype = cases[i].out;
        limits.page_size = cases[i].page_size;
        limits.max_requests = 1;
        limits.max_q_tokens = limits.max_kv_len = 64;
        assert_ok(pod_device_open(cases[i].device, &device));
        assert_fails(pod_plan_create(device, &limits, &plan), POD_E_UNSUPPORTED, cases[i].message);
        pod_device_close(device);
    }
}

static void cpu_threads(void **state) {
    (void)state;
    static const char *const bad[] = {"0", "-1", "4x", "99999999999999999999", "1025", " 1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[64], message[256];
        snprintf(name, sizeof name, "cpu:%s", bad[i]);
        snprintf(message, sizeof message, "cpu threads \"%s\" is no number from 1 to 1024", bad[i]);
        assert_refused(name, POD_E_ARGUMENT, message);
    }
    assert_refused("cpu:isa=", POD_E_ARGUMENT, "cpu option \"isa=\" is not isa=NAME");
    assert_refused("cpu:2,", POD_E_ARGUMENT, "cpu option \"\" is not isa=NAME");
    assert_refused("cpu:2,fast", POD_E_ARGUMENT, "cpu option \"fast\" is not isa=NAME");
    assert_refused("cpu:isa=sse2", POD_E_ARGUMENT, "isa=sse2 is none of avx512-bf16, avx512, avx2, generic");
    pod_device_info info = open_and_describe("cpu:3");
    assert_string_equal(info.backend, "cpu");
    assert_int_equal(info.num_threads, 3);
    assert_string_equal(info.note, "");
    assert_true(open_and_describe("cpu").num_threads >= 1);
    assert_string_equal(open_and_describe("cpu:2,isa=generic").kernel, "generic");
    char chosen[64], name[80];
    snprintf(chosen, sizeof chosen, "%s", open_and_describe("cpu").kernel);
    snprintf(name, sizeof name, "cpu:3,isa=%s", chosen);
    assert_string_equal(open_and_describe("cpu:1").kernel, chosen);
    assert_string_equal(open_and_describe(name).kernel, chosen);
}

static void every_device_has_the_cpus_schedule_on_the_cpu(void **state) {
    (void)state;
    int32_t num_ctas = open_and_describe("sim:cpu").num_ctas;
    assert_int_equal(open_and_describe("cpu:1").num_ctas, num_ctas);
    assert_int_equal(open_and_describe("cpu:7").num_ctas, num_ctas);
}

static void auto_says_why(void **state) {
    (void)state;
    pod_device_info info = open_and_describe("auto");
    assert_string_not_equal(info.note, "");
    assert_string_not_equal(info.backend, "sim");
}

static void a_gpu_that_is_not_there_is_refused(void **state) {
    (void)state;
    pod_device *device = POISON;
    assert_int_equal(pod_device_open("cuda:99", &device), POD_E_NO_DEVICE);
    assert_null(device);
    assert_string_not_equal(pod_error_message(), "");
}

static void info_checks_its_arguments(void **state) {
    (void)state;
    pod_device *device;
    assert_ok(pod_device_open("sim:cpu", &device));
    pod_device_info info = pod_device_info_init();
    assert_fails(pod_device_get_info(NULL, &info), POD_E_ARGUMENT, "device is NULL");
    assert_fails(pod_device_get_info(device, NULL), POD_E_ARGUMENT, "device_info is NULL");
    memset(&info, 0x5a, sizeof info);
    pod_device_info before = info;
    info.struct_size = before.struct_size = 4;
    char message[128];
    snprintf(message, sizeof message,
             "device_info.struct_size = 4 is not a size of this struct (%zu); start from pod_device_info_init()",
             sizeof info);
    assert_fails(pod_device_get_info(device, &info), POD_E_ARGUMENT, message);
    assert_memory_equal(&info, &before, sizeof info);
    pod_device_close(device);
    pod_device_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(sim_targets),
        cmocka_unit_test(sim_options),
        cmocka_unit_test(sim_refuses_limits),
        cmocka_unit_test(kernels_of_gpus),
        cmocka_unit_test(kernels_of_head_dims),
        cmocka_unit_test(kernels_of_cpus),
        cmocka_unit_test(cpu_threads),
        cmocka_unit_test(every_device_has_the_cpus_schedule_on_the_cpu),
        cmocka_unit_test(auto_says_why),
        cmocka_unit_test(a_gpu_that_is_not_there_is_refused),
        cmocka_unit_test(info_checks_its_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
