/* SPDX-License-Identifier: Apache-2.0 */
/* Times hybrid batches on a GPU, one row of a table of peers' times after the other.
 *
 *   gpu_peers PEERS.csv [--out FILE] [--rows N] [--every N] [--page 16|0] [--repeat N] [--device NAME]... [--plan]
 *
 * A row: one prefill of prefill_q tokens at the end of prefill_kv context tokens, and decode_n single tokens at
 * decode_kv. Measured: fused (one plan, one call), serial (a plan and a call per side), streams (the same on two
 * streams, forked and joined by events), each side alone, and fused once more for each further --device (baselines and
 * options). bf16, causal, head_dim 128, contiguous (page 0) and page 16. Median of the repeats, after warm-ups, by the
 * GPU's events; the plan is not part of it, as it serves all layers of a step. Where a side's cache is below 200 MB,
 * copies of it take turns, so that it does not stay in the L2 cache. Columns fa3_best_us and pod_best_us of PEERS.csv
 * are compared with. */
#include "gpu.h"
#include "podattn.h"
#include "rng.h"

#include "base/dtype.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef POD_COMMIT
#define POD_COMMIT "unknown"
#endif

enum { HEAD_DIM = 128, WARM_UPS = 10, MAX_REPEATS = 1000, MAX_DEVICES = 8, MAX_ROWS = 1024, PAGE_TOKENS = 16 };

static const double rotated_bytes = 200e6;

static void require(pod_status status) {
    if (status == POD_OK) return;
    fprintf(stderr, "%s: %s\n", pod_status_name(status), pod_error_message());
    exit(EXIT_FAILURE);
}

static void *checked(void *memory) {
    if (memory != NULL) return memory;
    fprintf(stderr, "out of memory on the host\n");
    exit(EXIT_FAILURE);
}

/* ---- the table of peers ---- */

typedef struct row {
    int32_t q_heads, kv_heads, prefill_q, prefill_kv, decode_n, decode_kv;
    double fa3_best_us, pod_best_us; /* 0: the table does not say */
} row;

/** The number in column `index` of a line, 0 if there is none. */
static double field(const char *line, int index) {
    for (; index > 0; index--) {
        line = strchr(line, ',');
        if (line == NULL) return 0;
        line++;
    }
    return strtod(line, NULL);
}

static int column(const char *header, const char *name) {
    int index = 0;
    for (size_t length; *header != '\0'; header += length + (header[length] == ','), index++) {
        length = strcspn(header, ",\r\n");
        if (strlen(name) == length && memcmp(header, name, length) == 0) return index;
        if (header[length] == '\r' || header[length] == '\n') break;
    }
    return 1 << 20;
}

static int32_t read_rows(const char *path, row rows[MAX_ROWS]) {
    char header[4096], line[4096];
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(header, sizeof header, file) == NULL) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(2);
    }
    int32_t count = 0;
    while (count < MAX_ROWS && fgets(line, sizeof line, file) != NULL) {
        row r = {(int32_t)field(line, column(header, "q_heads")),   (int32_t)field(line, column(header, "kv_heads")),
                 (int32_t)field(line, column(header, "prefill_q")), (int32_t)field(line, column(header, "prefill_kv")),
                 (int32_t)field(line, column(header, "decode_n")),  (int32_t)field(line, column(header, "decode_kv")),
                 field(line, column(header, "fa3_best_us")),        field(line, column(header, "pod_best_us"))};
        if (r.q_heads > 0) rows[count++] = r;
    }
    fclose(file);
    return count;
}

/* ---- problems ---- */

typedef struct bench {
    gpu gpu;
    CUstream stream, side_stream;
    CUevent begin[MAX_REPEATS], end[MAX_REPEATS], fork, join;
    int32_t repeats;
    uint16_t *cache, *q; /* random numbers on the GPU; k is the first half of the cache */
    size_t cache_elements, q_elements;
} bench;

