/* SPDX-License-Identifier: Apache-2.0 */
/* A server over a virtual cache: requests come, grow and go, some fork. In 100,000 steps that follow each other at once
 * memory is neither lost nor taken beyond the limit. How long the cache's calls take is measured and printed, in those
 * steps and in some that last half a millisecond or more; it depends on whether a core is free for the thread. */
#include "base/status.h"
#include "cache/virtual_cache.h"
#include "fault_provider.h"
#include "property.h"
#include "step_times.h"

#include <time.h>

enum { MAX_REQUESTS = 64, MAX_KV_LEN = 8192, CHUNK = 512, STEPS_UNDER_WAY = 2, AHEAD = 3, MAX_BYTES = 64 << 20 };
enum { PAUSED_STEPS = 2000, STEP_NS = 500000 };

typedef struct serving {
    int64_t handle;
    int32_t kv_len, prompt, end;
} serving;

typedef struct server {
    test_rng rng;
    pod_virtual_cache *cache;
    pod_virtual_info info;
    fault_provider memory;
    int32_t num_open;
    serving open[MAX_REQUESTS];
    int64_t num_finished;
} server;

static void draw(server *s, serving *r, int32_t kv_len) {
    r->kv_len = kv_len;
    r->prompt = kv_len + rng_log_range(&s->rng, 1, 3000);
    r->end = r->prompt + rng_log_range(&s->rng, 1, 1000);
}

/** A new request in each fourth step, in one case of eight with the prefix of another. Of a fork's driver calls the
 * caller waits, which is why they are not a part of a step. */
static int admit(server *s) {
    if (s->num_open == MAX_REQUESTS || !rng_chance(&s->rng, 25)) return 0;
    serving *r = &s->open[s->num_open],
            *parent = &s->open[rng_range(&s->rng, 0, s->num_open > 0 ? s->num_open - 1 : 0)];
    if (s->num_open > 0 && rng_chance(&s->rng, 12) && parent->kv_len < MAX_KV_LEN / 4) {
        pod_status status = pod_virtual_cache_fork(s->cache, parent->handle, parent->kv_len, NULL, &r->handle);
        if (status == POD_E_STATE || status == POD_E_NO_MEMORY) return 0;
        PROPERTY(status == POD_OK, "%s", pod_error_message());
        draw(s, r, parent->kv_len);
    } else {
        pod_status status = pod_virtual_cache_open(s->cache, &r->handle);
        if (status == POD_E_STATE) return 0;
        PROPERTY(status == POD_OK, "%s", pod_error_message());
        draw(s, r, 0);
    }
    s->num_open++;
    return 0;
}

/** Of a request with that many. */
static int32_t next_tokens(const serving *r, int32_t length) {
    if (length >= r->prompt) return 1;
    return r->prompt - length < CHUNK ? r->prompt - length : CHUNK;
}

/** What every request has after the step that is `ahead` of the next one. */
static int32_t lengths(const server *s, int32_t ahead, int64_t *handles, int32_t *kv_len) {
    for (int32_t i = 0; i < s->num_open; i++) {
        const serving *r = &s->open[i];
        int32_t length = r->kv_len;
        for (int32_t n = 0; n <= ahead; n++) length += next_tokens(r, length);
        handles[i] = r->handle;
        kv_len[i] = length < r->end ? length : r->end;
    }
    return s->num_open;
}

static int retire(server *s) {
    for (int32_t i = s->num_open - 1; i >= 0; i--) {
        if (s->open[i].kv_len < s->open[i].end) continue;
        PROPERTY(pod_virtual_cache_close(s->cache, s->open[i].handle) == POD_OK, "%s", pod_error_message());
        s->open[i] = s->open[--s->num_open];
        s->num_finished++;
    }
    return 0;
}

/** Takes the longest out, as a server does that has no memory. */
static int preempt(server *s) {
    int32_t longest = 0;
    PROPERTY(s->num_open > 1, "%s", pod_error_message());
    for (int32_t i = 1; i < s->num_open; i++) {
        if (s->open[i].kv_len > s->open[longest].kv_len) longest = i;
    }
    s->open[longest].end = s->open[longest].kv_len;
    return retire(s);
}

/** Requests that are admitted while a step runs begin with the next, so that the thread has the time of a step. */
static int step(server *s, int64_t number, double *took_us) {
    int64_t handles[MAX_REQUESTS];
    int32_t kv_len[MAX_REQUESTS];
    double begin_us = now_us();
    if (number > STEPS_UNDER_WAY) {
        PROPERTY(pod_virtual_cache_finished(s->cache, number - STEPS_UNDER_WAY - 1) == POD_OK, "%s",
                 pod_error_message());
    }
    int32_t count = lengths(s, 0, handles, kv_len);
    pod_status status = pod_virtual_cache_ensure(s->cache, number, count, handles, kv_len);
    if (status == POD_E_NO_MEMORY) {
        if (preempt(s) != 0) return 1;
        count = 0;
        status = pod_virtual_cache_ensure(s->cache, number, 0, NULL, NULL);
    }
    *took_us = now_us() - begin_us;
    PROPERTY(status == POD_OK, "%s", pod_error_message());
    for (int32_t i = 0; i < count; i++) s->open[i].kv_len = kv_len[i];
    if (retire(s) != 0 || admit(s) != 0) return 1;
    begin_us = now_us();
    count = lengths(s, AHEAD, handles, kv_len);
    PROPERTY(pod_virtual_cache_expect(s->cache, count, handles, kv_len) == POD_OK, "%s", pod_error_message());
    *took_us += now_us() - begin_us;
    return 0;
}

