/* SPDX-License-Identifier: Apache-2.0 */
/* What a row does not see does not change it: a key or value of a request becomes NaN or infinite, and the rows that do
 * not see it keep their results, those of the same tile included. Those that see it are as the oracle's. */
#include "attention_case.h"
#include "property.h"

enum { MAX_ISAS = 4, MAX_WORK = 2 << 20 };

typedef struct machine {
    pod_device *devices[MAX_ISAS];
    int num_devices;
    int num_kept, num_changed; /**< rows of all cases that see a poisoned key, and that do not */
} machine;

/** Whether a query token of request r sees a key under the case's mask. */
static int sees(const attention_case *made, int32_t r, int32_t token, int32_t key) {
    const pod_batch *b = &made->batch.batch;
    const pod_mask *mask = &b->masks[made->tensors.mask];
    int32_t position = b->kv_len[r] - (b->q_start[r + 1] - b->q_start[r]) + token;
    int is_causal = mask->causal_per_request != NULL ? mask->causal_per_request[r] : mask->causal;
    if (is_causal && key > position) return 0;
    if (mask->right_window_tokens > 0 && key >= position + mask->right_window_tokens) return 0;
    if (!test_tree_shows(&made->batch, made->tensors.tree_mask, r, token, key)) return 0;
    return mask->window_tokens == 0 || key > position - mask->window_tokens;
}

/** Where the row's values are in `out` and `lse`. */
typedef struct row_place {
    int64_t out, lse;
} row_place;

static row_place place_of(const attention_case *made, int32_t token, int32_t head) {
    const pod_tensors *t = &made->tensors;
    return (row_place){token * t->out_token_stride + head * t->out_head_stride,
                       token * t->lse_token_stride + head * t->lse_head_stride};
}

/** Where the copy of `out` begins, behind that of `lse`: aligned as both are. */
static size_t out_copy_begin(const attention_case *made) {
    return (made->lse.bytes + 15) / 16 * 16;
}

/** The row's numbers are those in `before`, a copy of `lse` and then of `out`. */
static int is_kept(const attention_case *made, int32_t token, int32_t head, const unsigned char *before) {
    const pod_tensors *t = &made->tensors;
    pod_dtype dtype = made->limits.out_dtype;
    row_place place = place_of(made, token, head);
    const unsigned char *old_out = before + out_copy_begin(made) + ((const unsigned char *)t->out - made->out.data);
    for (int32_t i = 0; i < v_head_dim_of(&made->limits); i++) { /* as numbers: a zero may change its sign */
        if (pod__load(t->out, dtype, place.out + i) != pod__load(old_out, dtype, place.out + i)) return 0;
    }
    if (t->lse == NULL) return 1;
    const unsigned char *old_lse = before + ((const unsigned char *)t->lse - made->lse.data);
    return t->lse[place.lse] == pod__load(old_lse, POD_F32, place.lse);
}

static int is_right(const attention_case *made, int32_t token, int32_t head) {
    const pod_tensors *t = &made->tensors;
    row_place place = place_of(made, token, head);
    int64_t row = (int64_t)token * made->limits.q_heads + head;
    int32_t dim = v_head_dim_of(&made->limits);
    pod_errors bound = attention_case_bound(made);
    pod_distance distance =
        pod__distance(t->out, made->limits.out_dtype, place.out, made->expected_out + row * dim, dim);
    if (!(pod__relative_error(distance, 1e-8) <= bound.worst_row)) return 0;
    return t->lse == NULL || pod__lse_error((double)t->lse[place.lse], made->expected_lse[row]) <= bound.lse;
}