/** One plan with its tensors. */
typedef struct problem {
    pod_plan *plan;
    pod_batch batch;
    pod_tensors tensors;
    void *workspace;
    size_t workspace_bytes;
    int64_t copy_stride; /* elements from one copy of the cache to the next */
    int32_t num_copies;
} problem;

static int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}

/** Decodes first, the prefill last: so a contiguous cache has no gaps, each request beginning decode_kv behind the one
 * before. */
static void make_batch(const bench *b, problem *p, const pod_limits *l, const row *r, int page) {
    int32_t n = l->max_requests, pages_each = (l->max_kv_len + PAGE_TOKENS - 1) / PAGE_TOKENS;
    int32_t *q_start = checked(calloc((size_t)n + 1, sizeof *q_start));
    int32_t *kv_len = checked(calloc((size_t)n + 1, sizeof *kv_len));
    int32_t *table = checked(calloc((size_t)n * (size_t)pages_each + 1, sizeof *table));
    int32_t num_pages = 0;
    for (int32_t i = 0; i < n; i++) {
        int is_decode = i < r->decode_n;
        q_start[i + 1] = q_start[i] + (is_decode ? 1 : r->prefill_q);
        kv_len[i] = is_decode ? r->decode_kv : r->prefill_kv;
        num_pages += (kv_len[i] + PAGE_TOKENS - 1) / PAGE_TOKENS;
    }
    int32_t *order = checked(malloc(((size_t)num_pages + 1) * sizeof *order));
    test_rng rng = {42};
    for (int32_t i = 0; i < num_pages; i++) order[i] = i;
    for (int32_t i = num_pages - 1; i > 0; i--) {
        int32_t other = rng_range(&rng, 0, i), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (int32_t i = 0, next = 0; i < n; i++) {
        for (int32_t j = 0; j < (kv_len[i] + PAGE_TOKENS - 1) / PAGE_TOKENS; j++) {
            table[(int64_t)i * pages_each + j] = order[next++];
        }
    }
    p->batch = pod_batch_init();
    p->batch.memory = POD_MEMORY_DEVICE;
    p->batch.num_requests = n;
    p->batch.causal = 1;
    p->batch.q_start = gpu_copy(&b->gpu, q_start, ((size_t)n + 1) * sizeof *q_start);
    p->batch.kv_len = gpu_copy(&b->gpu, kv_len, (size_t)n * sizeof *kv_len);
    p->batch.num_pages = n;
    if (page > 0) {
        p->batch.page_table = gpu_copy(&b->gpu, table, (size_t)n * (size_t)pages_each * sizeof *table);
        p->batch.page_table_stride = p->batch.max_pages = pages_each;
        p->batch.num_pages = num_pages;
    }
    free(q_start);
    free(kv_len);
    free(table);
    free(order);
}

/** How many copies of the cache take turns; they have to fit into the arena. */
static void rotate_copies(const bench *b, problem *p, const row *r) {
    int64_t tokens = (int64_t)r->decode_n * r->decode_kv + (r->prefill_q > 0 ? r->prefill_kv : 0);
    p->copy_stride = (tokens + PAGE_TOKENS) * r->kv_heads * HEAD_DIM;
    double bytes = 4.0 * (double)p->copy_stride;
    p->num_copies = bytes < rotated_bytes ? (int32_t)(rotated_bytes / bytes) + 1 : 1;
    int64_t room = (int64_t)(b->cache_elements / 2) / p->copy_stride;
    if (p->num_copies > room) p->num_copies = (int32_t)room;
}

static void problem_make(const bench *b, problem *p, pod_device *device, const row *r, int page) {
    memset(p, 0, sizeof *p);
    pod_limits l = pod_limits_init();
    l.q_heads = r->q_heads;
    l.kv_heads = r->kv_heads;
    l.head_dim = HEAD_DIM;
    l.q_dtype = l.kv_dtype = l.out_dtype = POD_BF16;
    l.max_requests = r->decode_n + (r->prefill_q > 0);
    l.max_q_tokens = r->decode_n + r->prefill_q;
    l.max_kv_len = larger(r->prefill_q > 0 ? r->prefill_kv : 1, r->decode_n > 0 ? r->decode_kv : 1);
    l.page_size = page > 0 ? page : l.max_kv_len;
    make_batch(b, p, &l, r, page);
    rotate_copies(b, p, r);
    p->tensors = pod_tensors_init();
    p->tensors.q = b->q;
    p->tensors.k = b->cache;
    p->tensors.v = b->cache + b->cache_elements / 2;
    if (page == 0) {
        int64_t request_tokens = r->decode_n > 0 ? r->decode_kv : r->prefill_kv;
        p->tensors.k_page_stride = p->tensors.v_page_stride = request_tokens * r->kv_heads * HEAD_DIM;
    }
    p->tensors.out = gpu_alloc(&b->gpu, (size_t)l.max_q_tokens * (size_t)l.q_heads * HEAD_DIM * sizeof(uint16_t));
    require(pod_plan_create(device, &l, &p->plan));
    require(pod_workspace_size(device, &l, &p->workspace_bytes));
    p->workspace = gpu_alloc(&b->gpu, p->workspace_bytes);
    require(pod_plan_build(p->plan, &p->batch, p->workspace, p->workspace_bytes, b->stream));
    require(pod_plan_status(p->plan, b->stream));
}

static void problem_free(const bench *b, problem *p) {
    pod_plan_destroy(p->plan);
    gpu_free(&b->gpu, (void *)(uintptr_t)p->batch.q_start);
    gpu_free(&b->gpu, (void *)(uintptr_t)p->batch.kv_len);
    gpu_free(&b->gpu, (void *)(uintptr_t)p->batch.page_table);
    gpu_free(&b->gpu, p->tensors.out);
    gpu_free(&b->gpu, p->workspace);
}

/* ---- timing ---- */

static void run(const problem *p, int32_t repeat, CUstream stream) {
    pod_tensors tensors = p->tensors;
    int64_t offset = repeat % p->num_copies * p->copy_stride;
    tensors.k = (const uint16_t *)tensors.k + offset;
    tensors.v = (const uint16_t *)tensors.v + offset;
    require(pod_attention(p->plan, &tensors, p->workspace, p->workspace_bytes, stream));
}

static int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/** What is timed: one problem, or two one after the other, or two side by side. */
typedef struct job {
    const problem *first, *second;
    int on_two_streams;
} job;

static void run_job(const bench *b, const job *j, int32_t repeat) {
    CUstream second_stream = b->stream;
    if (j->on_two_streams) {
        second_stream = b->side_stream;
        GPU_CHECK(&b->gpu, event_record(b->fork, b->stream));
        GPU_CHECK(&b->gpu, stream_wait_event(second_stream, b->fork, 0));
    }
    run(j->first, repeat, b->stream);
    if (j->second != NULL) run(j->second, repeat, second_stream);
    if (j->on_two_streams) {
        GPU_CHECK(&b->gpu, event_record(b->join, second_stream));
        GPU_CHECK(&b->gpu, stream_wait_event(b->stream, b->join, 0));
    }
}

/** Median in microseconds. All repeats are queued at once, so that the GPU never waits for the host. */
static double time_us(const bench *b, job j) {
    float times[MAX_REPEATS] = {0};
    for (int32_t i = 0; i < WARM_UPS; i++) run_job(b, &j, i);
    for (int32_t i = 0; i < b->repeats; i++) {
        GPU_CHECK(&b->gpu, event_record(b->begin[i], b->stream));
        run_job(b, &j, i);
        GPU_CHECK(&b->gpu, event_record(b->end[i], b->stream));
    }
    GPU_CHECK(&b->gpu, stream_synchronize(b->stream));
    for (int32_t i = 0; i < b->repeats; i++) {
        GPU_CHECK(&b->gpu, event_elapsed_time(&times[i], b->begin[i], b->end[i]));
    }
    qsort(times, (size_t)b->repeats, sizeof *times, compare_floats);
    return 1e3 * (double)times[b->repeats / 2];
}

/** The planning kernel: many in a row, per plan. */
static double time_plan_us(const bench *b, const problem *p) {
    enum { PLANS = 20 };
    float milliseconds = 0;
    for (int i = 0; i < WARM_UPS + PLANS; i++) {
        if (i == WARM_UPS) GPU_CHECK(&b->gpu, event_record(b->begin[0], b->stream));
        require(pod_plan_build(p->plan, &p->batch, p->workspace, p->workspace_bytes, b->stream));
    }
    GPU_CHECK(&b->gpu, event_record(b->end[0], b->stream));
    GPU_CHECK(&b->gpu, stream_synchronize(b->stream));
    GPU_CHECK(&b->gpu, event_elapsed_time(&milliseconds, b->begin[0], b->end[0]));
    return 1e3 * (double)milliseconds / PLANS;
}

/* ---- one row ---- */

typedef struct result {
    double fused, serial, streams, prefill, decode, plan, others[MAX_DEVICES];
} result;

static result measure(const bench *b, pod_device *const devices[], int32_t num_devices, const row *r, int page) {
    row prefill_row = *r, decode_row = *r;
    problem fused, prefill, decode;
    result times = {0};
    prefill_row.decode_n = 0;
    decode_row.prefill_q = 0;
    problem_make(b, &prefill, devices[0], &prefill_row, page);
    problem_make(b, &decode, devices[0], &decode_row, page);
    for (int32_t d = 0; d < num_devices; d++) {
        problem_make(b, &fused, devices[d], r, page);
        if (d == 0) times.plan = time_plan_us(b, &fused);
        double us = time_us(b, (job){&fused, NULL, 0});
        if (d == 0) times.fused = us;
        times.others[d] = us;
        problem_free(b, &fused);
    }
    times.serial = time_us(b, (job){&prefill, &decode, 0});
    times.streams = time_us(b, (job){&prefill, &decode, 1});
    times.prefill = time_us(b, (job){&prefill, NULL, 0});
    times.decode = time_us(b, (job){&decode, NULL, 0});
    problem_free(b, &prefill);
    problem_free(b, &decode);
    return times;
}

/** Operations of the prefill's visible keys, in TFLOP. */
static double prefill_tflop(const row *r) {
    double keys = (double)r->prefill_q * (r->prefill_kv - 0.5 * (r->prefill_q - 1));
    return 4.0 * keys * r->q_heads * HEAD_DIM * 1e-12;
}

static double decode_terabytes(const row *r) {
    return 4.0 * (double)r->decode_n * r->decode_kv * r->kv_heads * HEAD_DIM * 1e-12;
}

/* ---- options, report ---- */

typedef struct options {
    const char *peers, *out;
    const char *names[MAX_DEVICES];
    int32_t num_devices, max_rows, every, page, repeats, only_plan;
} options;

static options parse(int argc, char **argv) {
    options o = {.num_devices = 1, .max_rows = MAX_ROWS, .every = 1, .page = -1, .repeats = 50};
    o.names[0] = "cuda:0";
    int32_t named = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(argv[i], "--plan") == 0) {
            o.only_plan = 1;
            continue;
        }
        if (strncmp(argv[i], "--", 2) != 0) {
            o.peers = argv[i];
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--out") == 0) o.out = value;
        if (strcmp(argv[i - 1], "--rows") == 0) o.max_rows = atoi(value);
        if (strcmp(argv[i - 1], "--every") == 0) o.every = larger(1, atoi(value));
        if (strcmp(argv[i - 1], "--page") == 0) o.page = atoi(value);
        if (strcmp(argv[i - 1], "--repeat") == 0) o.repeats = larger(1, atoi(value));
        if (strcmp(argv[i - 1], "--device") == 0 && named < MAX_DEVICES) o.names[named++] = value;
    }
    if (named > 0) o.num_devices = named;
    if (o.repeats > MAX_REPEATS) o.repeats = MAX_REPEATS;
    return o;
}

