/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes become limits and a batch, valid or not. What validation lets pass must be planned right, inside a workspace of
 * exactly the promised size; what it refuses must be planned as a device would, without harm. */
#include "api/validate.h"
#include "fuzz_input.h"
#include "guarded.h"
#include "plan_check.h"
#include "schedule/planner.h"

enum { MAX_REQUESTS = 40, MAX_TABLE_STRIDE = 6, MAX_MASKS = 3, ARENA_BYTES = 16 << 20, RADIX_BITS = 8 };

typedef struct fuzz_batch {
    pod_limits limits;
    pod_batch batch;
    pod_mask masks[MAX_MASKS];
    int32_t arrays[MAX_REQUESTS + 1 + MAX_REQUESTS + MAX_REQUESTS * MAX_TABLE_STRIDE];
} fuzz_batch;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static pod_device *pick_device(fuzz_input *input) {
    static const char *const names[] = {"sim:sms=1", "sim:sms=3", "sim:cpu", "sim:sms=8"};
    static pod_device *devices[4];
    int i = fuzz_byte(input) % 4;
    if (devices[i] == NULL) FUZZ_CHECK(pod_device_open(names[i], &devices[i]) == POD_OK, "%s", pod_error_message());
    return devices[i];
}

static void read_limits(fuzz_input *input, pod_limits *limits) {
    *limits = pod_limits_init();
    limits->kv_heads = fuzz_number(input, 1, 4);
    int32_t group = fuzz_number(input, 1, 9);
    limits->q_heads = limits->kv_heads > 0 && group > 0 && group < 1000 && limits->kv_heads < 1000
                          ? limits->kv_heads * group
                          : fuzz_number(input, 1, 8);
    /* What every device takes; the planner looks at neither. */
    limits->head_dim = 64;
    limits->q_dtype = limits->kv_dtype = limits->out_dtype = POD_BF16;
    limits->max_masks = fuzz_byte(input) % (MAX_MASKS + 1);
    limits->max_requests = fuzz_number(input, 1, MAX_REQUESTS);
    limits->max_q_tokens = fuzz_number(input, 1, 600);
    limits->max_kv_len = fuzz_number(input, 1, 3000);
    uint8_t flags = fuzz_byte(input);
    limits->page_size = flags & 1 ? limits->max_kv_len : fuzz_number(input, 1, 600);
    limits->right_windows = flags >> 1 & 1;
}

/** Usual lengths: with `fits`, such that most batches are valid. */
static int32_t usual_q_len(const pod_limits *limits, int32_t n, int fits) {
    return fits && n > 0 && limits->max_q_tokens < 40 * n ? limits->max_q_tokens / n : 40;
}

static int32_t usual_kv_len(const pod_limits *limits, int fits) {
    return fits && limits->max_kv_len < 3000 ? limits->max_kv_len : 3000;
}

/** The arrays end where the memory does, so that each read past them is seen. */
static void read_batch(fuzz_input *input, fuzz_batch *made) {
    pod_batch *batch = &made->batch;
    *batch = pod_batch_init();
    uint8_t flags = fuzz_byte(input);
    int32_t n = fuzz_byte(input) % (MAX_REQUESTS + 1), stride = fuzz_byte(input) % (MAX_TABLE_STRIDE + 1);
    batch->num_requests = flags & 1 ? n : fuzz_number(input, 0, n);
    if (batch->num_requests > n) n = 0; /* must be refused before an array is read */
    batch->masks = made->masks;
    batch->num_masks = fuzz_byte(input) % (MAX_MASKS + 1);
    for (int32_t m = 0; m < MAX_MASKS; m++) {
        made->masks[m] = pod_mask_init();
        made->masks[m].causal = flags & 2 ? 1 : fuzz_number(input, 0, 1);
        made->masks[m].window_tokens = flags & 4 ? 0 : fuzz_number(input, 0, 700);
        made->masks[m].right_window_tokens = flags & 128 ? fuzz_number(input, 0, 700) : 0;
    }
    batch->num_pages = flags & 8 ? 256 : fuzz_number(input, 0, 300);
    batch->max_pages = flags & 16 ? stride : fuzz_number(input, 0, stride);
    if (batch->max_pages > stride) {
        if (n == 1) batch->max_pages = 0; /* the stride of a single row does not count */
        stride = 0;
    }
    batch->page_table_stride = stride;
    int has_table = (flags & 32) != 0, fits = (flags & 64) != 0;
    int32_t most_q_len = usual_q_len(&made->limits, n, fits), most_kv_len = usual_kv_len(&made->limits, fits);
    int32_t entries = has_table ? n * stride : 0;
    int32_t *arrays = made->arrays + sizeof made->arrays / sizeof made->arrays[0] - (size_t)(2 * n + 1 + entries);
    int32_t *q_start = arrays, *table = arrays + n + 1, *kv_len = table + entries;
    int32_t token = 0;
    for (int32_t r = 0; r <= n; r++) {
        q_start[r] = token;
        int32_t q_len = fuzz_number(input, 0, most_q_len);
        int is_sum = q_len >= 0 && q_len <= 40 && token >= 0 && token <= 4000;
        token = is_sum ? token + q_len : q_len;
    }
    for (int32_t i = 0; i < entries; i++) table[i] = fuzz_number(input, 0, 255);
    for (int32_t r = 0; r < n; r++) kv_len[r] = fuzz_number(input, 0, most_kv_len);
    batch->q_start = q_start;
    batch->kv_len = kv_len;
    batch->page_table = has_table ? table : NULL;
}

