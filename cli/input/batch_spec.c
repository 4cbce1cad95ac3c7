/* SPDX-License-Identifier: Apache-2.0 */
#include "input/batch_spec.h"

#include "input/models.h"

#include <stdio.h>
#include <stdlib.h>

batch_spec batch_spec_default(void) {
    batch_spec spec = {.model = "llama-3-8b",
                       .q_heads = 32,
                       .kv_heads = 8,
                       .head_dim = 128,
                       .dtype = POD_BF16,
                       .seed = 1,
                       .causal = 1};
    return spec;
}

void batch_spec_free(batch_spec *spec) {
    free(spec->requests);
    spec->requests = NULL;
    spec->num_requests = spec->capacity = 0;
}

cli_exit batch_spec_set_model(batch_spec *spec, const char *name, const char *text, cli_error *error) {
    model_shape shape;
    CLI_TRY(model_find(name, text, &shape, error));
    snprintf(spec->model, sizeof spec->model, "%s", text);
    spec->q_heads = shape.q_heads;
    spec->kv_heads = shape.kv_heads;
    spec->head_dim = shape.head_dim;
    spec->v_head_dim = 0;
    return CLI_OK;
}

cli_exit batch_spec_set_heads(batch_spec *spec, const char *name, int64_t q_heads, int64_t kv_heads, cli_error *error) {
    if (q_heads < 1 || q_heads > BATCH_MAX_HEADS || kv_heads < 1 || kv_heads > q_heads) {
        return cli_fail(error, "%.480s: needs %d >= Q >= KV >= 1", name, BATCH_MAX_HEADS);
    }
    if (q_heads % kv_heads != 0) {
        return cli_fail(error, "%.480s: %lld query heads are not a multiple of %lld KV heads", name, (long long)q_heads,
                        (long long)kv_heads);
    }
    spec->model[0] = '\0';
    spec->q_heads = (int32_t)q_heads;
    spec->kv_heads = (int32_t)kv_heads;
    return CLI_OK;
}

static cli_exit set_dim(batch_spec *spec, const char *name, int64_t given, int32_t *dim, cli_error *error) {
    if (given % 8 != 0) return cli_fail(error, "%.480s %lld is not a multiple of 8", name, (long long)given);
    spec->model[0] = '\0';
    *dim = (int32_t)given;
    return CLI_OK;
}

cli_exit batch_spec_set_head_dim(batch_spec *spec, const char *name, int64_t head_dim, cli_error *error) {
    return set_dim(spec, name, head_dim, &spec->head_dim, error);
}

cli_exit batch_spec_set_v_head_dim(batch_spec *spec, const char *name, int64_t v_head_dim, cli_error *error) {
    return set_dim(spec, name, v_head_dim, &spec->v_head_dim, error);
}

/** The one of the first `count` dtypes that is called so. */
static cli_exit find_dtype(const char *name, const char *text, int count, pod_dtype *found, cli_error *error) {
    static const pod_dtype dtypes[] = {POD_BF16, POD_F16, POD_F32, POD_F8E4M3};
    char known[64] = "";
    for (int i = 0; i < count; i++) {
        if (strcmp(text, pod_dtype_name(dtypes[i])) == 0) {
            *found = dtypes[i];
            return CLI_OK;
        }
        size_t length = strlen(known);
        snprintf(known + length, sizeof known - length, "%s%s", i > 0 ? ", " : "", pod_dtype_name(dtypes[i]));
    }
    return cli_fail(error, "%s \"%.64s\" is none of %s", name, text, known);
}

cli_exit batch_spec_set_dtype(batch_spec *spec, const char *name, const char *text, cli_error *error) {
    return find_dtype(name, text, 3, &spec->dtype, error);
}

cli_exit batch_spec_set_kv_dtype(batch_spec *spec, const char *name, const char *text, cli_error *error) {
    CLI_TRY(find_dtype(name, text, 4, &spec->kv_dtype, error));
    spec->has_kv_dtype = 1;
    return CLI_OK;
}

static cli_exit check_range(const char *name, const char *what, int64_t value, int64_t low, int64_t high,
                            cli_error *error) {
    if (value >= low && value <= high) return CLI_OK;
    return cli_fail(error, "%.480s: %s is outside [%lld, %lld]", name, what, (long long)low, (long long)high);
}