/** What nvidia-smi says of the card now, "" without it. */
static void card_state(char *line, size_t bytes) {
    *line = '\0';
    /* NOLINTNEXTLINE(cert-env33-c): a fixed command */
    FILE *pipe = popen("nvidia-smi --query-gpu=driver_version,clocks.sm,clocks.mem,power.draw,power.limit,"
                       "temperature.gpu --format=csv,noheader -i 0 2>/dev/null",
                       "r");
    if (pipe == NULL) return;
    if (fgets(line, (int)bytes, pipe) == NULL) *line = '\0';
    pclose(pipe);
    line[strcspn(line, "\r\n")] = '\0';
}

static void write_header(FILE *out, const bench *b, const options *o, int argc, char **argv) {
    char state[256];
    card_state(state, sizeof state);
    fprintf(out, "# GPU: %s\n# driver, SM clock, memory clock, power, limit, temperature: %s\n# commit: %s\n# command:",
            b->gpu.name, state, getenv("PODATTN_COMMIT") != NULL ? getenv("PODATTN_COMMIT") : POD_COMMIT);
    for (int i = 0; i < argc; i++) fprintf(out, " %s", argv[i]);
    fprintf(out, "\n# bf16, causal, head_dim %d; median of %d after %d warm-ups, microseconds\n", HEAD_DIM, o->repeats,
            WARM_UPS);
    fprintf(out, "q_heads;kv_heads;prefill_q;prefill_kv;decode_n;decode_kv;page;fused_us;serial_us;streams_us;"
                 "prefill_us;decode_us;plan_us;prefill_tflops;decode_tbs;fa3_best_us;pod_best_us");
    for (int32_t d = 1; d < o->num_devices; d++) fprintf(out, ";%s", o->names[d]);
    fprintf(out, "\n");
}

