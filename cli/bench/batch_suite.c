/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/batch_suite.h"

#include "bench/batch_row.h"
#include "input/batch_arrays.h"

#include <stdlib.h>

enum { LAUNCH_ROUNDS = 4 };
/* Caches below this take turns with copies of themselves: several times the L2 cache of any GPU. */
static const double rotated_bytes = 200e6;

/** The devices of a suite's variants, opened once. */
typedef struct rig {
    bench *bench;
    const batch_suite *suite;
    batch_variant variants[LINEUP_MAX_VARIANTS]; /**< those that the device can do */
    int32_t num_variants;
    int32_t device_of[LINEUP_MAX_VARIANTS];
    const char *options[BATCH_MAX_DEVICES]; /**< [0] is NULL: the device as it was given */
    pod_device *devices[BATCH_MAX_DEVICES];
    int32_t num_devices;
} rig;

/** One case's problem. */
typedef struct problem {
    pod_limits limits;
    batch_arrays arrays;
    engine engines[BATCH_MAX_DEVICES];
    pod_device *device; /**< that has the case's kernel, instead of rig.devices[0]; or NULL */
    batch_row row;
} problem;

/* ---- devices ---- */

static int32_t find_device(const rig *rig, const char *option) {
    for (int32_t d = 0; d < rig->num_devices; d++) {
        const char *known = rig->options[d];
        if (known == option || (known != NULL && option != NULL && strcmp(known, option) == 0)) return d;
    }
    return -1;
}

/** The device as it was given, with further options. */
static pod_status open_with(const bench *bench, const char *options, pod_device **device) {
    char name[192];
    const char *separator = strchr(bench->device_name, ':') != NULL ? "," : ":";
    snprintf(name, sizeof name, "%s%s%s", bench->device_name, separator, options);
    return pod_device_open(name, device);
}

/** The device with an option, or -1 where this build or GPU does not have it: then the file says why. */
static int32_t open_device(rig *rig, const batch_variant *variant) {
    int32_t found = find_device(rig, variant->option), d = rig->num_devices;
    if (found >= 0) return found;
    char comment[400];
    if (d < BATCH_MAX_DEVICES && open_with(rig->bench, variant->option, &rig->devices[d]) == POD_OK) {
        rig->options[d] = variant->option;
        return rig->num_devices++;
    }
    snprintf(comment, sizeof comment, "without the variant %s: %s", variant->name, pod_error_message());
    if (rig->bench->file.is_open) bench_file_comment(&rig->bench->file, comment);
    return -1;
}

static void open_variants(rig *rig) {
    const batch_suite *suite = rig->suite;
    rig->devices[0] = rig->bench->device.device;
    rig->num_devices = 1;
    for (int32_t v = 0; v < suite->num_variants; v++) {
        const batch_variant *variant = &suite->variants[v];
        if (!rig->bench->is_gpu && (variant->option != NULL || variant->way == WAY_STREAMS)) continue;
        int32_t device = variant->option == NULL ? 0 : open_device(rig, variant);
        if (device < 0) continue;
        rig->device_of[rig->num_variants] = device;
        rig->variants[rig->num_variants++] = *variant;
    }
}

static void close_variants(rig *rig) {
    for (int32_t d = 1; d < rig->num_devices; d++) pod_device_close(rig->devices[d]);
}

/* ---- memory ---- */

static double token_bytes(const batch_spec *spec) {
    double element_bytes = (double)pod_dtype_size(batch_spec_kv_dtype(spec));
    return element_bytes * spec->kv_heads * spec->head_dim; /* of keys, or of values */
}

/** Of keys, or of values, beyond the cache itself: what its copies may take. */
static double spare_bytes(const bench *bench) {
    return bench->is_gpu ? rotated_bytes : 0;
}

static arena_need case_need(const bench *bench, const bench_case *c) {
    pod_limits limits = batch_spec_limits(&c->spec);
    double tokens = (double)batch_spec_pages(&c->spec) * limits.page_size;
    return (arena_need){token_bytes(&c->spec) * tokens + spare_bytes(bench),
                        2.0 * limits.max_q_tokens * limits.q_heads * limits.head_dim};
}

/** Keys from one copy to the next: all that are read, so that nothing is read twice; with a window, where what is read
 * is apart, the most that a request reads. */
static int64_t copy_stride_tokens(const pod_batch *batch) {
    int64_t all = 0, most = 0;
    for (int32_t r = 0; r < batch->num_requests; r++) {
        int64_t keys = batch->kv_len[r],
                seen = (int64_t)batch->masks->window_tokens + batch->q_start[r + 1] - batch->q_start[r];
        if (batch->masks->window_tokens > 0 && seen < keys) keys = seen;
        all += keys;
        if (keys > most) most = keys;
    }
    return ((batch->masks->window_tokens > 0 ? most : all) + 63) / 64 * 64;
}

