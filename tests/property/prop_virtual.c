/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual caches against a model of them: random schedules of open, fork, ensure, expect, close, trim, with steps that
 * finish late and a driver that fails now and then. Every token carries a number that says who wrote it; it has to stay
 * as long as its request or a step that reads it, and a page that moved too early is a fault of the process. */
#include "base/status.h"
#include "cache/virtual_cache.h"
#include "fault_provider.h"
#include "property.h"

#include <signal.h>
#include <unistd.h>

enum { MAX_REQUESTS = 6, MAX_LAYERS = 3, MAX_TOKENS = 3000, MAX_STEPS_UNDER_WAY = 3, HOST_PAGE = 4096 };

typedef struct model_request {
    int64_t handle;
    int32_t kv_len;
    uint32_t written[MAX_TOKENS]; /**< by token */
} model_request;

/** What a step reads until it has finished. */
typedef struct model_step {
    int64_t number;
    int32_t num_requests;
    int64_t handles[MAX_REQUESTS];
    int32_t kv_len[MAX_REQUESTS];
} model_step;

typedef struct model {
    test_rng *rng;
    pod_virtual_cache *cache;
    pod_virtual_config config;
    pod_virtual_info info;
    pod_cache layers[MAX_LAYERS];
    fault_provider faults;
    int32_t fault_percent;
    int32_t num_open;
    model_request *requests[MAX_REQUESTS]; /**< the open ones first */
    int64_t next_step, finished_step;
    int64_t fork_step; /**< the step behind the last fork */
    int32_t num_under_way;
    model_step under_way[MAX_STEPS_UNDER_WAY];
    uint32_t next_number;
} model;

/* ---- contents ---- */

static uint32_t *word_at(const model *m, int64_t handle, int32_t layer, int is_value, int32_t token) {
    const pod_cache *c = &m->layers[layer];
    int64_t offset = pod_virtual_page(handle) * c->k_page_stride + token * c->k_token_stride;
    return (uint32_t *)((char *)(is_value ? c->v : c->k) + offset * (int64_t)pod_dtype_size(m->config.kv_dtype));
}

static uint32_t word_of(uint32_t number, int32_t layer, int is_value) {
    return number * 64 + (uint32_t)(2 * layer + is_value);
}

static void write_tokens(model *m, model_request *request, int32_t begin, int32_t end) {
    for (int32_t token = begin; token < end; token++) {
        request->written[token] = ++m->next_number;
        for (int32_t part = 0; part < 2 * m->config.num_layers; part++) {
            uint32_t *words = word_at(m, request->handle, part / 2, part % 2, token);
            words[0] = word_of(request->written[token], part / 2, part % 2);
            words[m->config.kv_heads * m->config.head_dim * (int32_t)pod_dtype_size(m->config.kv_dtype) / 4 - 1] =
                words[0];
        }
    }
}

static int check_contents(const model *m, const model_request *request) {
    for (int32_t token = 0; token < request->kv_len; token++) {
        for (int32_t part = 0; part < 2 * m->config.num_layers; part++) {
            const uint32_t *words = word_at(m, request->handle, part / 2, part % 2, token);
            int32_t last = m->config.kv_heads * m->config.head_dim * (int32_t)pod_dtype_size(m->config.kv_dtype) / 4;
            uint32_t expected = word_of(request->written[token], part / 2, part % 2);
            PROPERTY(words[0] == expected && words[last - 1] == expected, "request %lld token %d layer %d %s",
                     (long long)request->handle, token, part / 2, part % 2 != 0 ? "v" : "k");
        }
    }
    return 0;
}

static int check_all_contents(const model *m) {
    for (int32_t i = 0; i < m->num_open; i++) {
        if (check_contents(m, m->requests[i]) != 0) return 1;
    }
    return 0;
}