static void write_row(FILE *out, const options *o, const row *r, int page, const result *t) {
    fprintf(out, "%d;%d;%d;%d;%d;%d;%d;%.2f;%.2f;%.2f;%.2f;%.2f;%.2f;%.1f;%.3f;%.2f;%.2f", r->q_heads, r->kv_heads,
            r->prefill_q, r->prefill_kv, r->decode_n, r->decode_kv, page, t->fused, t->serial, t->streams, t->prefill,
            t->decode, t->plan, prefill_tflop(r) / t->prefill * 1e6, decode_terabytes(r) / t->decode * 1e6,
            r->fa3_best_us, r->pod_best_us);
    for (int32_t d = 1; d < o->num_devices; d++) fprintf(out, ";%.2f", t->others[d]);
    fprintf(out, "\n");
    fflush(out);
}

typedef struct summary {
    int32_t rows, behind_pod, behind_serial;
    double sum_pod, sum_fa3, sum_serial, sum_streams, sum_side, worst_pod;
    double sum_other[MAX_DEVICES];
} summary;

static void print_row(const options *o, const row *r, int page, const result *t) {
    printf("%4d@%-5d %3d@%-5d p%-2d %8.1f %8.1f %8.1f %8.1f %8.1f  %5.0f %5.2f  %5.2f %5.2f %5.2f %5.1f", r->prefill_q,
           r->prefill_kv, r->decode_n, r->decode_kv, page, t->fused, t->serial, t->streams, t->prefill, t->decode,
           prefill_tflop(r) / t->prefill * 1e6, decode_terabytes(r) / t->decode * 1e6, t->serial / t->fused,
           r->pod_best_us / t->fused, r->fa3_best_us / t->fused, t->plan);
    for (int32_t d = 1; d < o->num_devices; d++) printf(" %8.1f", t->others[d]);
    printf("\n");
    fflush(stdout);
}

