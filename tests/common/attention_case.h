/* SPDX-License-Identifier: Apache-2.0 */
/* One random attention call with its tensors. Everything that must not count is NaN or infinite: gaps between strides,
 * tokens behind kv_len and before a window, pages of nobody. Everything that must not be written has to stay as it was.
 */
#ifndef POD_TEST_ATTENTION_CASE_H
#define POD_TEST_ATTENTION_CASE_H

#include "base/errors.h"
#include "guarded.h"
#include "random_batch.h"

typedef struct attention_case {
    pod_limits limits;
    test_batch batch;
    pod_tensors tensors;
    pod_cache cache;
    guarded q, k, v, out, lse;                 /**< v is empty where K and V are interleaved, or values are in K */
    float *sinks, *slopes, *k_scale, *v_scale; /**< one allocation, at `sinks` */
    uint64_t *tree;                            /**< NULL: none */
    float k_spread, v_spread;                  /**< standard deviation of keys and of values, before their scales */
    int32_t num_q_tokens;
    int has_no_v;                        /**< values are in K */
    pod_plan_info plan_info;             /**< of the last run */
    double *expected_out, *expected_lse; /**< of the oracle, packed */
} attention_case;

/** A case of at most about `max_work` multiply-adds. Returns 0 if there is no memory. */
int attention_case_make(attention_case *made, test_rng *rng, int64_t max_work);
void attention_case_free(attention_case *made);

/** Writes a key and its value in all KV heads: random numbers, or what is given if that is not 0. Where values are in
 * K, `poison_v` does not count. */
void attention_case_set_key(const attention_case *made, test_rng *rng, int32_t request, int32_t key, float poison_k,
                            float poison_v);

/** Fills `out` and `lse` with NaN. */
void attention_case_poison(attention_case *made);

/** Runs the case on a device, with a plan and a workspace of its own. */
pod_status attention_case_run(attention_case *made, pod_device *device);

/** The oracle's result; after the runs, so that no memory holds the answer before. */
pod_status attention_case_expect(attention_case *made);

pod_errors attention_case_compare(const attention_case *made);

/** The largest errors that the coarsest dtype of the case allows. */
pod_errors attention_case_bound(const attention_case *made);

/** 1 if nothing but the rows of `out` and `lse` was written. Poisons them again. */
int attention_case_gaps_intact(attention_case *made);

/** The case in one line. */
void attention_case_describe(const attention_case *made, char *text, size_t size);

#endif
