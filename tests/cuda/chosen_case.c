/* SPDX-License-Identifier: Apache-2.0 */
#include "chosen_case.h"

#include "base/dtype.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/** `count` requests, from one to the next `q_step` queries and `kv_step` keys longer. */
typedef struct request_run {
    int32_t count, q_len, kv_len, q_step, kv_step;
} request_run;

enum { MAX_RUNS = 10 };

enum {
    IS_F16 = 1,
    SEES_ALL = 2,      /**< not causal */
    HAS_SINKS = 4,     /**< of any size */
    SHARES_PAGES = 8,  /**< every request's first pages are those of request 0, and one of them stands there twice */
    ZERO_QUERIES = 16, /**< outputs are the mean of what is seen */
    NAN_REQUEST = 32,  /**< queries, keys and values of request 1 */
    LOST_VALUES = 64,  /**< some of those that not all of a request's queries see are not finite */
    FAR_SCORES = 128,  /**< beyond 2^27 in log2 units */
    IS_F8 = 256,       /**< keys and values */
    HAS_TREE = 512,    /**< a tree mask, by `children`: of each node of a draft; 0: words of any bits */
    HAS_ALIBI = 1024,  /**< slopes of both signs, some steep */
};

typedef struct chosen_case {
    const char *name;
    int32_t q_heads, kv_heads, head_dim, page_size, window_tokens, flags;
    int32_t right_window_tokens, children;
    float scale, softcap, element; /**< `element`, if not 0: all elements of queries, keys and values */
    request_run runs[MAX_RUNS];
} chosen_case;

