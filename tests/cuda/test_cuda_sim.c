/* SPDX-License-Identifier: Apache-2.0 */
/* A simulated GPU chooses and refuses as the GPU does: the same kernel, the same tiling, the same words, and a
 * workspace of the same size. Runs on the fake driver, whose chip is an H100's or, if FAKE_CUDA_CAPABILITY says so, an
 * A100's, with SMs of its own number. */
#include "backend/backend.h"
#include "property.h"

enum { NUM_OPTIONS = 4, MAX_NAME = 160 };

/** Options of a device's name, most of them none. */
static void random_options(test_rng *rng, char *text, size_t bytes) {
    static const char *const options[NUM_OPTIONS][5] = {
        {"", "kernel=auto", "kernel=sm80", "kernel=sm90", "kernel=sm90mla"},
        {"", "", "ctas=auto", "ctas=2", "ctas=4"},
        {"", "", "", "policy=proportional", "policy=half"},
        {"", "", "", "fusion=sm", "fusion=hfuse"},
    };
    size_t length = 0;
    *text = '\0';
    for (int i = 0; i < NUM_OPTIONS; i++) {
        const char *option = options[i][rng_range(rng, 0, 4)];
        if (*option != '\0') length += (size_t)snprintf(text + length, bytes - length, ",%s", option);
    }
}

static pod_limits random_shape(test_rng *rng) {
    static const int32_t head_dims[] = {64, 64, 128, 128, 8, 96, 192, 256};
    static const int32_t page_sizes[] = {1, 8, 12, 16, 24, 100, 256, 4096};
    static const int32_t max_kv_lens[] = {1, 8, 12, 100, 101, 4096, 1 << 17};
    pod_limits limits = pod_limits_init();
    limits.kv_heads = rng_range(rng, 1, 8);
    limits.q_heads = limits.kv_heads * rng_range(rng, 1, 16);
    limits.head_dim = rng_pick(rng, head_dims, 8);
    if (rng_chance(rng, 15)) limits.head_dim = 576, limits.v_head_dim = rng_chance(rng, 80) ? 512 : 128;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = rng_chance(rng, 50) ? POD_BF16 : POD_F16;
    if (rng_chance(rng, 10)) limits.q_dtype = (pod_dtype)rng_range(rng, 0, 3);
    if (rng_chance(rng, 10)) limits.kv_dtype = (pod_dtype)rng_range(rng, 0, 3);
    if (rng_chance(rng, 10)) limits.out_dtype = (pod_dtype)rng_range(rng, 0, 3);
    limits.page_size = rng_pick(rng, page_sizes, 8);
    limits.max_kv_len = rng_pick(rng, max_kv_lens, 7);
    limits.max_requests = rng_range(rng, 1, 64);
    limits.max_q_tokens = rng_range(rng, 1, 4096);
    limits.max_masks = rng_range(rng, 0, POD_MAX_MASKS);
    if (rng_chance(rng, 30)) limits.batch_memory = POD_MEMORY_DEVICE;
    return limits;
}

/** What a device of that name does with the limits, as far as it gets. */
typedef struct outcome {
    pod_status status;
    char message[512];
    pod_choice choice;
    pod_workspace sizes;
} outcome;

static void ask(const char *name, const pod_limits *limits, outcome *outcome) {
    pod_device *device = NULL;
    memset(outcome, 0, sizeof *outcome);
    outcome->status = pod_device_open(name, &device);
    if (outcome->status == POD_OK) outcome->status = device->backend->choose(device, limits, &outcome->choice);
    outcome->sizes = pod_workspace_init();
    if (outcome->status == POD_OK) outcome->status = pod_workspace_size(device, limits, &outcome->sizes);
    if (outcome->status != POD_OK) snprintf(outcome->message, sizeof outcome->message, "%s", pod_error_message());
    pod_device_close(device);
}

/** Everything but the device's own name, which a refusal to open it contains. */
static int agree(const char *options, const outcome *gpu, const outcome *sim) {
    const pod_choice *a = &gpu->choice, *b = &sim->choice;
    PROPERTY(gpu->status == sim->status, "\"%s\": %s \"%s\", but sim %s \"%s\"", options, pod_status_name(gpu->status),
             gpu->message, pod_status_name(sim->status), sim->message);
    int names_device = gpu->status == POD_E_NO_DEVICE;
    PROPERTY(names_device || strcmp(gpu->message, sim->message) == 0, "\"%s\", but sim \"%s\"", gpu->message,
             sim->message);
    if (gpu->status != POD_OK) return 0;
    PROPERTY(a->kernel == b->kernel, "\"%s\": kernel %d, but sim %d", options, a->kernel, b->kernel);
    PROPERTY(memcmp(&a->tiling, &b->tiling, sizeof a->tiling) == 0, "\"%s\": tilings differ", options);
    PROPERTY(gpu->sizes.plan_bytes == sim->sizes.plan_bytes, "\"%s\": plan_bytes %zu, but sim %zu", options,
             gpu->sizes.plan_bytes, sim->sizes.plan_bytes);
    PROPERTY(gpu->sizes.scratch_bytes == sim->sizes.scratch_bytes, "\"%s\": scratch_bytes %zu, but sim %zu", options,
             gpu->sizes.scratch_bytes, sim->sizes.scratch_bytes);
    PROPERTY(strcmp(a->note, b->note) == 0, "\"%s\", but sim \"%s\"", a->note, b->note);
    PROPERTY(strcmp(a->kernel_name, pod__variants[a->kernel].kernel) == 0, "%s", a->kernel_name);
    PROPERTY(strcmp(a->kernel_name, b->kernel_name) == 0, "%s, but sim %s", a->kernel_name, b->kernel_name);
    return 0;
}

static int agree_case(test_rng *rng, void *context) {
    const char *target = context;
    char options[MAX_NAME], gpu_name[MAX_NAME + 16], sim_name[MAX_NAME + 16];
    static outcome gpu, sim;
    pod_limits limits = random_shape(rng);
    random_options(rng, options, sizeof options);
    snprintf(gpu_name, sizeof gpu_name, "cuda:0%s", options);
    snprintf(sim_name, sizeof sim_name, "sim:%s%s", target, options);
    ask(gpu_name, &limits, &gpu);
    ask(sim_name, &limits, &sim);
    return agree(options, &gpu, &sim);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: test_cuda_sim TARGET\n"), EXIT_FAILURE;
    return property_run("sim", 2000, agree_case, argv[1]);
}
