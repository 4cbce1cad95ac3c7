/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that take tickets end together: the plan of every step of a trace is run through list scheduling, and no
 * worker may end later than an equal share of the work and one ticket. */
#include "plan_check.h"
#include "property.h"
#include "test_workspace.h"
#include "trace_steps.h"

enum { STEPS = 300, CHUNK_TOKENS = 512, TRACE_REQUESTS = 2000 };

typedef struct queue {
    int64_t *tickets; /**< tiles of each */
    size_t num_tickets, capacity;
    int64_t tiles, longest;
} queue;

typedef struct balance {
    pod_plan *plan;
    queue prefill, decode, both;
    int64_t longest_whole; /**< tiles of a prefill row tile, at least */
    int64_t *loads;        /**< [num_ctas] */
    double worst_excess, share_sum, end_sum;
} balance;

static int queue_add(queue *queue, int64_t tiles) {
    if (queue->num_tickets == queue->capacity) {
        size_t capacity = 2 * queue->capacity + 64;
        int64_t *grown = realloc(queue->tickets, capacity * sizeof *grown);
        if (grown == NULL) return 1;
        queue->tickets = grown;
        queue->capacity = capacity;
    }
    queue->tickets[queue->num_tickets++] = tiles;
    queue->tiles += tiles;
    if (tiles > queue->longest) queue->longest = tiles;
    return 0;
}

static void queue_clear(queue *queue) {
    queue->num_tickets = 0;
    queue->tiles = queue->longest = 0;
}

static int add_item(void *context, const pod_work_item *item) {
    balance *b = context;
    if (item->kind == POD_WORK_PREFILL) {
        int64_t whole = (int64_t)item->num_tiles * item->num_parts;
        if (whole > b->longest_whole) b->longest_whole = whole;
        /* a ticket's second item runs beside its first */
        return (size_t)item->ticket < b->prefill.num_tickets ? 0 : queue_add(&b->prefill, item->num_tiles);
    }
    if ((size_t)item->ticket == b->decode.num_tickets) return queue_add(&b->decode, item->num_tiles);
    int64_t *slice = &b->decode.tickets[item->ticket];
    *slice += item->num_tiles;
    b->decode.tiles += item->num_tiles;
    if (*slice > b->decode.longest) b->decode.longest = *slice;
    return 0;
}

/** When the last worker ends if each takes the next ticket as soon as it is free. */
static int64_t list_schedule(const queue *queue, int64_t *loads, int32_t num_ctas) {
    int64_t end = 0;
    for (int32_t i = 0; i < num_ctas; i++) loads[i] = 0;
    for (size_t t = 0; t < queue->num_tickets; t++) {
        int32_t first_free = 0;
        for (int32_t i = 1; i < num_ctas; i++) {
            if (loads[i] < loads[first_free]) first_free = i;
        }
        loads[first_free] += queue->tickets[t];
        if (loads[first_free] > end) end = loads[first_free];
    }
    return end;
}

static int check_queue(balance *b, const queue *queue, int32_t num_ctas, const char *name) {
    int64_t end = list_schedule(queue, b->loads, num_ctas);
    double share = (double)queue->tiles / num_ctas;
    PROPERTY((double)end <= share + (double)queue->longest, "%s: end %lld, share %.1f, longest ticket %lld", name,
             (long long)end, share, (long long)queue->longest);
    if ((double)end - share > b->worst_excess) b->worst_excess = (double)end - share;
    b->share_sum += share;
    b->end_sum += (double)end;
    return 0;
}

