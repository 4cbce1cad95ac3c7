/* SPDX-License-Identifier: Apache-2.0 */
/* One attention problem with its inputs on the host and on the GPU, poisoned outputs, and the comparison with the
 * oracle. */
#ifndef POD_TEST_GPU_CASE_H
#define POD_TEST_GPU_CASE_H

#include "base/errors.h"
#include "gpu.h"
#include "random_batch.h"

/** What the outputs of a request have to be. */
typedef enum gpu_expect {
    EXPECT_ORACLE = 0,
    EXPECT_ZERO,     /**< zeros and -inf: the request was rejected */
    EXPECT_NAN,      /**< no element is a number */
    EXPECT_UNTOUCHED /**< still poisoned: not even its query tokens are known */
} gpu_expect;

typedef struct gpu_case {
    pod_limits limits;
    test_batch batch; /**< on the host */
    pod_batch device_batch;
    pod_mask device_masks[POD_MAX_MASKS];
    pod_tensors host; /**< out and lse: what the GPU wrote */
    pod_cache host_cache;
    pod_tensors device; /**< the same in the GPU's memory */
    pod_cache device_cache;
    int has_no_v;  /**< values are in k */
    int has_own_v; /**< said before gpu_case_fill(): they never are */
    char *kv;      /**< k and v, in one storage or two; tokens that no query sees are NaN and infinities */
    size_t q_elements, kv_bytes, v_offset_bytes, out_elements, lse_elements;
    void *device_kv;
    float *host_scales, *device_scales; /**< NULL, or of k for each KV head, then of v */
    pod_plan *plan;
    pod_workspace workspace; /**< in the GPU's memory, bad_request too */
} gpu_case;

/** Bounds on a random case. */
typedef struct gpu_case_bounds {
    int32_t max_requests, max_q_tokens, max_kv_len;
    double max_work; /**< query tokens x keys x query heads x head_dim, what the oracle has to do */
} gpu_case_bounds;

/** Random shapes that the device takes, layouts, options and contents. */
void gpu_case_random(gpu_case *c, test_rng *rng, const pod_device *device, const gpu_case_bounds *bounds);

/** Whether the device has a kernel for the case's limits. */
int gpu_case_is_taken(const gpu_case *c, const pod_device *device);

/** Random layouts, options and contents for limits, and a batch already in `c`. Page table: from the batch. */
void gpu_case_fill(gpu_case *c, test_rng *rng);

/** A request's key, and its value, in the host's copy of the cache. */
void *gpu_case_key(const gpu_case *c, int32_t request, int32_t key, int32_t head);
void *gpu_case_value(const gpu_case *c, int32_t request, int32_t key, int32_t head);

/** New keys and values for the batch's lengths and pages, in the same layout; on the GPU too, if they are there. */
void gpu_case_refill(gpu_case *c, const gpu *gpu, test_rng *rng);

/** Copies the inputs to the GPU, allocates outputs and workspace there, poisons them and makes a plan. */
void gpu_case_upload(gpu_case *c, const gpu *gpu, pod_device *device);

/** Fills outputs with NaN and, if `with_workspace`, the workspace with 0xff; not if PODATTN_RAW_WORKSPACE is set: then
 * compute-sanitizer's initcheck sees what is read before it is written. */
void gpu_case_poison(const gpu_case *c, const gpu *gpu, int with_workspace);

/** Plans (from the host's arrays or the device's) and runs. Ends the program on an error. */
void gpu_case_plan(const gpu_case *c, pod_memory memory, CUstream stream);
void gpu_case_run(const gpu_case *c, CUstream stream);

/** What the workspace's word says of bad requests: 0 or 1 + a request. */
int32_t gpu_case_bad_request(const gpu_case *c, const gpu *gpu);

/** Fetches the outputs into `host`. */
void gpu_case_download(const gpu_case *c, const gpu *gpu);

/** Compares `host` outputs with the oracle and raises `*errors` to the largest seen; `expect` [num_requests], NULL: all
 * EXPECT_ORACLE. Returns 0 and prints what is wrong if anything is. */
int gpu_case_check(const gpu_case *c, const gpu_expect *expect, pod_errors *errors);

/** One line that describes the case, on stderr. */
void gpu_case_print(const gpu_case *c);

void gpu_case_free(gpu_case *c, const gpu *gpu);

#endif