static void add(summary *s, const options *o, const row *r, const result *t) {
    double pod = r->pod_best_us / t->fused;
    if (s->rows == 0 || pod < s->worst_pod) s->worst_pod = pod;
    s->rows++;
    s->behind_pod += pod < 1 && r->pod_best_us > 0;
    s->behind_serial += t->serial < t->fused;
    s->sum_pod += pod;
    s->sum_fa3 += r->fa3_best_us / t->fused;
    s->sum_serial += t->serial / t->fused;
    s->sum_streams += t->streams / t->fused;
    s->sum_side += t->fused / (t->prefill > t->decode ? t->prefill : t->decode);
    for (int32_t d = 1; d < o->num_devices; d++) s->sum_other[d] += t->others[d] / t->fused;
}

static void print_summary(const summary *s, const options *o, int page) {
    double n = s->rows;
    if (s->rows == 0) return;
    printf(
        "page %d, %d rows: pod_best/fused mean %.3f, worst %.3f, behind on %d; serial/fused mean %.3f, behind on %d; "
        "fa3_best/fused mean %.3f; streams/fused mean %.3f; fused/longer side mean %.3f",
        page, s->rows, s->sum_pod / n, s->worst_pod, s->behind_pod, s->sum_serial / n, s->behind_serial, s->sum_fa3 / n,
        s->sum_streams / n, s->sum_side / n);
    for (int32_t d = 1; d < o->num_devices; d++) printf("; %s/fused mean %.3f", o->names[d], s->sum_other[d] / n);
    printf("\n");
}