/** What the step reads is still there: an address without a page ends the process. */
static uint32_t read_step(const model *m, const model_step *step) {
    uint32_t sum = 0;
    for (int32_t i = 0; i < step->num_requests; i++) {
        for (int32_t token = 0; token < step->kv_len[i]; token++) {
            for (int32_t part = 0; part < 2 * m->config.num_layers; part++) {
                sum += *(volatile uint32_t *)word_at(m, step->handles[i], part / 2, part % 2, token);
            }
        }
    }
    return sum;
}

/* ---- accounts ---- */

static int32_t rows_of(const model *m, int32_t kv_len) {
    return (int32_t)((kv_len * m->info.token_bytes + m->info.page_bytes - 1) / m->info.page_bytes);
}

static int check_accounts(model *m) {
    pod_virtual_stats stats = pod_virtual_stats_init();
    int64_t used = 0;
    for (int32_t i = 0; i < m->num_open; i++)
        used += m->requests[i]->kv_len * m->info.token_bytes * m->info.num_tensors;
    PROPERTY(pod_virtual_cache_get_stats(m->cache, &stats) == POD_OK, "%s", pod_error_message());
    PROPERTY(stats.num_open == m->num_open, "%d are open", stats.num_open);
    PROPERTY(stats.used_bytes + stats.shared_bytes == used, "used %lld, shared %lld of %lld",
             (long long)stats.used_bytes, (long long)stats.shared_bytes, (long long)used);
    PROPERTY(stats.waste_bytes >= 0 && stats.waste_bytes <= (m->num_open * m->info.row_bytes), "waste %lld",
             (long long)stats.waste_bytes);
    PROPERTY(stats.waste_bytes == 0 || stats.waste_bytes < m->num_open * m->info.row_bytes, "waste of a whole page");
    PROPERTY(stats.physical_bytes <= stats.peak_bytes, "peak");
    PROPERTY(m->config.max_bytes == 0 || stats.peak_bytes <= m->config.max_bytes, "%lld bytes, limit %lld",
             (long long)stats.peak_bytes, (long long)m->config.max_bytes);
    return 0;
}

/** With nothing under way and no driver that ever failed, all memory is somewhere. */
static int check_balance(model *m) {
    pod_virtual_stats stats = pod_virtual_stats_init();
    int64_t freed;
    PROPERTY(pod_virtual_cache_trim(m->cache, 0, &freed) == POD_OK && freed == 0, "%s", pod_error_message());
    PROPERTY(pod_virtual_cache_get_stats(m->cache, &stats) == POD_OK, "%s", pod_error_message());
    PROPERTY(stats.physical_bytes == m->faults.num_pages * m->info.page_bytes, "physical %lld, %lld pages",
             (long long)stats.physical_bytes, (long long)m->faults.num_pages);
    if (m->fault_percent > 0) return 0;
    int64_t sum = stats.used_bytes + stats.waste_bytes + stats.ahead_bytes + stats.idle_bytes + stats.spare_bytes;
    PROPERTY(stats.physical_bytes == sum, "physical %lld, accounted for %lld", (long long)stats.physical_bytes,
             (long long)sum);
    return 0;
}

/* ---- what happens ---- */

static void set_faults(model *m, int32_t percent) {
    __atomic_store_n(&m->faults.percent, percent, __ATOMIC_RELAXED);
}

static int is_fault(const model *m) {
    return m->fault_percent > 0 && strstr(pod_error_message(), FAULT_MESSAGE) != NULL;
}

/** Whether a step, or a fork's copy, may still read what was closed. */
static int may_be_read(const model *m) {
    return m->finished_step < m->next_step || m->finished_step < m->fork_step;
}

static int open_one(model *m) {
    int64_t handle;
    pod_status status = pod_virtual_cache_open(m->cache, &handle);
    if (m->num_open == m->config.max_requests) {
        PROPERTY(status == POD_E_LIMIT, "%s", pod_error_message());
        return 0;
    }
    if (status == POD_E_STATE) { /* what is closed shares pages that a step reads, or that the driver does not unmap */
        PROPERTY(may_be_read(m) || m->fault_percent > 0, "%s", pod_error_message());
        return 0;
    }
    PROPERTY(status == POD_OK, "%s", pod_error_message());
    model_request *request = m->requests[m->num_open++];
    request->handle = handle;
    request->kv_len = 0;
    return 0;
}