static void rotate(const bench *bench, const batch_spec *spec, const pod_batch *batch, double kv_bytes,
                   lineup_variant *variant) {
    if (!bench->is_gpu || kv_bytes == 0 || kv_bytes >= rotated_bytes) return;
    variant->copy_stride_tokens = copy_stride_tokens(batch);
    double wanted = rotated_bytes / kv_bytes;
    double room = spare_bytes(bench) / (token_bytes(spec) * (double)variant->copy_stride_tokens);
    variant->num_copies = (int32_t)(wanted < room ? wanted : room) + 1;
}

/** Room for the largest case that fits; the others are found again one by one. */
static cli_exit reserve_arena(bench *bench, const bench_cases *cases, cli_error *error) {
    arena_need need = {0, 0};
    for (int32_t i = 0; i < cases->count; i++) {
        cli_error ignored;
        arena_need larger = arena_larger(need, case_need(bench, &cases->cases[i]));
        if (arena_check(&bench->arena, larger, &ignored) == CLI_OK) need = larger;
    }
    return arena_reserve(&bench->arena, need, error);
}

/* ---- one case ---- */

static cli_exit open_kernel(const rig *rig, problem *p, cli_error *error) {
    const pod_kernel_info *kernel = &p->row.c->kernel;
    if (kernel->options[0] == '\0' || strcmp(kernel->name, rig->bench->device.info.kernel) == 0) return CLI_OK;
    return open_with(rig->bench, kernel->options, &p->device) == POD_OK ? CLI_OK : cli_fail_library(error);
}

/** Whether it is the kernel that the case is for; options of the device's name may be in the way. */
static cli_exit check_kernel(const problem *p, cli_error *error) {
    const char *wanted = p->row.c->kernel.name, *chosen = p->engines[0].info.kernel;
    if (*wanted == '\0' || strcmp(wanted, chosen) == 0) return CLI_OK;
    return cli_fail(error, "with %s the device chooses %s", p->row.c->kernel.options, chosen);
}

static cli_exit make_problem(rig *rig, problem *p, cli_error *error) {
    const bench_case *c = p->row.c;
    device_memory *memory = rig->bench->device.memory;
    CLI_TRY(arena_check(&rig->bench->arena, case_need(rig->bench, c), error));
    CLI_TRY(arena_reserve(&rig->bench->arena, case_need(rig->bench, c), error));
    p->limits = batch_spec_limits(&c->spec);
    CLI_TRY(batch_arrays_make(&c->spec, &p->limits, PAGES_SCATTERED, &p->arrays, error));
    CLI_TRY(open_kernel(rig, p, error));
    for (int32_t d = 0; d < rig->num_devices; d++) {
        pod_device *device = d == 0 && p->device != NULL ? p->device : rig->devices[d];
        CLI_TRY(engine_make(device, memory, &p->limits, &p->engines[d], error));
        CLI_TRY(engine_plan(&p->engines[d], &p->arrays.batch, error));
    }
    return check_kernel(p, error);
}

static void line_up(rig *rig, problem *p) {
    static const engine_call calls[NUM_WAYS] = {[WAY_PREFILL] = CALL_PREFILL, [WAY_DECODE] = CALL_DECODE};
    batch_row *row = &p->row;
    row->variants = rig->variants;
    row->lineup.memory = rig->bench->device.memory;
    row->lineup.warmup = rig->bench->warmup;
    row->lineup.repeat = rig->bench->repeat;
    row->lineup.num_variants = rig->num_variants;
    for (int32_t v = 0; v < rig->num_variants; v++) {
        engine_way way = rig->variants[v].way;
        engine *engine = &p->engines[rig->device_of[v]];
        lineup_variant *variant = &row->lineup.variants[v];
        *variant =
            (lineup_variant){.engine = engine, .way = way, .layer = arena_layer(&rig->bench->arena, &p->row.c->spec)};
        const pod_batch *batch = &engine->batches[calls[way]];
        row->work[v] = workload_of(&row->c->spec, &p->limits, batch);
        rotate(rig->bench, &row->c->spec, batch, row->work[v].kv_bytes, variant);
    }
}

static void free_problem(const rig *rig, problem *p) {
    for (int32_t d = 0; d < rig->num_devices; d++) engine_free(&p->engines[d]);
    pod_device_close(p->device);
    batch_arrays_free(&p->arrays);
    free(p->row.lineup.took_us);
}