/* ---- setting up ---- */

/** Fills GPU memory with random bf16 numbers: a block from the host, then copies of what is there. */
static uint16_t *random_memory(const gpu *gpu, size_t elements, uint64_t seed) {
    size_t block = (size_t)1 << 22, filled = elements < block ? elements : block;
    uint16_t *memory = gpu_alloc(gpu, elements * sizeof(uint16_t)), *host = checked(malloc(filled * sizeof *host));
    test_rng rng = {seed};
    for (size_t i = 0; i < filled; i++) host[i] = pod__float_to_bf16(rng_normal(&rng));
    gpu_upload(gpu, memory, host, filled * sizeof *host);
    free(host);
    while (filled < elements) {
        size_t count = elements - filled < filled ? elements - filled : filled;
        GPU_CHECK(gpu, memcpy_dtod((CUdeviceptr)(uintptr_t)(memory + filled), (CUdeviceptr)(uintptr_t)memory,
                                   count * sizeof *memory));
        filled += count;
    }
    return memory;
}

static void bench_make(bench *b, const options *o, const row *rows, int32_t num_rows) {
    size_t cache = (size_t)(1.1 * rotated_bytes / 4), q = 1;
    for (int32_t i = 0; i < num_rows; i++) {
        const row *r = &rows[i];
        size_t tokens = (size_t)r->decode_n * (size_t)r->decode_kv + (size_t)r->prefill_kv + 2 * PAGE_TOKENS;
        size_t needed = tokens * (size_t)r->kv_heads * HEAD_DIM;
        size_t queries = (size_t)(r->decode_n + r->prefill_q) * (size_t)r->q_heads * HEAD_DIM;
        if (needed > cache) cache = needed;
        if (queries > q) q = queries;
    }
    b->repeats = o->repeats;
    b->cache_elements = 2 * cache;
    b->cache = random_memory(&b->gpu, b->cache_elements, 1);
    b->q_elements = q;
    b->q = random_memory(&b->gpu, q, 2);
    GPU_CHECK(&b->gpu, stream_create(&b->stream, CU_STREAM_NON_BLOCKING));
    GPU_CHECK(&b->gpu, stream_create(&b->side_stream, CU_STREAM_NON_BLOCKING));
    for (int32_t i = 0; i < b->repeats; i++) {
        GPU_CHECK(&b->gpu, event_create(&b->begin[i], CU_EVENT_DEFAULT));
        GPU_CHECK(&b->gpu, event_create(&b->end[i], CU_EVENT_DEFAULT));
    }
    GPU_CHECK(&b->gpu, event_create(&b->fork, CU_EVENT_DISABLE_TIMING));
    GPU_CHECK(&b->gpu, event_create(&b->join, CU_EVENT_DISABLE_TIMING));
    GPU_CHECK(&b->gpu, ctx_synchronize());
}