static int fork_one(model *m) {
    if (m->num_open == 0) return open_one(m);
    model_request *parent = m->requests[rng_range(m->rng, 0, m->num_open - 1)];
    int32_t num_tokens = rng_chance(m->rng, 30) ? parent->kv_len : rng_range(m->rng, 0, parent->kv_len);
    int64_t handle = -1;
    m->fork_step = m->next_step + 1;
    pod_status status = pod_virtual_cache_fork(m->cache, parent->handle, num_tokens, NULL, &handle);
    if (status == POD_OK) {
        PROPERTY(m->num_open < m->config.max_requests, "one more than there may be");
        model_request *request = m->requests[m->num_open++];
        request->handle = handle;
        request->kv_len = num_tokens;
        memcpy(request->written, parent->written, (size_t)num_tokens * sizeof(uint32_t));
        return check_contents(m, request);
    }
    PROPERTY(handle == -1, "a request that was not opened");
    PROPERTY(status == POD_E_LIMIT || status == POD_E_STATE || status == POD_E_NO_MEMORY || m->fault_percent > 0, "%s",
             pod_error_message());
    PROPERTY(status != POD_E_LIMIT || m->num_open == m->config.max_requests, "%s", pod_error_message());
    return 0;
}

static int close_one(model *m) {
    if (m->num_open == 0) return 0;
    int32_t which = rng_range(m->rng, 0, m->num_open - 1);
    model_request *request = m->requests[which];
    PROPERTY(pod_virtual_cache_close(m->cache, request->handle) == POD_OK, "%s", pod_error_message());
    PROPERTY(pod_virtual_cache_close(m->cache, request->handle) == POD_E_ARGUMENT, "closed twice");
    m->requests[which] = m->requests[--m->num_open];
    m->requests[m->num_open] = request;
    return 0;
}

static int finish_steps(model *m) {
    if (m->num_under_way == 0) return 0;
    int32_t count = rng_range(m->rng, 1, m->num_under_way);
    for (int32_t i = 0; i < count; i++) read_step(m, &m->under_way[i]);
    m->finished_step = m->under_way[count - 1].number;
    m->num_under_way -= count;
    memmove(m->under_way, m->under_way + count, (size_t)m->num_under_way * sizeof *m->under_way);
    PROPERTY(pod_virtual_cache_finished(m->cache, m->finished_step) == POD_OK, "%s", pod_error_message());
    return 0;
}

/** Some of the open requests, longer or, now and then, shorter than before. */
static int32_t choose_lengths(model *m, int32_t *chosen, int64_t *handles, int32_t *kv_len) {
    int32_t count = 0;
    for (int32_t i = 0; i < m->num_open; i++) {
        const model_request *request = m->requests[i];
        if (rng_chance(m->rng, 30)) continue;
        int32_t length = request->kv_len + (rng_chance(m->rng, 60) ? 1 : rng_log_range(m->rng, 0, 1200));
        if (rng_chance(m->rng, 5)) length = rng_range(m->rng, 0, request->kv_len);
        if (length > m->config.max_kv_len) length = m->config.max_kv_len;
        chosen[count] = i;
        handles[count] = request->handle;
        kv_len[count++] = length;
    }
    return count;
}

/** Memory is missing only where it is: with all steps finished, and pages under way waited for. */
static int check_no_memory(model *m, const int32_t *chosen, const int32_t *kv_len, int32_t count) {
    int64_t needed = 0, least = m->config.max_bytes / m->info.row_bytes;
    pod_virtual_stats stats = pod_virtual_stats_init();
    if (m->fault_percent > 0 || may_be_read(m)) return 0;
    PROPERTY(pod_virtual_cache_get_stats(m->cache, &stats) == POD_OK, "%s", pod_error_message());
    for (int32_t i = 0; i < m->num_open; i++) {
        int32_t length = m->requests[i]->kv_len;
        for (int32_t c = 0; c < count; c++) {
            if (chosen[c] == i && kv_len[c] > length) length = kv_len[c];
        }
        needed += rows_of(m, length);
    }
    needed -= stats.shared_bytes / m->info.row_bytes;
    PROPERTY(m->config.max_bytes > 0 && needed > least, "%lld rows are needed, %lld allowed: %s", (long long)needed,
             (long long)least, pod_error_message());
    return 0;
}