#define RUNS(...) .runs = {__VA_ARGS__}
#define WINDOW(W, PAGE, DIM)                                                                                           \
    { "window " #W " page " #PAGE " dim " #DIM, 4, 2, DIM, PAGE, W, RUNS({1, 1, 290}, {1, 3, 301}, {1, 64, 320}) }
#define WINDOW_OF_7(W)                                                                                                 \
    { "window " #W " of a group of 7", 7, 1, 64, 16, W, RUNS({1, 1, 300}, {1, 5, 300}, {1, 64, 300}) }
#define GROUP(Q_HEADS, KV_HEADS)                                                                                       \
    {"heads " #Q_HEADS "," #KV_HEADS,                                                                                  \
     Q_HEADS,                                                                                                          \
     KV_HEADS,                                                                                                         \
     64,                                                                                                               \
     16,                                                                                                               \
     100,                                                                                                              \
     HAS_SINKS,                                                                                                        \
     RUNS({1, 30, 200}, {2, 5, 177}, {2, 1, 77})},                                                                     \
    {                                                                                                                  \
        "heads " #Q_HEADS "," #KV_HEADS ", split", Q_HEADS, KV_HEADS, 64, 16, RUNS({1, 1, 2000})                       \
    }
#define TAILS(NAME, FLAGS)                                                                                             \
    {                                                                                                                  \
        NAME, 2, 1, 64, 300, 0, FLAGS,                                                                                 \
            RUNS({1, 1, 1}, {3, 1, 63, 0, 1}, {3, 1, 127, 0, 1}, {3, 1, 255, 0, 1}, {3, 40, 63, 0, 1},                 \
                 {3, 40, 127, 0, 1})                                                                                   \
    }
#define PAGES(PAGE)                                                                                                    \
    { "every length on pages of " #PAGE, 2, 1, 64, PAGE, RUNS({130, 1, 1, 0, 1}) }
#define F8_RUNS RUNS({1, 100, 300}, {1, 5, 90}, {1, 2, 75}, {1, 30, 140}, {1, 1, 290}, {30, 1, 60, 0, 1}, {1, 90, 90})
#define F8(PAGE, W, DIM)                                                                                               \
    {"f8 page " #PAGE " window " #W " dim " #DIM, 4, 2, DIM, PAGE, W, IS_F8, F8_RUNS}, {                               \
        "f8 under f16, page " #PAGE " window " #W " dim " #DIM, 8, 2, DIM, PAGE, W, IS_F8 | IS_F16, .softcap = 30,     \
                                                                                                    F8_RUNS            \
    }
#define SOFTCAP(CAP)                                                                                                   \
    {"softcap " #CAP, 4, 2, 64, 16, .softcap = CAP, RUNS({1, 1, 300}, {1, 30, 130})}, {                                \
        "softcap " #CAP " of large scores", 4, 2, 64, 16, .scale = 4, .softcap = CAP, RUNS({1, 1, 300}, {1, 30, 130})  \
    }
#define STEEP(SCALE, FLAGS)                                                                                            \
    { "scale " #SCALE " flags " #FLAGS, 4, 2, 64, 16, 0, FLAGS, .scale = SCALE, RUNS({1, 1, 300}, {1, 40, 200}) }

#define TREE_RUNS                                                                                                      \
    RUNS({1, 1, 300}, {1, 2, 65}, {1, 3, 130}, {1, 8, 290}, {1, 16, 16}, {1, 33, 100}, {1, 64, 320}, {1, 64, 64},      \
         {1, 65, 200}, {1, 100, 300})
#define TREES(Q_HEADS, KV_HEADS, PAGE, DIM)                                                                            \
    {"any words, heads " #Q_HEADS "," #KV_HEADS " dim " #DIM,                                                          \
     Q_HEADS,                                                                                                          \
     KV_HEADS,                                                                                                         \
     DIM,                                                                                                              \
     PAGE,                                                                                                             \
     .flags = HAS_TREE,                                                                                                \
     TREE_RUNS},                                                                                                       \
        {"any words to all keys, heads " #Q_HEADS "," #KV_HEADS " dim " #DIM,                                          \
         Q_HEADS,                                                                                                      \
         KV_HEADS,                                                                                                     \
         DIM,                                                                                                          \
         PAGE,                                                                                                         \
         40,                                                                                                           \
         .flags = HAS_TREE | SEES_ALL | HAS_SINKS,                                                                     \
         .right_window_tokens = 5,                                                                                     \
         TREE_RUNS},                                                                                                   \
    {                                                                                                                  \
        "drafts, heads " #Q_HEADS "," #KV_HEADS " dim " #DIM, Q_HEADS, KV_HEADS, DIM, PAGE,                            \
            .flags = HAS_TREE | HAS_ALIBI, .children = 3, .softcap = 20, TREE_RUNS                                     \
    }
#define TWO_SIDES(LEFT, RIGHT, DIM, FLAGS)                                                                             \
    {                                                                                                                  \
        "windows " #LEFT " and " #RIGHT " dim " #DIM " flags " #FLAGS, 4, 2, DIM, 16, LEFT, SEES_ALL | FLAGS,          \
            .right_window_tokens = RIGHT,                                                                              \
            RUNS({1, 1, 300}, {1, 3, 301}, {1, 64, 320}, {1, 300, 300}, {1, 90, 40}, {1, 7, 3})                        \
    }

#define ALIKE(ELEMENT, DIM, FLAGS)                                                                                     \
    {                                                                                                                  \
        "all " #ELEMENT " dim " #DIM " flags " #FLAGS, 4, 2, DIM, 16, 0, FLAGS,                                        \
            .element = ELEMENT, RUNS({1, 1, 300}, {1, 3, 290}, {1, 200, 300})                                          \
    }
#define ALIKE_SCORES(DIM)                                                                                              \
    ALIKE(1e3f, DIM, 0), ALIKE(5e3f, DIM, 0), ALIKE(2e4f, DIM, FAR_SCORES), ALIKE(4e4f, DIM, FAR_SCORES),              \
        ALIKE(6e4f, DIM, FAR_SCORES), ALIKE(133120, DIM, FAR_SCORES), ALIKE(8e3f, DIM, IS_F16 | FAR_SCORES),           \
        ALIKE(1.6e4f, DIM, IS_F16 | FAR_SCORES), ALIKE(3e4f, DIM, IS_F16 | FAR_SCORES)

#define MLA(HEADS, PAGE, W, FLAGS)                                                                                     \
    {                                                                                                                  \
        "mla, heads " #HEADS " page " #PAGE " window " #W " flags " #FLAGS, HEADS, 1, 576, PAGE, W, FLAGS,             \
            RUNS({1, 1, 300}, {1, 3, 130}, {1, 1, 64}, {1, 9, 70}, {1, 0, 10}, {1, 1, 1})                              \
    }

/* Row tiles of at most half of sm90's 256 rows, alone and beside wider ones; some split, where there are few. */
#define NARROW(Q_HEADS, KV_HEADS, PAGE, W, DIM)                                                                        \
    {"narrow, heads " #Q_HEADS "," #KV_HEADS " page " #PAGE " window " #W " dim " #DIM,                                \
     Q_HEADS,                                                                                                          \
     KV_HEADS,                                                                                                         \
     DIM,                                                                                                              \
     PAGE,                                                                                                             \
     W,                                                                                                                \
     HAS_SINKS,                                                                                                        \
     RUNS({1, 33, 33}, {3, 64, 300, 0, 70}, {1, 96, 700}, {1, 128, 129}, {1, 90, 90}, {2, 1, 300})},                   \
    {                                                                                                                  \
        "narrow beside wide, heads " #Q_HEADS "," #KV_HEADS " page " #PAGE " window " #W " dim " #DIM, Q_HEADS,        \
            KV_HEADS, DIM, PAGE, W,                                                                                    \
            RUNS({1, 33, 400}, {1, 129, 520}, {1, 128, 128}, {1, 300, 300}, {1, 1, 900}, {1, 48, 250})                 \
    }
#define NARROW_SPLIT(Q_HEADS, KV_HEADS, ...)                                                                           \
    { "narrow, split, heads " #Q_HEADS "," #KV_HEADS, Q_HEADS, KV_HEADS, 64, 16, RUNS(__VA_ARGS__) }

#define LOST(W, DIM)                                                                                                   \
    {                                                                                                                  \
        "values lost, window " #W " dim " #DIM, 4, 2, DIM, 16, W, LOST_VALUES,                                         \
            RUNS({1, 100, 300}, {1, 5, 90}, {1, 2, 75}, {1, 30, 140}, {1, 1, 80}, {1, 90, 90})                         \
    }

/* clang-format off */
static const chosen_case cases[] = {
    {"window 50", 4, 2, 64, 16, 50, RUNS({1, 1, 200}, {1, 3, 300}, {1, 36, 310})},
    {"one key before the window", 4, 1, 64, 32, 4095, RUNS({1, 1, 4352})},
    {"a short window in a long context", 8, 1, 64, 16, 128, RUNS({1, 1, 131072})},
    WINDOW(16, 64, 64), WINDOW(16, 128, 128), WINDOW(128, 64, 128), WINDOW(128, 128, 64),
    WINDOW(129, 64, 64), WINDOW(129, 128, 128), WINDOW(129, 1, 64), WINDOW(33, 24, 128),
    WINDOW_OF_7(1), WINDOW_OF_7(2), WINDOW_OF_7(63), WINDOW_OF_7(64), WINDOW_OF_7(65), WINDOW_OF_7(127),
    WINDOW_OF_7(128), WINDOW_OF_7(129), WINDOW_OF_7(299), WINDOW_OF_7(300), WINDOW_OF_7(301),
    {"windows that begin where a tile does", 4, 1, 128, 16, 256, RUNS({1, 64, 640}, {1, 60, 635}, {1, 33, 640})},
    {"a window that is not causal", 4, 2, 64, 16, 50, SEES_ALL, RUNS({1, 1, 200}, {1, 3, 300}, {1, 36, 310})},
    GROUP(28, 4), GROUP(10, 2), GROUP(12, 2), GROUP(14, 2), GROUP(24, 2), GROUP(33, 1), GROUP(71, 1),
    GROUP(9, 1), GROUP(14, 1), GROUP(48, 1),
    TAILS("tails", 0), TAILS("tails that are not causal", SEES_ALL), TAILS("mean values", SEES_ALL | ZERO_QUERIES),
    PAGES(8), PAGES(24), PAGES(40), PAGES(48),
    F8(1, 0, 64), F8(16, 0, 64), F8(24, 70, 64), F8(300, 70, 64),
    F8(1, 0, 128), F8(16, 0, 128), F8(24, 70, 128), F8(300, 70, 128),
    {"every length on one page", 1, 1, 128, 128, RUNS({128, 1, 1, 0, 1})},
    {"pages of all requests", 4, 2, 64, 16, 0, SHARES_PAGES, RUNS({6, 1, 150}, {1, 20, 170})},
    {"a request that is NaN", 4, 2, 64, 16, 0, NAN_REQUEST, RUNS({1, 10, 90}, {1, 3, 70}, {2, 1, 65}, {1, 50, 100})},
    {"a prefill that is NaN", 4, 2, 128, 16, 0, NAN_REQUEST, RUNS({1, 10, 90}, {1, 40, 70}, {2, 1, 65}, {1, 50, 100})},
    LOST(0, 64), LOST(0, 128), LOST(70, 64), LOST(70, 128),
    NARROW(2, 2, 16, 0, 128), NARROW(4, 4, 64, 70, 64), NARROW(3, 3, 8, 0, 64), NARROW(1, 1, 300, 150, 128),
    NARROW(2, 2, 16, 0, 256), NARROW(3, 3, 8, 70, 256), NARROW(8, 2, 64, 0, 256),
    WINDOW(33, 24, 256), WINDOW(129, 64, 256), LOST(70, 256),
    ALIKE(1e3f, 256, 0), ALIKE(2e4f, 256, FAR_SCORES), ALIKE(8e3f, 256, IS_F16 | FAR_SCORES),
    {"head_dim 256, many parts of a decode", 8, 1, 256, 16, 0, HAS_SINKS, RUNS({1, 1, 20000}, {1, 70, 90})},
    {"head_dim 256, decodes among a prompt's tiles", 4, 2, 256, 16, 0, IS_F16, RUNS({20, 1, 300, 0, 7}, {1, 300, 700})},
    {"head_dim 256, a softcap", 4, 2, 256, 24, .softcap = 30, RUNS({1, 1, 300}, {1, 30, 130}, {1, 200, 200})},
    NARROW(2, 2, 16, 0, 192), NARROW(3, 3, 8, 70, 192), WINDOW(129, 24, 192), LOST(70, 192),
    {"head_dim 192, many parts of a decode", 8, 1, 192, 16, 0, HAS_SINKS, RUNS({1, 1, 20000}, {1, 70, 90})},
    {"head_dim 192, pages of 8", 4, 4, 192, 8, 0, IS_F16, RUNS({20, 1, 300, 0, 7}, {1, 300, 700})},
    {"narrow prompts of a tile each", 4, 4, 64, 16, RUNS({40, 40, 40, 0, 2})},
    NARROW_SPLIT(2, 2, {1, 100, 4700}), NARROW_SPLIT(2, 2, {1, 100, 4700}, {1, 300, 3000}),
    NARROW_SPLIT(3, 3, {1, 100, 4700}),
    {"sinks, split", 4, 1, 64, 16, 0, HAS_SINKS, RUNS({1, 1, 3000})},
    {"sinks before a window", 4, 1, 64, 16, 20, HAS_SINKS, RUNS({1, 1, 100000}, {1, 30, 100})},
    {"sinks are not capped", 4, 1, 64, 16, 0, HAS_SINKS, .softcap = 30, RUNS({1, 1, 500}, {1, 30, 100})},
    {"sinks alone", 4, 1, 64, 16, 0, HAS_SINKS | SEES_ALL, RUNS({2, 3, 0}, {1, 1, 40}, {1, 40, 0})},
    {"many parts of a decode", 8, 1, 64, 16, RUNS({1, 1, 40000})},
    {"many parts of a decode and a sink", 4, 1, 128, 16, 0, HAS_SINKS, RUNS({1, 2, 40000})},
    {"many parts of one beside a prefill", 8, 2, 128, 16, RUNS({1, 40, 90}, {1, 1, 6000}, {1, 1, 40})},
    {"a thousand short requests", 2, 1, 64, 16, RUNS({1100, 1, 1})},
    {"rows of every number", 4, 1, 64, 16, RUNS({40, 1, 1, 1, 1})},
    {"a last request without rows", 4, 1, 64, 16, RUNS({1, 257, 300}, {1, 1, 40}, {1, 255, 255}, {1, 0, 10})},
    {"empty requests alone", 4, 1, 64, 16, RUNS({9, 0, 0}, {5, 0, 30})},
    SOFTCAP(1e-40f), SOFTCAP(1e-3f), SOFTCAP(1), SOFTCAP(30), SOFTCAP(1e3f), SOFTCAP(1e4f), SOFTCAP(1e5f),
    SOFTCAP(1e6f), SOFTCAP(1e8f), SOFTCAP(3e38f),
    STEEP(4, 0), STEEP(8, 0), STEEP(4, IS_F16), STEEP(8, IS_F16), STEEP(1e-38f, 0), STEEP(1e-42f, IS_F16),
    ALIKE_SCORES(64), ALIKE_SCORES(128),
    TREES(1, 1, 16, 64), TREES(8, 2, 1, 128), TREES(7, 1, 24, 96), TREES(4, 1, 300, 256),
    {"words under f8", 8, 2, 128, 16, .flags = HAS_TREE | HAS_ALIBI | IS_F8, .right_window_tokens = 9, TREE_RUNS},
    {"values lost in a tree", 4, 2, 64, 16, .flags = HAS_TREE | LOST_VALUES, .children = 2, TREE_RUNS},
    {"values lost among any words", 4, 2, 128, 16, .flags = HAS_TREE | LOST_VALUES, TREE_RUNS},
    TWO_SIDES(0, 1, 64, 0), TWO_SIDES(0, 70, 128, HAS_ALIBI), TWO_SIDES(50, 1, 96, 0), TWO_SIDES(33, 64, 64, 0),
    TWO_SIDES(100, 130, 128, HAS_SINKS), TWO_SIDES(1, 1, 256, 0), TWO_SIDES(0, 40, 64, LOST_VALUES),
    MLA(16, 64, 0, 0), MLA(16, 1, 0, IS_F16), MLA(128, 16, 0, 0), MLA(7, 24, 33, HAS_SINKS), MLA(64, 32, 0, SEES_ALL),
    {"mla of a softcap", 16, 1, 576, 16, .softcap = 5, RUNS({1, 1, 200}, {1, 5, 70})},
    {"mla, two latent heads", 32, 2, 576, 16, RUNS({1, 1, 200}, {1, 70, 70})},
    {"mla, many parts", 16, 1, 576, 16, .flags = HAS_SINKS, RUNS({1, 1, 3000})},
    {"mla, many parts of row tiles", 128, 1, 576, 64, RUNS({1, 1, 3000})},
    {"mla, one short request", 16, 1, 576, 16, RUNS({1, 1, 5})},
    ALIKE(1e3f, 576, 0), ALIKE(2e4f, 576, FAR_SCORES), ALIKE(8e3f, 576, IS_F16 | FAR_SCORES),
    {"alibi", 8, 1, 128, 16, .flags = HAS_ALIBI, RUNS({1, 1, 3000}, {1, 100, 300}, {1, 5, 70})},
    {"alibi under f16", 6, 2, 64, 16, 30, .flags = HAS_ALIBI | IS_F16 | HAS_SINKS, RUNS({1, 1, 300}, {1, 30, 130})},
};
/* clang-format on */

int32_t chosen_case_count(void) {
    return (int32_t)(sizeof cases / sizeof cases[0]);
}

const char *chosen_case_name(int32_t index) {
    return cases[index].name;
}

static int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}

static pod_limits limits_of(const chosen_case *chosen) {
    pod_limits l = pod_limits_init();
    l.q_heads = chosen->q_heads;
    l.kv_heads = chosen->kv_heads;
    l.head_dim = chosen->head_dim;
    if (l.head_dim == 576) l.v_head_dim = 512;
    if (l.head_dim == 192) l.v_head_dim = 128;
    l.q_dtype = l.out_dtype = chosen->flags & IS_F16 ? POD_F16 : POD_BF16;
    l.kv_dtype = chosen->flags & IS_F8 ? POD_F8E4M3 : l.q_dtype;
    l.page_size = chosen->page_size;
    l.tree_masks = (chosen->flags & HAS_TREE) != 0;
    l.alibi = (chosen->flags & HAS_ALIBI) != 0;
    l.right_windows = chosen->right_window_tokens > 0;
    l.max_q_tokens = l.max_kv_len = 1;
    for (const request_run *run = chosen->runs; run < chosen->runs + MAX_RUNS; run++) {
        l.max_requests += run->count;
        for (int32_t i = 0; i < run->count; i++) l.max_q_tokens += run->q_len + i * run->q_step;
        l.max_kv_len = larger(l.max_kv_len, run->kv_len + larger(run->count - 1, 0) * run->kv_step);
    }
    return l;
}

static void fill_batch(test_batch *batch, const chosen_case *chosen) {
    int32_t r = 0;
    batch->q_start[0] = 0;
    for (const request_run *run = chosen->runs; run < chosen->runs + MAX_RUNS; run++) {
        for (int32_t i = 0; i < run->count; i++, r++) {
            batch->q_start[r + 1] = batch->q_start[r] + run->q_len + i * run->q_step;
            batch->kv_len[r] = run->kv_len + i * run->kv_step;
        }
    }
    batch->batch.num_requests = r;
    batch->masks[0].causal = !(chosen->flags & SEES_ALL);
    batch->masks[0].window_tokens = chosen->window_tokens;
    batch->masks[0].right_window_tokens = chosen->right_window_tokens;
}

static void share_pages(test_batch *batch) {
    const pod_batch *b = &batch->batch;
    int32_t *first = batch->page_table;
    first[1] = first[2];
    for (int32_t r = 1; r < b->num_requests; r++) {
        for (int32_t p = 0; p < 4; p++) batch->page_table[r * b->page_table_stride + p] = first[p];
    }
}

static void choose_sinks(gpu_case *c, int has_sinks) {
    static const float values[] = {-INFINITY, 1e4f, 0, -1e30f, 2};
    free((void *)(uintptr_t)c->host.sinks);
    c->host.sinks = NULL;
    if (!has_sinks) return;
    float *sinks = malloc((size_t)c->limits.q_heads * sizeof *sinks);
    for (int32_t h = 0; sinks != NULL && h < c->limits.q_heads; h++) sinks[h] = values[h % 5];
    c->host.sinks = sinks;
}

static int choose_slopes(gpu_case *c, int has_alibi) {
    static const float values[] = {-0.5f, 0.01f, 0, -1e-3f, 0.125f};
    free((void *)(uintptr_t)c->host.alibi_slopes);
    c->host.alibi_slopes = NULL;
    if (!has_alibi) return 1;
    float *slopes = malloc((size_t)c->limits.q_heads * sizeof *slopes);
    for (int32_t h = 0; slopes != NULL && h < c->limits.q_heads; h++) slopes[h] = values[h % 5];
    c->host.alibi_slopes = slopes;
    return slopes != NULL;
}

static int choose_tree(gpu_case *c, test_rng *rng, int has_tree, int32_t children) {
    const int32_t *q_start = c->batch.q_start, n = c->batch.batch.num_requests;
    free((void *)(uintptr_t)c->host.tree_mask);
    c->host.tree_mask = NULL;
    if (!has_tree) return 1;
    uint64_t *words = malloc(((size_t)q_start[n] + 1) * sizeof *words);
    for (int32_t r = 0; words != NULL && r < n; r++) {
        for (int32_t i = 0; i < q_start[r + 1] - q_start[r]; i++) {
            uint64_t parent = children == 0 || i == 0 ? 0 : words[q_start[r] + (i - 1) / children];
            words[q_start[r] + i] = children == 0 ? rng_next(rng) : parent | UINT64_C(1) << i % POD_MAX_TREE_TOKENS;
        }
    }
    c->host.tree_mask = words;
    return words != NULL;
}

/** All elements of the tokens [begin, end) of q. */
static void set_queries(gpu_case *c, int32_t begin, int32_t end, uint16_t element) {
    uint16_t *q = (uint16_t *)(uintptr_t)c->host.q;
    for (int64_t i = begin * c->host.q_token_stride; i < end * c->host.q_token_stride; i++) q[i] = element;
}

static int32_t value_elements(const gpu_case *c) {
    return c->limits.v_head_dim > 0 ? c->limits.v_head_dim : c->limits.head_dim;
}

/** All elements of a request's queries, keys and values. */
static void set_request(gpu_case *c, int32_t r, uint16_t element) {
    set_queries(c, c->batch.q_start[r], c->batch.q_start[r + 1], element);
    for (int32_t key = 0; key < c->batch.kv_len[r]; key++) {
        for (int32_t head = 0; head < c->limits.kv_heads; head++) {
            uint16_t *k = gpu_case_key(c, r, key, head), *v = gpu_case_value(c, r, key, head);
            for (int32_t i = 0; i < c->limits.head_dim; i++) k[i] = element;
            for (int32_t i = 0; i < value_elements(c); i++) v[i] = element;
        }
    }
}

/** Among a request's own tokens, and where windows begin: a query sees some, and others not. */
static void lose_values(gpu_case *c, test_rng *rng, int32_t r, int32_t window_tokens) {
    static const uint16_t lost[] = {0x7f80, 0xff80, 0x7fc0};
    int32_t kv_len = c->batch.kv_len[r], q_len = c->batch.q_start[r + 1] - c->batch.q_start[r];
    int32_t first_key = test_batch_first_key(&c->batch, r, -1);
    for (int32_t i = 0; i < q_len; i++) {
        int32_t key = rng_chance(rng, 50) && window_tokens > 0 ? first_key + i : kv_len - q_len + i;
        if (key < 0 || (q_len > 5 && !rng_chance(rng, 12))) continue; /* a token before the context has no key */
        uint16_t *value = gpu_case_value(c, r, key, rng_range(rng, 0, c->limits.kv_heads - 1));
        value[rng_range(rng, 0, value_elements(c) - 1)] = lost[rng_range(rng, 0, 2)];
    }
}

int chosen_case_is_for(int32_t index, const char *kernel) {
    int is_sm80 = strstr(kernel, "sm80") != NULL;
    return !(cases[index].flags & (is_sm80 ? FAR_SCORES : LOST_VALUES));
}

gpu_expect *chosen_case_make(gpu_case *c, int32_t index) {
    const chosen_case *chosen = &cases[index];
    test_rng rng = {(uint64_t)index};
    memset(c, 0, sizeof *c);
    c->limits = limits_of(chosen);
    if (!test_batch_alloc(&c->batch, &c->limits)) return NULL;
    fill_batch(&c->batch, chosen);
    if (!test_batch_add_pages(&c->batch, &rng, &c->limits)) return NULL;
    if (chosen->flags & SHARES_PAGES) share_pages(&c->batch);
    c->has_own_v = (chosen->flags & LOST_VALUES) != 0; /* a key that is lost would lose its scores */
    gpu_case_fill(c, &rng);
    c->host.scale = chosen->scale;
    c->host.softcap = chosen->softcap;
    choose_sinks(c, chosen->flags & HAS_SINKS);
    if (!choose_slopes(c, chosen->flags & HAS_ALIBI)) return NULL;
    if (!choose_tree(c, &rng, chosen->flags & HAS_TREE, chosen->children)) return NULL;
    if (chosen->flags & ZERO_QUERIES) set_queries(c, 0, c->batch.q_start[c->batch.batch.num_requests], 0);
    for (int32_t r = 0; r < c->batch.batch.num_requests && chosen->flags & LOST_VALUES; r++) {
        lose_values(c, &rng, r, chosen->window_tokens);
    }
    if (chosen->element != 0) {
        uint16_t element =
            chosen->flags & IS_F16 ? pod__float_to_f16(chosen->element) : pod__float_to_bf16(chosen->element);
        for (int32_t r = 0; r < c->batch.batch.num_requests; r++) set_request(c, r, element);
    }
    gpu_expect *expect = calloc((size_t)c->limits.max_requests, sizeof *expect);
    if (expect == NULL || !(chosen->flags & NAN_REQUEST)) return expect;
    set_request(c, 1, 0xffff);
    expect[1] = EXPECT_NAN;
    return expect;
}