/** Arrays that validation refused, planned as on a device. */
static void plan_unvalidated(pod_plan *plan, const fuzz_batch *made, plan_check *check) {
    pod_batch batch = made->batch;
    pod_batch taken;
    pod_mask masks[POD_MAX_MASKS];
    batch.memory = POD_MEMORY_DEVICE; /* the struct itself is checked on the host, wherever the arrays are */
    if (pod__take_batch(&plan->limits, &batch, &taken, masks) != POD_OK) return;
    pod_team team = {0, 1, RADIX_BITS, plan->sort_digits};
    plan->batch = taken;
    plan->num_masks = taken.num_masks;
    for (int32_t m = 0; m < taken.num_masks; m++) {
        plan->shapes[m] = (pod_shape){.num_requests = taken.num_requests,
                                      .group = plan->limits.q_heads / plan->limits.kv_heads,
                                      .kv_heads = plan->limits.kv_heads,
                                      .causal = masks[m].causal,
                                      .window_tokens = masks[m].window_tokens,
                                      .right_window_tokens = masks[m].right_window_tokens,
                                      .max_q_tokens = taken.num_q_tokens,
                                      .max_kv_len = plan->limits.max_kv_len,
                                      .q_start = taken.q_start,
                                      .kv_len = taken.kv_len};
        plan->schedules[m] = pod__layout_place(&plan->layout, &plan->workspace, m);
        plan->schedules[m].header->signature = plan->signature;
        pod_core_plan(&team, &plan->shapes[m], &plan->choice.tiling, &plan->schedules[m]);
    }
    plan->is_built = 1;
    FUZZ_CHECK(plan_check_all(check, plan), "%s", check->message);
}

/** Whether a GPU's kernel may not be made for the batch's masks: limits did not ask for one that is. */
static int has_mask_beyond_limits(const fuzz_batch *made) {
    int has_right_window = 0;
    for (int32_t m = 0; m < made->batch.num_masks; m++) has_right_window |= made->masks[m].right_window_tokens != 0;
    return has_right_window && !made->limits.right_windows;
}

static void check_batch(pod_plan *plan, const fuzz_batch *made) {
    static plan_check check;
    pod_status status = pod_plan_build(plan, &made->batch, NULL);
    if (status == POD_OK) {
        FUZZ_CHECK(plan_check_all(&check, plan), "%s", check.message);
        return;
    }
    FUZZ_CHECK(status == POD_E_ARGUMENT || status == POD_E_LIMIT ||
                   (status == POD_E_UNSUPPORTED && has_mask_beyond_limits(made)),
               "%s: %s", pod_status_name(status), pod_error_message());
    FUZZ_CHECK(pod_plan_visit(plan, 0, NULL, NULL) == POD_E_STATE, "a refused batch left a plan");
    plan_unvalidated(plan, made, &check);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static unsigned char arena[ARENA_BYTES] __attribute__((aligned(POD_WORKSPACE_ALIGN)));
    static fuzz_batch made;
    fuzz_input input = {data, size};
    pod_device *device = pick_device(&input);
    pod_plan *plan = NULL;
    pod_workspace workspace = pod_workspace_init();
    read_limits(&input, &made.limits);
    pod_status status = pod_workspace_size(device, &made.limits, &workspace);
    FUZZ_CHECK(status == POD_OK || status == POD_E_ARGUMENT || status == POD_E_LIMIT, "%s", pod_status_name(status));
    size_t bytes = workspace.plan_bytes + workspace.scratch_bytes;
    if (status != POD_OK || bytes > ARENA_BYTES) return 0;
    read_batch(&input, &made);
    workspace.scratch = arena; /* which the planner does not touch */
    workspace.plan = arena + workspace.scratch_bytes;
    FUZZ_CHECK(pod_plan_create(device, &made.limits, &plan) == POD_OK, "%s", pod_error_message());
    FUZZ_CHECK(pod_plan_attach(plan, &workspace) == POD_OK, "%s", pod_error_message());
    ASAN_POISON_MEMORY_REGION(arena, workspace.scratch_bytes);
    ASAN_POISON_MEMORY_REGION(arena + bytes, ARENA_BYTES - bytes);
    check_batch(plan, &made);
    ASAN_UNPOISON_MEMORY_REGION(arena, ARENA_BYTES);
    pod_plan_destroy(plan);
    return 0;
}