static int check_step(balance *b) {
    queue_clear(&b->prefill);
    queue_clear(&b->decode);
    queue_clear(&b->both);
    b->longest_whole = 0;
    PROPERTY(pod_plan_visit(b->plan, 0, add_item, b) == POD_OK, "%s", pod_error_message());
    for (size_t i = 0; i < b->prefill.num_tickets; i++) queue_add(&b->both, b->prefill.tickets[i]);
    for (size_t i = 0; i < b->decode.num_tickets; i++) queue_add(&b->both, b->decode.tickets[i]);
    const pod_tiling *tiling = &b->plan->choice.tiling;
    int decode_lasts = 4 * b->decode.tiles > 3 * b->prefill.tiles; /* then the planner leaves decode its workers */
    int32_t prefill_ctas = decode_lasts ? tiling->num_prefill_ctas : tiling->num_lone_ctas;
    /* Splitting leaves no ticket longer than two shares of its queue, but where its parts would be too short, or where
     * keeping and joining so many would take longer than what is over. */
    double prefill_share = (double)b->prefill.tiles / prefill_ctas, longest = (double)b->prefill.longest;
    double most = 2 * prefill_share + 1;
    if (tiling->join_cost_16ths > 0)
        most += 2 + ((double)b->longest_whole / prefill_share + 1) * tiling->join_cost_16ths / 16;
    PROPERTY(longest < 2 * tiling->min_part_tiles || longest <= most,
             "a prefill item of %.0f tiles where %.1f are a share", longest, prefill_share);
    return check_queue(b, &b->prefill, prefill_ctas, "prefill") ||
           check_queue(b, &b->decode, tiling->num_ctas, "decode") || check_queue(b, &b->both, tiling->num_ctas, "both");
}

static int run_steps(balance *b, const trace *trace, const pod_limits *limits, test_batch *batch) {
    trace_server server;
    int steps = 0, failed = 0;
    PROPERTY(trace_server_open(&server, trace, limits), "no memory");
    while (!failed && steps < STEPS && trace_server_step(&server, limits, CHUNK_TOKENS, batch)) {
        steps++;
        failed = pod_plan_build(b->plan, &batch->batch, NULL) != POD_OK || check_step(b);
    }
    trace_server_close(&server);
    PROPERTY(!failed, "step %d: %s", steps, pod_error_message());
    return 0;
}

static pod_limits llama_limits(int32_t q_heads, int32_t kv_heads) {
    pod_limits limits = pod_limits_init();
    limits.q_heads = q_heads;
    limits.kv_heads = kv_heads;
    limits.head_dim = 64;
    limits.q_dtype = limits.kv_dtype = limits.out_dtype = POD_BF16;
    limits.max_requests = 256;
    limits.max_q_tokens = 1024;
    limits.max_kv_len = limits.page_size = 1 << 17;
    return limits;
}

static int check_trace(const char *name, const trace *trace, const char *target, int32_t q_heads, int32_t kv_heads) {
    pod_limits limits = llama_limits(q_heads, kv_heads);
    balance b = {0};
    pod_device *device = NULL;
    test_batch batch;
    test_workspace workspace;
    PROPERTY(pod_device_open(target, &device) == POD_OK &&
                 test_workspace_plan(device, &limits, 0, &workspace, &b.plan) == POD_OK,
             "%s", pod_error_message());
    b.loads = calloc((size_t)b.plan->choice.tiling.num_ctas, sizeof *b.loads);
    if (b.loads == NULL || !test_batch_alloc(&batch, &limits)) abort();
    int failed = run_steps(&b, trace, &limits, &batch);
    printf("  %-34s %-8s %2d/%-2d heads: busy %5.1f %% of the time, at worst %.1f tiles past the share\n", name, target,
           q_heads, kv_heads, 100 * b.share_sum / b.end_sum, b.worst_excess);
    free(b.prefill.tickets);
    free(b.decode.tickets);
    free(b.both.tickets);
    free(b.loads);
    test_workspace_free(&workspace);
    test_batch_free(&batch);
    pod_plan_destroy(b.plan);
    pod_device_close(device);
    return failed;
}

static int check_devices(const char *name, const trace *trace) {
    static const char *const targets[] = {"sim:h100", "sim:a100", "sim:cpu"};
    for (int i = 0; i < 3; i++) {
        if (check_trace(name, trace, targets[i], 32, 8) || check_trace(name, trace, targets[i], 16, 1)) return 1;
    }
    return 0;
}

static int balance_case(test_rng *rng, void *context) {
    (void)context;
    trace synthetic = trace_synthetic(rng, TRACE_REQUESTS);
    int failed = check_devices("synthetic", &synthetic);
    trace_free(&synthetic);
    return failed;
}

static int check_file(const char *path) {
    trace trace = trace_read(path, TRACE_REQUESTS);
    PROPERTY(trace.num_requests > 0, "no requests in %s", path);
    int failed = check_devices(path, &trace);
    trace_free(&trace);
    return failed;
}

/** Arguments are files of real traces, in any of the formats that `podattn replay` reads. */
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (check_file(argv[i])) return EXIT_FAILURE;
    }
    return property_run("balance", 2, balance_case, NULL);
}
