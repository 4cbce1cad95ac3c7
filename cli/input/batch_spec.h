/* SPDX-License-Identifier: Apache-2.0 */
/* What [batch] on the command line, or a batch file, asks for: shape, options and requests. */
#ifndef CLI_BATCH_SPEC_H
#define CLI_BATCH_SPEC_H

#include "base/bounds.h"
#include "cli_error.h"
#include "podattn.h"

enum {
    BATCH_MAX_REQUESTS = 1 << 24,
    BATCH_MAX_TOKENS = 1 << 30, /**< of one request */
    BATCH_MAX_HEADS = 1024,
    BATCH_MAX_HEAD_DIM = POD_MAX_HEAD_DIM,
};

typedef struct batch_request {
    int32_t q_len;
    int32_t kv_len; /**< context tokens, the q_len new ones included */
} batch_request;

typedef struct batch_spec {
    char model[64]; /**< as it was named; "" if the heads were given one by one */
    int32_t q_heads, kv_heads, head_dim;
    int32_t v_head_dim;     /**< of v and out; 0: head_dim */
    int32_t values_in_keys; /**< there is no v: its elements are the first ones of k */
    int32_t page_size;      /**< tokens; 0: a contiguous cache */
    pod_dtype dtype;        /**< of q and out, and of k and v unless the next says so */
    int32_t has_kv_dtype;
    pod_dtype kv_dtype; /**< without meaning if that is 0 */
    int64_t seed;
    int32_t causal;
    int32_t window_tokens, right_window_tokens; /**< 0: off */
    float softcap;                              /**< 0: off */
    float scale;                                /**< 0: 1 / sqrt(head_dim) */
    int32_t has_sinks, has_alibi;
    int32_t tree_children; /**< of each node of the trees that short requests are; 0: they are none */
    int32_t num_requests, capacity;
    batch_request *requests;
} batch_spec;

/** Llama-3-8B's shape, bf16, causal, contiguous, seed 1, no requests. */
batch_spec batch_spec_default(void);
void batch_spec_free(batch_spec *spec);

/** `name` is what errors call the argument or field. */
cli_exit batch_spec_set_model(batch_spec *spec, const char *name, const char *text, cli_error *error);
/** The model has then no name. */
cli_exit batch_spec_set_heads(batch_spec *spec, const char *name, int64_t q_heads, int64_t kv_heads, cli_error *error);
cli_exit batch_spec_set_head_dim(batch_spec *spec, const char *name, int64_t head_dim, cli_error *error);
cli_exit batch_spec_set_v_head_dim(batch_spec *spec, const char *name, int64_t v_head_dim, cli_error *error);
cli_exit batch_spec_set_dtype(batch_spec *spec, const char *name, const char *text, cli_error *error);
cli_exit batch_spec_set_kv_dtype(batch_spec *spec, const char *name, const char *text, cli_error *error);

/** Of k and v. */
static inline pod_dtype batch_spec_kv_dtype(const batch_spec *spec) {
    return spec->has_kv_dtype ? spec->kv_dtype : spec->dtype;
}

/** Of v and out. */
static inline int32_t batch_spec_v_head_dim(const batch_spec *spec) {
    return spec->v_head_dim > 0 ? spec->v_head_dim : spec->head_dim;
}

/** `count` requests of `q_len` query tokens at `kv_len` context tokens. `name` says where they came from. */
cli_exit batch_spec_add(batch_spec *spec, const char *name, int64_t count, int64_t q_len, int64_t kv_len,
                        cli_error *error);

/** Whether the whole makes a batch: it has requests, their sum fits, causal ones have q_len <= kv_len, and values that
 * are in keys are no wider. */
cli_exit batch_spec_check(const batch_spec *spec, cli_error *error);

/** Longest query first, which puts prefill work before decode work. */
void batch_spec_sort(batch_spec *spec);

/** Pages of all requests; of a contiguous cache, requests. */
int64_t batch_spec_pages(const batch_spec *spec);

/** Pages of a request of `tokens` context tokens. */
static inline int32_t batch_pages(int32_t tokens, int32_t page_size) {
    return tokens / page_size + (tokens % page_size != 0);
}

/** The limits that just hold this batch. */
pod_limits batch_spec_limits(const batch_spec *spec);

#endif