static cli_exit write_case(rig *rig, const batch_row *row, cli_error *error) {
    bench_file *to = &rig->bench->file;
    FILE *file = bench_file_begin_case(to, error);
    if (file == NULL) return CLI_BAD_INPUT;
    return bench_file_end_case(to, batch_row_write(rig->bench, rig->suite, row, file, error), error);
}

/** `*measured` tells a case that failed from a file that cannot be written. */
static cli_exit measure_case(rig *rig, const bench_case *c, int *measured, cli_error *error) {
    problem p = {.row = {.c = c}};
    *measured = 0;
    cli_exit code = make_problem(rig, &p, error);
    if (code == CLI_OK) {
        line_up(rig, &p);
        code = lineup_time(&p.row.lineup, error);
    }
    *measured = code == CLI_OK;
    if (code == CLI_OK) code = write_case(rig, &p.row, error);
    free_problem(rig, &p);
    return code;
}

static cli_exit measure_cases(rig *rig, const bench_cases *cases, cli_error *error) {
    bench *bench = rig->bench;
    for (int32_t i = 0; i < cases->count; i++) {
        int measured;
        const bench_case *c = &cases->cases[i];
        progress_update("%s: %d of %d: %s", bench->suite, i + 1, cases->count, c->name);
        if (bench_file_has(&bench->file, c->name) || bench_is_late(bench, c->name)) continue;
        cli_exit code = measure_case(rig, c, &measured, error);
        if (code != CLI_OK && measured) return code;
        if (code != CLI_OK) bench_leave_out(bench, c->name, error->line);
    }
    return CLI_OK;
}

/* ---- for a profiler ---- */

static int find_variant(const rig *rig, const char *name, size_t length) {
    for (int32_t v = 0; v < rig->num_variants; v++) {
        if (strlen(rig->variants[v].name) == length && memcmp(rig->variants[v].name, name, length) == 0) return v;
    }
    return -1;
}

/** The variants that follow slashes, or none if one of them is unknown. */
static int32_t find_variants(const rig *rig, const char *names, int32_t found[LINEUP_MAX_VARIANTS]) {
    int32_t count = 0;
    while (*names == '/' && count < LINEUP_MAX_VARIANTS) {
        size_t length = strcspn(names + 1, "/");
        found[count] = find_variant(rig, names + 1, length);
        if (found[count++] < 0) return 0;
        names += 1 + length;
    }
    return *names == '\0' ? count : 0;
}

static cli_exit launch_variants(rig *rig, const bench_case *c, const int32_t *chosen, int32_t count, cli_error *error) {
    problem p = {.row = {.c = c}};
    cli_exit code = make_problem(rig, &p, error);
    if (code == CLI_OK) line_up(rig, &p);
    for (int32_t i = 0; i < LAUNCH_ROUNDS * count && code == CLI_OK; i++) {
        const lineup_variant *variant = &p.row.lineup.variants[chosen[i % count]];
        code = engine_run(variant->engine, variant->way, &variant->layer, error);
    }
    free_problem(rig, &p);
    return code;
}

/** CASE/VARIANT, or several variants that take turns; no name has a slash. */
static cli_exit launch(rig *rig, const bench_cases *cases, cli_error *error) {
    const char *wanted = rig->bench->options->launch;
    size_t length = strcspn(wanted, "/");
    for (int32_t i = 0; i < cases->count; i++) {
        const bench_case *c = &cases->cases[i];
        int32_t chosen[LINEUP_MAX_VARIANTS];
        if (strlen(c->name) != length || memcmp(c->name, wanted, length) != 0) continue;
        int32_t count = find_variants(rig, wanted + length, chosen);
        if (count > 0) return launch_variants(rig, c, chosen, count, error);
    }
    return cli_fail(error, "--launch %.128s: %s has no such case and variant", wanted, rig->bench->suite);
}

/* ---- the suite ---- */

static cli_exit run_cases(bench *bench, const batch_suite *suite, const bench_cases *cases, cli_error *error) {
    rig rig = {.bench = bench, .suite = suite};
    cli_exit code = CLI_OK;
    open_variants(&rig);
    if (bench->options->launch != NULL) {
        code = launch(&rig, cases, error);
    } else {
        code = reserve_arena(bench, cases, error);
        if (code == CLI_OK && suite->begin != NULL) code = suite->begin(bench, error);
        if (code == CLI_OK) code = measure_cases(&rig, cases, error);
    }
    close_variants(&rig);
    return code;
}

cli_exit batch_suite_run(bench *bench, const batch_suite *suite, cli_error *error) {
    bench_cases cases = {.is_small = !bench->is_gpu};
    cli_exit code = suite->list_cases(bench, &cases, error);
    if (code == CLI_OK) code = run_cases(bench, suite, &cases, error);
    bench_cases_free(&cases);
    return code;
}