static int check_stats(server *s) {
    pod_virtual_stats stats = pod_virtual_stats_init();
    PROPERTY(pod_virtual_cache_get_stats(s->cache, &stats) == POD_OK, "%s", pod_error_message());
    PROPERTY(stats.peak_bytes <= MAX_BYTES, "%lld bytes", (long long)stats.peak_bytes);
    PROPERTY(stats.waste_bytes < s->num_open * s->info.row_bytes || s->num_open == 0, "waste %lld of %d requests",
             (long long)stats.waste_bytes, s->num_open);
    return 0;
}

/** `*p99_us` of the time that the steps spend in the cache's calls. */
static int serve(server *s, int64_t first, int64_t num_steps, int64_t step_ns, double *p99_us) {
    double *times_us = calloc((size_t)num_steps, sizeof *times_us);
    PROPERTY(times_us != NULL, "no memory");
    int failed = 0;
    for (int64_t n = 0; n < num_steps && !failed; n++) {
        failed = step(s, first + n, &times_us[n]) || (n % 64 == 0 && check_stats(s));
        if (step_ns > 0) nanosleep(&(struct timespec){.tv_nsec = step_ns}, NULL);
    }
    sort_times(times_us, (size_t)num_steps);
    *p99_us = times_us[num_steps * 99 / 100];
    free(times_us);
    return failed;
}

static int end_all(server *s, int64_t step) {
    while (s->num_open > 0) {
        PROPERTY(pod_virtual_cache_close(s->cache, s->open[--s->num_open].handle) == POD_OK, "%s", pod_error_message());
    }
    PROPERTY(pod_virtual_cache_ensure(s->cache, step, 0, NULL, NULL) == POD_OK, "%s", pod_error_message());
    PROPERTY(pod_virtual_cache_finished(s->cache, step) == POD_OK, "%s", pod_error_message());
    PROPERTY(pod_virtual_cache_trim(s->cache, INT64_MAX, NULL) == POD_OK, "%s", pod_error_message());
    PROPERTY(s->memory.num_pages == 0 && s->memory.num_mapped == 0, "%lld pages are left",
             (long long)s->memory.num_pages);
    return 0;
}

static int make(server *s, pod_virtual_layout layout) {
    pod_memory_provider provider;
    pod_virtual_config config = pod_virtual_config_init();
    memset(s, 0, sizeof *s);
    s->rng.state = property_environment("PODATTN_SEED", 1);
    config.num_layers = 2;
    config.kv_heads = 2;
    config.head_dim = 64;
    config.kv_dtype = POD_BF16;
    config.max_requests = MAX_REQUESTS;
    config.max_kv_len = MAX_KV_LEN;
    config.layout = layout;
    config.page_bytes = 65536;
    config.max_bytes = MAX_BYTES;
    PROPERTY(fault_provider_open(&s->memory, &provider) == POD_OK, "%s", pod_error_message());
    PROPERTY(pod__virtual_create(&provider, &config, &s->cache) == POD_OK, "%s", pod_error_message());
    s->info = pod_virtual_info_init();
    PROPERTY(pod_virtual_cache_get_info(s->cache, &s->info) == POD_OK, "%s", pod_error_message());
    return 0;
}

static int run(pod_virtual_layout layout, int64_t num_steps) {
    static server s;
    double hurried_us = 0, p99_us = 0;
    int failed = make(&s, layout) || serve(&s, 0, num_steps, 0, &hurried_us) ||
                 serve(&s, num_steps, PAUSED_STEPS, STEP_NS, &p99_us) || end_all(&s, num_steps + PAUSED_STEPS);
    pod_virtual_stats stats = pod_virtual_stats_init();
    pod_virtual_cache_get_stats(s.cache, &stats);
    printf(
        "%-9s  %lld requests, %lld steps: p99 of the cache's calls %.1f us; %.1f us without pauses, and %lld waits\n",
        layout == POD_VIRTUAL_MEGA ? "mega" : "per layer", (long long)s.num_finished, (long long)stats.num_steps,
        p99_us, hurried_us, (long long)stats.num_waits);
    pod_virtual_cache_destroy(s.cache);
    PROPERTY(failed || s.memory.num_reserved == 0, "addresses are left");
    return failed;
}

int main(void) {
    int64_t num_steps = (int64_t)property_environment("PODATTN_COUNT", 100000);
    return run(POD_VIRTUAL_PER_LAYER, num_steps) || run(POD_VIRTUAL_MEGA, num_steps) ? EXIT_FAILURE : EXIT_SUCCESS;
}
