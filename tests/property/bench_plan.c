/* SPDX-License-Identifier: Apache-2.0 */
/* Time of pod_plan_build() on one core. In an optimised build without sanitizers it has to stay within bounds. */
#include "plan_check.h"
#include "property.h"
#include "random_batch.h"
#include "step_times.h"
#include "test_workspace.h"

enum { ROUNDS = 200 };

/** A server's step: one prefill chunk of 512 tokens in each 64 requests, the others decode. */
static void fill(test_batch *batch, test_rng *rng, int32_t num_requests) {
    batch->batch.num_requests = batch->batch.num_pages = num_requests;
    batch->masks[0].causal = 1;
    batch->q_start[0] = 0;
    for (int32_t r = 0; r < num_requests; r++) {
        int32_t q_len = r % 64 == 0 ? 512 : 1;
        batch->q_start[r + 1] = batch->q_start[r] + q_len;
        batch->kv_len[r] = rng_range(rng, 512, 16384);
    }
}

static int measure(pod_plan *plan, const test_batch *batch, double *median_us) {
    double times_us[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        double begin_us = now_us();
        PROPERTY(pod_plan_build(plan, &batch->batch, NULL) == POD_OK, "%s", pod_error_message());
        times_us[i] = now_us() - begin_us;
    }
    sort_times(times_us, ROUNDS);
    *median_us = times_us[ROUNDS / 2];
    return 0;
}

static int bench(const char *target, int32_t num_requests, double bound_us) {
    test_rng rng = {1};
    pod_limits limits = pod_limits_init();
    limits.q_heads = 32;
    limits.kv_heads = 8;
    limits.head_dim = 128;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = POD_BF16;
    limits.max_requests = num_requests;
    limits.max_q_tokens = 16 * num_requests;
    limits.max_kv_len = limits.page_size = 16384;
    pod_device *device = NULL;
    pod_plan *plan = NULL;
    test_workspace workspace;
    test_batch batch;
    PROPERTY(pod_device_open(target, &device) == POD_OK &&
                 test_workspace_plan(device, &limits, 0, &workspace, &plan) == POD_OK,
             "%s", pod_error_message());
    PROPERTY(test_batch_alloc(&batch, &limits), "no memory");
    fill(&batch, &rng, num_requests);
    double us = 0;
    int failed = measure(plan, &batch, &us);
    printf("plan %4d requests for %-8s  %7.1f us (at most %.0f)\n", num_requests, target, us, bound_us);
    test_workspace_free(&workspace);
    test_batch_free(&batch);
    pod_plan_destroy(plan);
    pod_device_close(device);
#ifdef POD_TEST_TIMED
    PROPERTY(us <= bound_us, "%.1f us", us);
#endif
    return failed;
}

int main(void) {
    static const char *const targets[] = {"sim:h100", "sim:a100", "sim:cpu"};
    for (int i = 0; i < 3; i++) {
        if (bench(targets[i], 256, 50) || bench(targets[i], 4096, 1000)) return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