static int check_rows(attention_case *made, machine *machine, int32_t poisoned, int32_t key,
                      const unsigned char *before, const char *text) {
    const pod_batch *b = &made->batch.batch;
    for (int32_t r = 0; r < b->num_requests; r++) {
        for (int32_t token = b->q_start[r]; token < b->q_start[r + 1]; token++) {
            int is_seen = r == poisoned && sees(made, r, token - b->q_start[r], key);
            for (int32_t head = 0; head < made->limits.q_heads; head++) {
                if (is_seen)
                    PROPERTY(is_right(made, token, head), "%s: key %d of request %d, token %d, head %d", text, key,
                             poisoned, token - b->q_start[r], head);
                else
                    PROPERTY(is_kept(made, token, head, before), "%s: key %d of request %d, token %d of %d, head %d",
                             text, key, poisoned, token - b->q_start[r], r, head);
            }
            machine->num_kept += !is_seen;
            machine->num_changed += is_seen;
        }
    }
    return 0;
}

/** A request with queries, or -1; and a key that some of them see, near the ends of what they see. */
static int32_t choose_key(const attention_case *made, test_rng *rng, int32_t *key) {
    const pod_batch *b = &made->batch.batch;
    for (int turn = 0; turn < 20 && b->num_requests > 0; turn++) {
        int32_t r = rng_range(rng, 0, b->num_requests - 1),
                first = test_batch_first_key(&made->batch, r, made->tensors.mask);
        int32_t last = b->kv_len[r] - 1, q_len = b->q_start[r + 1] - b->q_start[r];
        if (first > last || q_len == 0) continue;
        int32_t near = first + rng_log_range(rng, 0, last - first);
        *key = rng_chance(rng, 50) ? near : last - rng_log_range(rng, 0, last - first);
        return r;
    }
    return -1;
}

static int check_case(attention_case *made, test_rng *rng, machine *machine, unsigned char *before, const char *text) {
    static const float poison[] = {0, NAN, INFINITY, -INFINITY}; /* 0: it stays a number */
    pod_device *device = machine->devices[rng_range(rng, 0, machine->num_devices - 1)];
    int32_t last = made->limits.kv_dtype == POD_F8E4M3 ? 1 : 3; /* e4m3 has no infinity */
    int32_t key, request = choose_key(made, rng, &key);
    if (request < 0) return 0;
    PROPERTY(attention_case_run(made, device) == POD_OK, "%s: %s", text, pod_error_message());
    memcpy(before, made->lse.data, made->lse.bytes);
    memcpy(before + out_copy_begin(made), made->out.data, made->out.bytes);
    attention_case_set_key(made, rng, request, key, poison[rng_range(rng, 0, last)], poison[rng_range(rng, 0, last)]);
    attention_case_poison(made);
    PROPERTY(attention_case_run(made, device) == POD_OK, "%s: %s", text, pod_error_message());
    PROPERTY(attention_case_expect(made) == POD_OK, "%s: %s", text, pod_error_message());
    return check_rows(made, machine, request, key, before, text);
}

static int unseen_property(test_rng *rng, void *context) {
    attention_case made;
    char text[512];
    PROPERTY(attention_case_make(&made, rng, MAX_WORK), "no memory");
    attention_case_describe(&made, text, sizeof text);
    unsigned char *before = malloc(out_copy_begin(&made) + made.out.bytes + 1);
    PROPERTY(before != NULL, "no memory");
    int failed = check_case(&made, rng, context, before, text);
    free(before);
    attention_case_free(&made);
    return failed;
}

int main(void) {
    static const char *const names[MAX_ISAS] = {"cpu:2,isa=generic", "cpu:2,isa=avx2", "cpu:2,isa=avx512",
                                                "cpu:2,isa=avx512-bf16"};
    machine machine = {0};
    for (int i = 0; i < MAX_ISAS; i++) {
        machine.num_devices += pod_device_open(names[i], &machine.devices[machine.num_devices]) == POD_OK;
    }
    int code = property_run("unseen", 3000, unseen_property, &machine);
    printf("  tokens that see the key %d, others %d\n", machine.num_changed, machine.num_kept);
    for (int i = 0; i < machine.num_devices; i++) pod_device_close(machine.devices[i]);
    return code;
}