static int ensure_step(model *m) {
    int32_t chosen[MAX_REQUESTS], kv_len[MAX_REQUESTS];
    int64_t handles[MAX_REQUESTS];
    if (m->num_under_way == MAX_STEPS_UNDER_WAY && finish_steps(m) != 0) return 1;
    int32_t count = choose_lengths(m, chosen, handles, kv_len);
    int64_t step = m->next_step + rng_range(m->rng, 1, 2);
    pod_status status = pod_virtual_cache_ensure(m->cache, step, count, handles, kv_len);
    if (status == POD_E_NO_MEMORY && !is_fault(m)) return check_no_memory(m, chosen, kv_len, count);
    if (status == POD_E_ARGUMENT) { /* the model does not know what is shared */
        PROPERTY(strstr(pod_error_message(), "that the request shares") != NULL, "%s", pod_error_message());
        return 0;
    }
    if (status != POD_OK && is_fault(m)) { /* without the fault it goes on as if nothing had been */
        set_faults(m, 0);
        status = pod_virtual_cache_ensure(m->cache, step, count, handles, kv_len);
        set_faults(m, m->fault_percent);
        if (status == POD_E_NO_MEMORY) return 0;
    }
    PROPERTY(status == POD_OK, "%s", pod_error_message());
    m->next_step = step;
    model_step *now = &m->under_way[m->num_under_way++];
    now->number = step;
    now->num_requests = count;
    for (int32_t i = 0; i < count; i++) {
        model_request *request = m->requests[chosen[i]];
        int32_t begin = request->kv_len < kv_len[i] ? request->kv_len : kv_len[i];
        now->handles[i] = request->handle;
        now->kv_len[i] = request->kv_len = kv_len[i];
        write_tokens(m, request, begin, kv_len[i]);
    }
    return 0;
}

static int expect_lengths(model *m) {
    int32_t chosen[MAX_REQUESTS], kv_len[MAX_REQUESTS];
    int64_t handles[MAX_REQUESTS];
    int32_t count = choose_lengths(m, chosen, handles, kv_len);
    PROPERTY(pod_virtual_cache_expect(m->cache, count, handles, kv_len) == POD_OK, "%s", pod_error_message());
    return 0;
}

static int trim_some(model *m) {
    int64_t bytes = rng_range(m->rng, 0, 5) * m->info.row_bytes, freed = -1;
    pod_status status = pod_virtual_cache_trim(m->cache, bytes, &freed);
    PROPERTY(status == POD_OK || is_fault(m), "%s", pod_error_message());
    PROPERTY(freed >= 0 && freed <= bytes, "%lld of %lld", (long long)freed, (long long)bytes);
    return 0;
}

static int act(model *m) {
    int32_t what = rng_range(m->rng, 0, 99);
    if (what < 12) return open_one(m);
    if (what < 20) return fork_one(m);
    if (what < 30) return close_one(m);
    if (what < 65) return ensure_step(m);
    if (what < 80) return expect_lengths(m);
    if (what < 92) return finish_steps(m);
    if (what < 96) return trim_some(m);
    return check_all_contents(m);
}

/* ---- a case ---- */