static cli_exit reserve(batch_spec *spec, int64_t num_requests, cli_error *error) {
    if (num_requests <= spec->capacity) return CLI_OK;
    int64_t capacity = num_requests > 2 * (int64_t)spec->capacity ? num_requests : 2 * (int64_t)spec->capacity;
    batch_request *grown = realloc(spec->requests, (size_t)capacity * sizeof *grown);
    if (grown == NULL) return cli_fail_memory(error);
    spec->requests = grown;
    spec->capacity = (int32_t)capacity;
    return CLI_OK;
}

cli_exit batch_spec_add(batch_spec *spec, const char *name, int64_t count, int64_t q_len, int64_t kv_len,
                        cli_error *error) {
    CLI_TRY(check_range(name, "the number of requests", count, 1, BATCH_MAX_REQUESTS, error));
    if (count > BATCH_MAX_REQUESTS - spec->num_requests) {
        return cli_fail(error, "%.480s: the batch would have more than %d requests", name, BATCH_MAX_REQUESTS);
    }
    CLI_TRY(check_range(name, "the number of query tokens", q_len, 0, BATCH_MAX_TOKENS, error));
    CLI_TRY(check_range(name, "the number of context tokens", kv_len, 0, BATCH_MAX_TOKENS, error));
    CLI_TRY(reserve(spec, spec->num_requests + count, error));
    for (int64_t i = 0; i < count; i++) {
        spec->requests[spec->num_requests++] = (batch_request){(int32_t)q_len, (int32_t)kv_len};
    }
    return CLI_OK;
}

cli_exit batch_spec_check(const batch_spec *spec, cli_error *error) {
    if (spec->num_requests == 0) return cli_fail(error, "the batch is empty; give --prefill, --decode or --batch");
    int64_t q_tokens = 0;
    for (int32_t r = 0; r < spec->num_requests; r++) {
        const batch_request *request = &spec->requests[r];
        q_tokens += request->q_len;
        if (spec->causal && request->q_len > request->kv_len) {
            return cli_fail(error, "request %d (%d@%d): q_len = %d exceeds kv_len = %d", r, request->q_len,
                            request->kv_len, request->q_len, request->kv_len);
        }
    }
    if (spec->values_in_keys && batch_spec_v_head_dim(spec) > spec->head_dim) {
        return cli_fail(error, "values in keys: v_head_dim = %d exceeds head_dim = %d", spec->v_head_dim,
                        spec->head_dim);
    }
    if (q_tokens == 0) return cli_fail(error, "the batch has no query tokens");
    if (q_tokens > INT32_MAX) {
        return cli_fail(error, "the batch's %lld query tokens are more than 32 bits count", (long long)q_tokens);
    }
    return CLI_OK;
}

static int compare_requests(const void *left, const void *right) {
    const batch_request *a = left, *b = right;
    if (a->q_len != b->q_len) return a->q_len > b->q_len ? -1 : 1;
    return (b->kv_len > a->kv_len) - (b->kv_len < a->kv_len);
}

void batch_spec_sort(batch_spec *spec) {
    qsort(spec->requests, (size_t)spec->num_requests, sizeof *spec->requests, compare_requests);
}

int64_t batch_spec_pages(const batch_spec *spec) {
    int64_t pages = 0;
    for (int32_t r = 0; r < spec->num_requests; r++) {
        pages += spec->page_size > 0 ? batch_pages(spec->requests[r].kv_len, spec->page_size) : 1;
    }
    return pages;
}

pod_limits batch_spec_limits(const batch_spec *spec) {
    int32_t q_tokens = 0, longest = 1;
    for (int32_t r = 0; r < spec->num_requests; r++) {
        q_tokens += spec->requests[r].q_len;
        if (spec->requests[r].kv_len > longest) longest = spec->requests[r].kv_len;
    }
    pod_limits limits = pod_limits_init();
    limits.q_heads = spec->q_heads;
    limits.kv_heads = spec->kv_heads;
    limits.head_dim = spec->head_dim;
    limits.v_head_dim = batch_spec_v_head_dim(spec);
    limits.q_dtype = limits.out_dtype = spec->dtype;
    limits.kv_dtype = batch_spec_kv_dtype(spec);
    limits.page_size = spec->page_size > 0 ? spec->page_size : longest;
    limits.max_requests = spec->num_requests;
    limits.max_q_tokens = q_tokens;
    limits.max_kv_len = longest;
    limits.tree_masks = spec->tree_children > 0;
    limits.alibi = spec->has_alibi;
    limits.right_windows = spec->right_window_tokens > 0;
    return limits;
}
