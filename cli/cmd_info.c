/* SPDX-License-Identifier: Apache-2.0 */
/* podattn info: what this build and this machine can do. */
#include "commands.h"
#include "input/models.h"
#include "input/options.h"
#include "output/format.h"
#include "output/json_writer.h"
#include "output/table.h"
#include "podattn.h"
#include "run/host_memory.h"

/** Devices to look for; of the simulated ones only those with fixed sizes. */
static const char *const device_names[] = {"cpu", "cuda:0", "sim:h100", "sim:a100", "sim:cpu"};
enum { NUM_DEVICES = sizeof device_names / sizeof device_names[0] };

typedef struct found_device {
    const char *name;
    pod_device *device; /**< NULL: it could not be opened */
    char reason[256];   /**< why not */
    pod_device_info info;
} found_device;

static found_device find_device(const char *name) {
    found_device found = {.name = name, .info = pod_device_info_init()};
    if (pod_device_open(name, &found.device) != POD_OK || pod_device_get_info(found.device, &found.info) != POD_OK) {
        snprintf(found.reason, sizeof found.reason, "%s", pod_error_message());
        pod_device_close(found.device);
        found.device = NULL;
    }
    return found;
}

/* ---- text ---- */

static int print_kernel(void *context, const pod_kernel_info *kernel) {
    (void)context;
    printf("%12s%-*s%s\n", "", kernel->options[0] != '\0' ? 38 : 0, kernel->name, kernel->options);
    return 0;
}

static void print_device(const found_device *found) {
    printf("  %-10s", found->name);
    if (found->device == NULL) {
        printf("not available: %s\n", found->reason);
        return;
    }
    if (strcmp(found->info.backend, "sim") == 0) {
        printf("plans only, %d CTAs\n", found->info.num_ctas);
    } else {
        const char *families = found->info.families;
        printf("%s, kernels %s, %d CTAs, ", found->info.name, *families != '\0' ? families : found->info.kernel,
               found->info.num_ctas);
        if (found->info.num_threads > 0) {
            printf("%d threads\n", found->info.num_threads);
        } else {
            printf("%s\n", format_bytes((double)found->info.memory_bytes).text);
        }
    }
    pod_device_visit_kernels(found->device, print_kernel, NULL);
}

static void print_models(void) {
    table models = table_begin(5);
    static const char *const headings[] = {"model", "query heads", "KV heads", "head_dim", "layers"};
    for (int column = 0; column < 5; column++) table_cell(&models, "%s", headings[column]);
    for (size_t i = 0; model_at(i) != NULL; i++) {
        const model_shape *model = model_at(i);
        table_cell(&models, "%s", model->name);
        table_cell(&models, "%d", model->q_heads);
        table_cell(&models, "%d", model->kv_heads);
        table_cell(&models, "%d", model->head_dim);
        table_cell(&models, "%d", model->num_layers);
    }
    table_print(&models, stdout);
}

static void print_text(const found_device *devices) {
    printf("podattn %s\n\ndevices\n", pod_version());
    for (int i = 0; i < NUM_DEVICES; i++) print_device(&devices[i]);
    printf("\nlimits\n"
           "  query heads 1 to 1024, a multiple of the KV heads; head_dim a multiple of 8 from 8 to 576, of a\n"
           "  GPU to 256; v_head_dim the same\n"
           "  dtypes bf16, f16, f32, of a KV cache also f8e4m3; any page size\n"
           "  host memory available: %s\n\nmodels\n",
           format_bytes(host_memory_available()).text);
    print_models();
}

/* ---- JSON ---- */

static int write_kernel(void *context, const pod_kernel_info *kernel) {
    json_writer *json = context;
    json_begin_row(json, NULL);
    json_text(json, "name", kernel->name);
    json_text(json, "family", kernel->family);
    json_text(json, "options", kernel->options);
    if (kernel->head_dim > 0) {
        json_text(json, "dtype", pod_dtype_name(kernel->dtype));
        json_text(json, "kv_dtype", pod_dtype_name(kernel->kv_dtype));
        json_int(json, "head_dim", kernel->head_dim);
        if (kernel->v_head_dim > 0) json_int(json, "v_head_dim", kernel->v_head_dim);
    } else {
        json_null(json, "dtype");
        json_null(json, "kv_dtype");
        json_null(json, "head_dim");
    }
    json_int(json, "ctas_per_sm", kernel->ctas_per_sm);
    json_end_object(json);
    return 0;
}

static void write_device(const found_device *found, json_writer *json) {
    json_begin_row(json, NULL);
    json_text(json, "device", found->name);
    json_bool(json, "available", found->device != NULL);
    if (found->device != NULL) {
        json_text(json, "backend", found->info.backend);
        json_text(json, "name", found->info.name);
        json_text(json, "kernel", found->info.kernel);
        json_text(json, "families", found->info.families);
        json_int(json, "num_ctas", found->info.num_ctas);
        json_int(json, "num_threads", found->info.num_threads);
        json_int(json, "memory_bytes", found->info.memory_bytes);
        json_begin_array(json, "kernels");
        pod_device_visit_kernels(found->device, write_kernel, json);
        json_end_array(json);
    } else {
        json_text(json, "reason", found->reason);
    }
    json_end_object(json);
}

static void write_models(json_writer *json) {
    json_begin_array(json, "models");
    for (size_t i = 0; model_at(i) != NULL; i++) {
        const model_shape *model = model_at(i);
        json_begin_row(json, NULL);
        json_text(json, "name", model->name);
        json_int(json, "q_heads", model->q_heads);
        json_int(json, "kv_heads", model->kv_heads);
        json_int(json, "head_dim", model->head_dim);
        json_int(json, "num_layers", model->num_layers);
        json_end_object(json);
    }
    json_end_array(json);
}

static void print_json(const found_device *devices) {
    json_writer json = json_begin(stdout);
    json_text(&json, "command", "info");
    json_text(&json, "version", pod_version());
    json_begin_array(&json, "devices");
    for (int i = 0; i < NUM_DEVICES; i++) write_device(&devices[i], &json);
    json_end_array(&json);
    json_number(&json, "host_memory_bytes", host_memory_available());
    write_models(&json);
    json_end(&json);
}

cli_exit cmd_info(int argc, char **argv, cli_error *error) {
    int32_t is_json = 0;
    const cli_option rows[] = {{"--json", NULL, "print JSON", option_set_switch, 0, 1, 0}};
    const option_group group = {"info", rows, OPTION_COUNT(rows), &is_json};
    command_line line = {
        .usage = "podattn info [--json]",
        .summary =
            "Lists the devices of this machine with their kernels, the limits of this build, and the models known "
            "by name.",
        .example = "podattn info --json",
        .groups = &group,
        .num_groups = 1,
    };
    CLI_TRY(options_parse(&line, argc, argv, error));
    if (line.wants_help) return CLI_OK;
    found_device devices[NUM_DEVICES];
    for (int i = 0; i < NUM_DEVICES; i++) devices[i] = find_device(device_names[i]);
    if (is_json) {
        print_json(devices);
    } else {
        print_text(devices);
    }
    for (int i = 0; i < NUM_DEVICES; i++) pod_device_close(devices[i].device);
    return CLI_OK;
}