static int make(model *m) {
    pod_memory_provider provider;
    m->config = pod_virtual_config_init();
    m->config.num_layers = rng_range(m->rng, 1, MAX_LAYERS);
    m->config.kv_heads = rng_range(m->rng, 1, 3);
    m->config.head_dim = 8 * rng_range(m->rng, 1, 16);
    m->config.kv_dtype = rng_chance(m->rng, 50) ? POD_BF16 : POD_F32;
    m->config.max_requests = rng_range(m->rng, 1, MAX_REQUESTS);
    m->config.max_kv_len = 1 + rng_log_range(m->rng, 0, MAX_TOKENS - 1);
    m->config.layout = rng_chance(m->rng, 50) ? POD_VIRTUAL_MEGA : POD_VIRTUAL_PER_LAYER;
    m->config.has_no_thread = rng_chance(m->rng, 30);
    m->config.page_bytes = HOST_PAGE * rng_range(m->rng, 1, 3);
    m->fault_percent = rng_chance(m->rng, 50) ? 0 : rng_range(m->rng, 1, 20);
    m->faults.seed = rng_next(m->rng);
    if (rng_chance(m->rng, 3)) m->faults.sleep_us = 50;
    int64_t tensors = m->config.layout == POD_VIRTUAL_MEGA ? 1 : 2 * m->config.num_layers;
    if (rng_chance(m->rng, 60))
        m->config.max_bytes = tensors * m->config.page_bytes * rng_range(m->rng, 1, 40) + rng_range(m->rng, 0, 100);
    PROPERTY(fault_provider_open(&m->faults, &provider) == POD_OK, "%s", pod_error_message());
    PROPERTY(pod__virtual_create(&provider, &m->config, &m->cache) == POD_OK, "%s", pod_error_message());
    m->info = pod_virtual_info_init();
    PROPERTY(pod_virtual_cache_get_info(m->cache, &m->info) == POD_OK, "%s", pod_error_message());
    for (int32_t layer = 0; layer < m->config.num_layers; layer++) {
        m->layers[layer] = pod_cache_init();
        PROPERTY(pod_virtual_cache_get_layer(m->cache, layer, &m->layers[layer]) == POD_OK, "%s", pod_error_message());
    }
    m->next_step = m->finished_step = m->fork_step = -1;
    set_faults(m, m->fault_percent);
    return 0;
}

static int run_model(model *m) {
    if (make(m) != 0) return 1;
    int32_t num_acts = rng_range(m->rng, 20, 300);
    for (int32_t i = 0; i < num_acts; i++) {
        if (act(m) != 0 || (i % 8 == 0 && check_accounts(m) != 0)) return 1;
    }
    set_faults(m, 0);
    return check_all_contents(m) != 0 || check_accounts(m) != 0 || check_balance(m) != 0;
}

static int check_end(const model *m) {
    PROPERTY(m->faults.num_pages == 0 && m->faults.num_mapped == 0 && m->faults.num_reserved == 0,
             "lost %lld pages, %lld mappings, %lld bytes of addresses", (long long)m->faults.num_pages,
             (long long)m->faults.num_mapped, (long long)m->faults.num_reserved);
    PROPERTY(m->faults.num_closed == 1, "the provider was closed %lld times", (long long)m->faults.num_closed);
    return 0;
}

static uint64_t current_seed;

static void on_fault(int number) {
    static char text[] = "prop_virtual: a page was not there; again with PODATTN_COUNT=1 PODATTN_SEED=";
    char digits[24];
    size_t at = sizeof digits;
    (void)number;
    digits[--at] = '\n';
    for (uint64_t rest = current_seed; at > 0; rest /= 10) {
        digits[--at] = (char)('0' + rest % 10);
        if (rest < 10) break;
    }
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0 || write(STDERR_FILENO, digits + at, sizeof digits - at) < 0)
        _exit(2);
    _exit(1);
}

static int run_case(test_rng *rng, void *context) {
    (void)context;
    static model m;
    static model_request requests[MAX_REQUESTS];
    memset(&m, 0, sizeof m);
    m.rng = rng;
    for (int i = 0; i < MAX_REQUESTS; i++) m.requests[i] = &requests[i];
    int fails = run_model(&m);
    set_faults(&m, 0);
    pod_virtual_cache_destroy(m.cache);
    current_seed++;
    return fails != 0 ? fails : check_end(&m);
}

int main(void) {
    current_seed = property_environment("PODATTN_SEED", 1);
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    return property_run("prop_virtual", 1000, run_case, NULL);
}