/** Planning alone, for a few sizes of batch. */
static void time_plans(const bench *b, pod_device *device) {
    static const row sizes[] = {
        {32, 8, 512, 4096, 15, 4096, 0, 0},
        {32, 8, 1024, 8192, 63, 8192, 0, 0},
        {32, 8, 2048, 16384, 255, 16384, 0, 0},
        {32, 8, 512, 1024, 1023, 1024, 0, 0},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        problem p;
        const row *r = &sizes[i];
        problem_make(b, &p, device, r, PAGE_TOKENS);
        printf("plan of %4d requests of %4d pages: %6.2f us\n", r->decode_n + 1, r->decode_kv / PAGE_TOKENS,
               time_plan_us(b, &p));
        problem_free(b, &p);
    }
}

static void time_rows(const bench *b, pod_device *const devices[], const options *o, const row *rows, int32_t num_rows,
                      FILE *out) {
    static const int pages[] = {0, PAGE_TOKENS};
    printf("prefill    decode    page   fused   serial  streams  prefill   decode  TFLOP/s TB/s | serial, pod, fa3 / "
           "fused; plan us\n");
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        summary s = {0};
        if (o->page >= 0 && o->page != pages[i]) continue;
        for (int32_t n = 0; n < num_rows && n < o->max_rows; n += o->every) {
            result t = measure(b, devices, o->num_devices, &rows[n], pages[i]);
            print_row(o, &rows[n], pages[i], &t);
            if (out != NULL) write_row(out, o, &rows[n], pages[i], &t);
            add(&s, o, &rows[n], &t);
        }
        print_summary(&s, o, pages[i]);
    }
}

int main(int argc, char **argv) {
    static row rows[MAX_ROWS];
    static bench b;
    options o = parse(argc, argv);
    if (o.peers == NULL && !o.only_plan) {
        fprintf(stderr, "usage: gpu_peers PEERS.csv [--out FILE] [--rows N] [--every N] [--page 16|0] [--repeat N] "
                        "[--device NAME]... [--plan]\n");
        return 2;
    }
    int32_t num_rows = o.peers != NULL ? read_rows(o.peers, rows) : 0;
    if (!gpu_open(&b.gpu, 0)) {
        printf("skipped: no GPU\n");
        return GPU_EXIT_SKIPPED;
    }
    pod_device *devices[MAX_DEVICES];
    for (int32_t d = 0; d < o.num_devices; d++) require(pod_device_open(o.names[d], &devices[d]));
    FILE *out = o.out != NULL ? fopen(o.out, "w") : NULL;
    if (o.out != NULL && out == NULL) {
        fprintf(stderr, "%s: cannot be written\n", o.out);
        return 2;
    }
    bench_make(&b, &o, rows, num_rows);
    if (out != NULL) write_header(out, &b, &o, argc, argv);
    if (o.only_plan) time_plans(&b, devices[0]);
    if (num_rows > 0) time_rows(&b, devices, &o, rows, num_rows, out);
    if (out != NULL) fclose(out);
    for (int32_t d = 0; d < o.num_devices; d++) pod_device_close(devices[d]);
    return EXIT_SUCCESS;
}
